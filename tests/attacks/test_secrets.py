"""What is secret is in no log line, no audit event and no byte of the database, and nothing forges a log line."""

from __future__ import annotations

import base64
import json
import re
import secrets
import socket
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as policy
from pathlib import Path
from typing import Any

import pytest

from storage.audit import AuditEvent
from storage.database import database, is_sqlite
from storage.outbox import OutboxMail
from tests.attacks.victim import STEP, Victim, World, totp
from tests.attacks.wire import Answer, Request
from tests.authenticator import Deviations
from tests.running import TOP, RunningServer

SIX_DIGITS = re.compile(r"[0-9]{6}")
# Within a longer word six digits are chance: part of an id, a digest, a time. By themselves they are a code.
ALONE_SIX_DIGITS = re.compile(rb"(?<![0-9A-Za-z.+/_-])[0-9]{6}(?![0-9A-Za-z+/=_-])")


class Secrets:
    """What was said in confidence, in every spelling that it might be written down in."""

    def __init__(self) -> None:
        self.everywhere: dict[bytes, str] = {}
        self.in_logs: dict[bytes, str] = {}
        self.codes: set[str] = set()

    def add(self, name: str, *values: str | bytes, database: bool = True) -> None:
        """`database=False`: the database may hold it in clear, a log may not."""
        for value in values:
            assert len(value) >= 10, name
            raw = value if isinstance(value, bytes) else value.encode()
            spellings = {raw, raw.hex().encode(), raw.hex().upper().encode()}
            for encode in (base64.b64encode, base64.urlsafe_b64encode, base64.b32encode):
                spellings.add(encode(raw).rstrip(b"="))
            known = self.everywhere if database else self.in_logs
            known.update(dict.fromkeys(spellings, name))

    def add_token(self, name: str, token: str) -> None:
        _, claims, signature = token.split(".")
        self.add(name, token, claims, signature)

    def add_backup_codes(self, codes: Iterable[str]) -> None:
        for code in codes:
            self.add("backup code", code, code.lower(), code.replace("-", ""), code.replace("-", "").lower())

    def add_totp(self, secret: bytes) -> None:
        self.add("TOTP secret", secret)
        now = datetime.now(UTC)
        self.codes |= {totp(secret, now + steps * STEP) for steps in range(-4, 5)}

    def are_not_in_the_database(self) -> None:
        """In no value of any row, as the database is now."""
        assert self.found_in(b"\n".join(all_values()), log=False) == set()

    def found_in(self, data: bytes, *, log: bool) -> set[str]:
        """The names of the secrets that `data` holds."""
        known = self.everywhere | self.in_logs if log else self.everywhere
        found = {name for value, name in known.items() if value in data}
        return found | {"code" for code in re.findall(ALONE_SIX_DIGITS, data) if code.decode() in self.codes}


@pytest.mark.usefixtures("new_database")
@pytest.mark.parametrize("kind", ["attacked", "strict"])
def test_not_04_otp_07_no_secret_is_written_down(request: pytest.FixtureRequest, kind: str) -> None:
    server: RunningServer = request.getfixturevalue(kind)
    with World.of(server) as world:
        said, log_begins = Secrets(), server.log.stat().st_size
        drive_everything(world, said)
        time.sleep(0.2)  # What is said last is written last.
        log = server.log.read_bytes()[log_begins:]
        # As text: the microseconds in the repr of a time stand by themselves.
        audit = json.dumps([event.__data__ for event in AuditEvent.select()], default=str)

        assert operations_in(log) >= operations_of_the_contract()
        assert said.found_in(log, log=True) == set()
        assert said.found_in(audit.encode(), log=True) == set()
        said.are_not_in_the_database()
        if is_sqlite():
            files = files_of_sqlite(world)
            assert {path.suffix for path in files} == {".db", ".db-wal", ".db-shm"}
            assert {path.suffix: said.found_in(path.read_bytes(), log=False) for path in files} == {
                path.suffix: set() for path in files
            }


def test_the_search_finds_what_is_there() -> None:
    said = Secrets()
    said.add("secret", b"\0\1\2\3secret\xff\xfe")
    said.codes.add("135790")
    for spelling in ("00010203736563726574fffe", "AAECA3NlY3JldP/+", "AAECA3NlY3JldP_-", "AAAQEA3TMVRXEZLU777A"):
        assert said.found_in(f"value={spelling} more".encode(), log=True) == {"secret"}
    for text in ('code=135790 "a"', '{"code":"135790"}', "Your code is 135790", "135790"):
        assert said.found_in(text.encode(), log=True) >= {"code"}
    for text in ("2026-01-01T00:00:00.135790Z", "a135790b", "1357901", "9135790"):
        assert said.found_in(text.encode(), log=True) == set()


def drive_everything(world: World, said: Secrets) -> None:
    """Every operation, with what it accepts, what it refuses, what it cannot read, and a database that breaks."""
    victim = world.victim(auth_time=int(time.time()))
    said.add("mail address", str(victim.caller.email), database=False)
    said.add_token("access token", victim.token)
    tries_to_come_in(world, victim, said)

    enrolment = victim.sends("totp/enable").json()
    victim.secret = base64.b32decode(enrolment["secret"])
    said.add("TOTP secret in base32", enrolment["secret"])
    said.add_totp(victim.secret)
    shows_what_is_wrong(victim, "totp/confirm")
    confirmed = victim.sends("totp/confirm", {"code": victim.code()}).json()
    backup_codes = iter(confirmed["backup_codes"])
    said.add_backup_codes(confirmed["backup_codes"])
    ok(world.send(Request("GET", "/api/v1/me/mfa", victim.token))[0])

    def assertion() -> dict[str, str]:
        """The header that a change needs where step-up is asked for."""
        opened = ok(victim.sends("challenge", {"method": "backup_code"}))
        shown = {"challenge_id": opened["challenge_id"], "code": next(backup_codes)}
        token = ok(victim.sends("verify", shown))["assertion"]
        said.add_token("assertion", token)
        return {"MFA_Assertion": token}

    ok(victim.sends("email/enable", **assertion()))
    code = mailed_code(world, victim)
    said.codes.add(code)
    said.are_not_in_the_database()
    shows_what_is_wrong(victim, "email/confirm")
    ok(victim.sends("email/confirm", {"code": code}, **assertion()))

    refused: Deviations = {"rp_id": "example.org"}
    for deviations in (refused, Deviations()):
        opened = ok(victim.sends("webauthn/register/begin", **assertion()))
        said.add("WebAuthn challenge", opened["options"]["challenge"], database=False)
        victim.device_ids = [opened["device_id"]]
        answer = victim.authenticator.register(opened["options"], origin=world.settings.origins[0], **deviations)
        said.add("credential id", answer["id"], victim.authenticator.credentials[-1].id, database=False)
        body = {"device_id": opened["device_id"], "challenge_id": opened["challenge_id"], "credential": answer}
        shows_what_is_wrong(victim, "webauthn/register/complete", body)
        registered = victim.sends("webauthn/register/complete", body, **assertion())
        assert registered.status == (403 if deviations else 200)

    opened = ok(victim.sends("challenge", {}))
    shows_what_is_wrong(victim, "verify", {"challenge_id": opened["challenge_id"], "code": victim.code(1)})
    victim.clears()
    ok(victim.sends("verify", {"challenge_id": opened["challenge_id"], "code": victim.code(1)}))
    by_key = []
    for signature in (bytes.swapcase, bytes):
        opened = ok(victim.sends("challenge", {"method": "webauthn"}))
        said.add("WebAuthn challenge", opened["options"]["challenge"], database=False)
        signed = victim.key_answer(opened["options"], signature=signature)
        by_key.append(victim.sends("verify", {"challenge_id": opened["challenge_id"], "credential": signed}))
    token = ok(by_key[-1])["assertion"]
    said.add_token("assertion", token)
    assert world.introspect(token).json()["active"] is True
    by_mail = f"{secrets.randbelow(10**6):06d}"
    said.codes.add(by_mail)
    challenge_id = victim.challenge("email", by_mail)
    said.are_not_in_the_database()
    ok(world.send(victim.verifies(challenge_id, by_mail))[0])
    asks_as_a_backend(world, victim, next(backup_codes), said)

    shows_what_is_wrong(victim, "email/disable")
    shows_what_is_wrong(victim, "backup-codes/regenerate")
    new = ok(victim.sends("backup-codes/regenerate", {"code": token}))["backup_codes"]
    backup_codes = iter(new)
    said.add_backup_codes(new)
    ok(victim.sends("email/disable", {"code": assertion()["MFA_Assertion"]}))
    shows_what_is_wrong(victim, "totp/disable")
    ok(world.send(victim.deletes(victim.device_ids[0], **assertion()))[0])
    breaks(world, said)
    ok(victim.sends("totp/disable", {"code": next(backup_codes)}))
    assert world.send(Request("GET", "/api/v1/me/mfa", victim.token))[0].json()["mfa_enabled"] is False


def ok(answer: Answer) -> Any:
    assert answer.status == 200, answer
    return answer.json()


def tries_to_come_in(world: World, victim: Victim, said: Secrets) -> None:
    """With tokens that are none, and with secrets where none belong: in the path and in the query."""
    forged = victim.token[:-8] + "AAAAAAAA"
    marker = secrets.token_urlsafe(30)
    said.add("what was no token", marker)
    said.add_token("forged token", forged)
    credentials = [
        f"Bearer {forged}",
        f"Bearer {marker}",
        f"Basic {marker}",
        f"Bearer {marker}.{marker}.{marker}",
        marker,
    ]
    for given in credentials:
        headers = {"Authorization": given}
        assert world.send(Request("GET", "/api/v1/me/mfa", None, None, headers))[0].status == 401
    for path in (
        f"/api/v1/me/mfa/{marker}",
        f"/api/v1/me/mfa?access_token={victim.token}",
        f"/{victim.token}?{marker}",
    ):
        world.send(Request("GET", path, victim.token))
    world.send(victim.deletes(marker))
    world.send(victim.posts("totp/enable", MFA_Assertion=marker))
    world.send(victim.posts("totp/enable", MFA_Assertion=forged))


def shows_what_is_wrong(victim: Victim, operation: str, right: dict[str, Any] | None = None) -> None:
    """A wrong code, and bodies that cannot be read although all the secrets are in them. The budget is whole again."""
    code = {"code": victim.code()} if right is None else right
    text = json.dumps({**code, "token": victim.token, "secret": base64.b32encode(victim.secret).decode()})
    bodies: list[object] = [
        {"code": victim.wrong_code} if right is None else {**right, "challenge_id": "0" * 36},
        text.encode(),
        text.encode()[:-1],
        text.encode() + b"\xff",
        json.dumps(text).encode(),
        [code],
        {"code": int(victim.code())},
        {name: [value] for name, value in code.items()},
        {str(value): name for name, value in code.items()},
    ]
    for body in bodies:
        assert victim.sends(operation, body).status in {401, 403, 422}
    as_form = victim.posts(operation, text.encode(), Content_Type="application/x-www-form-urlencoded")
    assert victim.world.send(as_form)[0].status in {401, 415}
    victim.clears()


def asks_as_a_backend(world: World, victim: Victim, code: str, said: Secrets) -> None:
    service = world.service("mfa:verify")
    said.add_token("service token", service)
    path = f"/api/v1/users/{victim.caller.sub}/mfa"
    opened = ok(world.send(Request("POST", f"{path}/challenge", service, {}))[0])
    for shown in ("0000-0000-0000-0000", code):
        answer = world.send(
            Request("POST", f"{path}/verify", service, {"challenge_id": opened["challenge_id"], "code": shown})
        )[0]
    said.add_token("assertion", ok(answer)["assertion"])
    assert world.introspect(f"{secrets.token_urlsafe(30)}.a.b").json() == {"active": False}


def breaks(world: World, said: Secrets) -> None:
    """The database breaks while right codes are looked at, and errors get into the log."""
    victim = world.victim(auth_time=int(time.time())).has_totp().has_backup_codes("breaks").has_key()
    said.add_totp(victim.secret)
    said.add_backup_codes(victim.backup_codes)
    said.add_token("access token", victim.token)
    challenge_id, options = victim.key_challenge()
    with world.without_table("audit_event"):
        for answer in (victim.code(), victim.backup_codes[0], victim.key_answer(options)):
            assert world.send(victim.verifies(challenge_id, answer))[0].status in {404, 500, 503}
            victim.clears()
    other = world.victim(auth_time=int(time.time()))
    with world.without_table("outbox_mail"):
        assert other.sends("email/enable").status in {500, 503}


def mailed_code(world: World, victim: Victim) -> str:
    """From the mail, or where the mail server is down, from the mail that waits."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if world.settings.smtp_url is not None:
            for waiting in OutboxMail.select().where(OutboxMail.user_id == victim.caller.id):
                if waiting.template == "code":
                    return str(waiting.open().values["code"])
        for mail in mails(world.server.data / "outbox"):
            text = mail.get_body(("plain",))
            if str(victim.caller.email) in str(mail["To"]) and text and (code := SIX_DIGITS.search(text.get_content())):
                return code[0]
        time.sleep(0.05)
    raise AssertionError("no mail came")


def mails(folder: Path) -> Iterator[EmailMessage]:
    for file in folder.glob("[!.]*.eml"):
        yield message_from_bytes(file.read_bytes(), _class=EmailMessage, policy=policy)


def operations_of_the_contract() -> set[str]:
    """All of ours that have a user's or a backend's token."""
    return operations_in((TOP / "openapi.yaml").read_bytes()) - {"handlers.verification.jwks"}


def operations_in(log: bytes) -> set[str]:
    return {found.decode() for found in re.findall(rb"handlers\.[a-z_.]+", log)}


def all_values() -> Iterator[bytes]:
    """Every value of every row of every table, as bytes."""
    for table in database.get_tables():
        for row in database.execute_sql(f'SELECT * FROM "{table}"').fetchall():  # noqa: S608 - its own tables
            for value in row:
                yield bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()


def files_of_sqlite(world: World) -> list[Path]:
    """The database, its write-ahead log and its index, rows that were deleted and all. SQLite alone has these."""
    file = Path(world.settings.database_url.removeprefix("sqlite:///"))
    return list(file.parent.glob(f"{file.name}*"))


# What would end a line, begin another, colour it or turn it around.
FORGED_LINE = '2026-01-01T00:00:00.000000Z [info     ] forged {"event": "forged"}'
NASTY = ["\r\n", "\n", "\r", "\x1b[31m", "\x1b[2K\x1b[1A", "\x9b31m", "\x85", "\u2028", "\u202e", "\0", "\x08" * 9]


@pytest.mark.usefixtures("new_database")
@pytest.mark.parametrize("kind", ["attacked", "strict"])
def test_not_05_nothing_forges_or_colours_a_line_of_the_log(request: pytest.FixtureRequest, kind: str) -> None:
    server: RunningServer = request.getfixturevalue(kind)
    with World.of(server) as world:
        log_begins = server.log.stat().st_size
        sends_nasty_things(world)
        time.sleep(0.2)
        lines = server.log.read_bytes()[log_begins:].split(b"\n")
        assert lines.pop() == b""
        for line in lines:
            assert line.isascii()
            assert line.decode().isprintable(), line
            assert not line.startswith(FORGED_LINE[:40].encode())
            assert json.loads(line)["event"] != "forged"
        requests = [line for line in lines if b"request" in line]
        assert len(requests) > len(NASTY)
        for event in AuditEvent.select():
            said = event.operation + event.request_id + event.address + (event.reason or "")
            assert said.isascii()
            assert said.isprintable()


def sends_nasty_things(world: World) -> None:
    """In every place that a stranger, a user or the identity provider can write to."""
    for nasty in NASTY:
        text = f"a{nasty}{FORGED_LINE}"
        if "\0" not in nasty:
            user = world.victim(text[:200], name=text, preferred_username=text, sid=text, amr=[text], email=text)
            user.caller = world.victim(text[:200]).caller
            begun = user.sends("totp/enable")
            assert begun.status in {200, 401}
            world.send(user.posts("totp/confirm", {"code": "135790"}))
            world.send(user.posts("totp/confirm", {"code": text, text: text}))
            world.send(user.posts("totp/confirm", text.encode()))
        claims: dict[str, Any] = {world.settings.jwt_tenant_claim: text}
        kid = world.server.token("somebody", **claims)
        head = base64.urlsafe_b64encode(json.dumps({"alg": "ES256", "kid": text, "typ": text}).encode()).rstrip(b"=")
        for token in (kid, f"{head.decode()}.{kid.partition('.')[2]}"):
            world.send(Request("GET", "/api/v1/me/mfa", token))
        quoted = "".join(f"%{byte:02X}" for byte in text.encode())
        backend = world.service("mfa:verify")
        world.send(
            Request("POST", f"/api/v1/users/{quoted}/mfa/challenge", backend, {}),
            Request("GET", f"/{quoted}?{quoted}"),
            Request("DELETE", f"/api/v1/me/mfa/webauthn/{quoted}", backend),
        )
        in_a_header = text.replace("\r", "").replace("\n", "").replace("\0", "").encode()[:60].decode("latin-1")
        for name in (
            "X-Request-Id",
            "User-Agent",
            "Accept",
            "Origin",
            "X-Forwarded-For",
            "Content-Type",
            "Authorization",
        ):
            answer_if_any(
                world, f"GET /api/v1/me/mfa HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{name}: {in_a_header}\r\n\r\n"
            )
        answer_if_any(world, f"{text} HTTP/1.1\r\n\r\n")


def answer_if_any(world: World, message: str) -> None:
    """Bytes that may be no HTTP at all."""
    with socket.create_connection(("127.0.0.1", world.server.port), 10) as connection:
        connection.sendall(message.encode("latin-1", errors="ignore"))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
