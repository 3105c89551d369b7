"""Sealing keys change under everything that is sealed: nothing is lost, moved or forgotten (SEC-01, SEC-03)."""

from __future__ import annotations

import base64
import os
import pty
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import psycopg
import pytest

from factors.errors import InvalidCode
from server import checks
from storage import rotation
from storage.challenge import Challenge
from storage.database import atomic, connection
from storage.email import EmailFactor
from storage.outbox import Mail, OutboxMail
from storage.rotation import BATCH, reseal
from storage.sealing import Keyring
from storage.totp import TotpSecret
from storage.user import Caller, User
from tests.authenticator_app import AuthenticatorApp, step_at
from tests.databases import COMMAND, COMMAND_SECONDS, Operated, key
from tests.running import API, RunningServer

NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=1)
ON_SQLITE = pytest.mark.parametrize("operated", ["sqlite"], indirect=True)


def person(number: int) -> Caller:
    return Caller.of(f"user-{number}")


def people(count: int) -> dict[UUID, bytes]:
    """Users with an authenticator app, and its secrets."""
    secrets = {}
    with atomic():
        for caller in map(person, range(count)):
            secrets[caller.id] = caller.id.bytes + b"1234"
            User.ensure(caller, NOW)
            TotpSecret.begin(caller, secrets[caller.id], NOW).activate(step_at(NOW) - 10, NOW)
    return secrets


def mails(count: int) -> None:
    with atomic():
        for caller in map(person, range(count)):
            OutboxMail.put(caller, Mail("code", f"{caller.sub}@example.com", {"code": "1"}), NOW, LATER)


def opened() -> dict[UUID, bytes]:
    return {row.user_id: row.secret() for row in TotpSecret.select()}


def sealed() -> dict[UUID, str]:
    return {row.user_id: row.sealed for row in TotpSecret.select()}


def sealed_by() -> Counter[str]:
    return Counter(value.partition(":")[0] for value in sealed().values())


@contextmanager
def held(operated: Operated) -> Iterator[None]:
    """Somebody else writes, and the command has to wait for them."""
    if operated.url.startswith("sqlite"):
        path = operated.url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
    else:
        with psycopg.connect(operated.url) as other_session:
            other_session.execute("SELECT 1 FROM totp_secret ORDER BY user_id LIMIT 1 FOR UPDATE")
            yield


def test_sec_01_everything_is_sealed_anew_and_then_the_old_key_is_needed_no_more(operated: Operated) -> None:
    secrets = people(2 * BATCH + 1)
    mails(3)
    operated.new_key()
    rows = 2 * BATCH + 4
    summary = "Read {}, sealed {} anew with key key-1; 0 changed meanwhile, 0 cannot be opened.\n"
    assert operated.done("rotate-keys") == summary.format(rows, rows)
    assert operated.invoke("rotate-keys").stdout == summary.format(rows, 0)
    operated.use_keys({"key-1": operated.keys["key-1"]})
    assert opened() == secrets
    assert {mail.open().to for mail in OutboxMail.select()} == {f"user-{n}@example.com" for n in range(3)}


@pytest.mark.parametrize(
    ("operated", "number", "status"),
    [("sqlite", signal.SIGINT, 130), ("postgresql", signal.SIGTERM, 143)],
    indirect=["operated"],
)
def test_it_is_stopped_after_the_batch_at_hand_and_goes_on_when_run_again(
    operated: Operated, number: int, status: int
) -> None:
    secrets = people(3 * BATCH)
    operated.new_key()
    with operated.running("rotate-keys") as process:
        assert process.stderr is not None
        with held(operated):
            assert process.stderr.readline() == "Sealing anew: 0%\n"
            process.send_signal(number)
        shown, errors = process.communicate(timeout=COMMAND_SECONDS)
    assert process.returncode == status
    assert shown == f"Read {BATCH}, sealed {BATCH} anew with key key-1; 0 changed meanwhile, 0 cannot be opened.\n"
    assert errors.splitlines()[-1] == "Stopped before the end. Run the command again to go on."
    assert sealed_by() == {"key-1": BATCH, "first": 2 * BATCH}
    assert opened() == secrets
    assert operated.invoke("rotate-keys").exit_code == 0
    assert sealed_by() == {"key-1": 3 * BATCH}
    assert opened() == secrets


def test_one_that_is_killed_in_the_middle_of_a_batch_leaves_that_batch_as_it_was(operated: Operated) -> None:
    secrets = people(BATCH + 1)
    operated.new_key()
    with operated.running("rotate-keys") as process, held(operated):
        assert process.stderr is not None
        process.stderr.readline()
        time.sleep(0.2)
        process.kill()
        process.wait(COMMAND_SECONDS)
    assert sealed_by() == {"first": BATCH + 1}
    assert operated.invoke("rotate-keys").exit_code == 0
    assert opened() == secrets


@pytest.mark.parametrize("operated", ["postgresql"], indirect=True)
def test_a_database_that_fails_ends_it_with_one_line(operated: Operated) -> None:
    people(1)
    operated.new_key()
    operated.url += f"&options={quote('-c lock_timeout=100')}"
    with held(operated):
        done = operated.invoke("rotate-keys")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == (
        "Error: The database failed: canceling statement due to lock timeout. "
        "What was done stays done; run the command again."
    )


class Meddling(Keyring):
    """A keyring that lets another request get in between: as it seals the user's secret, that changes."""

    def __init__(self, operated: Operated, user: Caller) -> None:
        super().__init__(operated.keys)
        self.user = user

    def seal(self, plaintext: bytes, *, table: str, user: UUID, row: UUID) -> str:
        if user == self.user.id:
            thread = threading.Thread(target=self.set_up_anew)
            thread.start()
            thread.join()
        return super().seal(plaintext, table=table, user=user, row=row)

    def set_up_anew(self) -> None:
        with connection(), atomic():
            TotpSecret.enabled(self.user).remove()
            TotpSecret.begin(self.user, b"another secret", NOW)


def test_what_a_request_changes_meanwhile_wins(operated: Operated) -> None:
    secrets = people(3)
    operated.new_key()
    batches = list(reseal(Meddling(operated, person(1))))
    assert sum(batch.resealed for batch in batches) == 2
    assert sum(batch.changed_meanwhile for batch in batches) == 1
    assert opened() == secrets | {person(1).id: b"another secret"}


def test_no_request_fails_while_keys_change(operated: Operated, tmp_path: Path) -> None:
    """Keys go round under a server under load: it has them all, and opens whatever it meets."""
    count = 25
    secrets = people(4 * BATCH)
    operated.new_key()
    operated.new_key()
    environment = operated.environment
    server = RunningServer(
        tmp_path, database_url=environment["MFA_DATABASE_URL"], secret_keys=environment["MFA_SECRET_KEYS"]
    )

    def verify(number: int) -> int:
        with server.client(f"user-{number}") as client:
            challenge_id = client.post(f"{API}/challenge", json={"method": "totp"}).json()["challenge_id"]
            code = AuthenticatorApp(secrets[person(number).id]).code(datetime.now(UTC))
            return client.post(f"{API}/verify", json={"challenge_id": challenge_id, "code": code}).status_code

    with server, ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(verify, number) for number in range(count)]
        rounds = 0
        while rounds < 2 or not all(answer.done() for answer in answers):
            (oldest, value), *others = reversed(operated.keys.items())
            operated.use_keys({oldest: value, **dict(reversed(others))})
            assert f"anew with key {oldest};" in operated.done("rotate-keys")
            rounds += 1
        assert [answer.result() for answer in answers] == [200] * count
    assert opened() == secrets


def test_sec_03_what_was_swapped_or_tampered_with_fails_for_that_user_alone_and_is_named(operated: Operated) -> None:
    secrets = people(5)
    mails(1)
    one, other, third, foreign = (person(number) for number in range(4))
    before = sealed()
    written = {
        one: before[other.id],
        other: before[one.id],
        third: before[third.id][:-8] + ("A" if before[third.id][-8] != "A" else "B") + before[third.id][-7:],
        foreign: "lost:" + base64.b64encode(bytes(48)).decode(),
    }
    for user, value in written.items():
        TotpSecret.update(sealed=value).where(TotpSecret.user == user.id).execute()
    OutboxMail.update(user_id=person(4).id).execute()
    operated.new_key()
    done = operated.run("rotate-keys")
    assert done.returncode == 1
    *named, summary = done.stdout.splitlines()
    assert summary == "Read 6, sealed 1 anew with key key-1; 0 changed meanwhile, 5 cannot be opened."
    assert all(line.startswith("Cannot be opened: {") for line in named)
    assert {user.sub for user in (*written, person(4)) if any(f'"sub": "{user.sub}"' in line for line in named)} == {
        f"user-{number}" for number in range(5)
    }
    after = sealed()
    assert {user: after[user.id] for user in written} == written
    assert TotpSecret.enabled(person(4)).secret() == secrets[person(4).id]
    for user in written:
        with pytest.raises(InvalidCode):
            TotpSecret.enabled(user).secret()


def test_sec_03_a_value_of_the_newest_key_that_does_not_open_is_found_too(operated: Operated) -> None:
    people(2)
    TotpSecret.update(sealed=sealed()[person(0).id]).where(TotpSecret.user == person(1).id).execute()
    unreadable = [row for batch in reseal(Keyring(operated.keys)) for row in batch.unreadable]
    assert [(row.table, row.user_id, row.key_id) for row in unreadable] == [("totp_secret", person(1).id, "first")]


def facts(operated: Operated) -> list[str]:
    return list(checks.sealing_keys(operated.keys))


def test_check_says_what_each_key_holds_and_when_one_may_go(
    operated: Operated, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(3)
    mails(1)
    with atomic():
        EmailFactor.begin(person(0), "a@example.com", "135790", NOW)
        Challenge.open(person(0), NOW, method="email", user_verification="preferred", code="135790")
        Challenge.open(person(1), NOW - timedelta(hours=1), method="email", user_verification="preferred", code="1")
    assert facts(operated) == ["key first holds totp_secret 3, outbox_mail 1, codes 2. It seals."]
    operated.new_key()
    assert facts(operated)[1].endswith("`mfa-server rotate-keys` seals it anew.")
    list(reseal(Keyring(operated.keys)))
    assert facts(operated) == [
        "key key-1 holds totp_secret 3, outbox_mail 1. It seals.",
        "key first holds codes 2. They expire within ten minutes.",
    ]
    EmailFactor.delete().execute()
    Challenge.delete().execute()
    may_go = "It may be taken out of MFA_SECRET_KEYS when no server seals with it any more."
    assert facts(operated)[1] == f"key first holds nothing. {may_go}"
    monkeypatch.setattr(rotation, "COUNTED", 2)
    assert rotation.count_by_key(NOW) == {"key-1": {"totp_secret": 3, "outbox_mail": 1}}


def test_check_fails_when_a_key_is_missing_or_has_other_bytes(operated: Operated) -> None:
    people(2)
    before = operated.keys
    operated.use_keys(dict([key("second")]))
    done = operated.invoke("check")
    assert done.exit_code == 1
    assert [line for line in done.stdout.splitlines() if line.startswith("sealing: ")] == [
        "sealing: key second holds nothing. It seals.",
        "sealing: key first holds totp_secret 2. It is not in MFA_SECRET_KEYS.",
        "sealing: MFA_SECRET_KEYS lacks first: add it at the end.",
    ]
    operated.use_keys(dict([key("first")]))
    with pytest.raises(ValueError, match=r"^The key first of MFA_SECRET_KEYS opens nothing of what first sealed"):
        facts(operated)
    operated.use_keys(before)
    TotpSecret.update(sealed="\x1b[31m no key").where(TotpSecret.user == person(0).id).execute()
    with pytest.raises(ValueError, match=r"^MFA_SECRET_KEYS lacks \(none\)"):
        facts(operated)


@ON_SQLITE
def test_a_terminal_sees_a_bar(operated: Operated) -> None:
    people(BATCH)
    terminal, stderr = pty.openpty()
    try:
        done = subprocess.run(
            [*COMMAND, "rotate-keys"],
            env=operated.environment | {"TERM": "xterm"},
            stdout=subprocess.PIPE,
            stderr=stderr,
            timeout=COMMAND_SECONDS,
            check=True,
        )
        shown = os.read(terminal, 65536).decode()
    finally:
        os.close(stderr)
        os.close(terminal)
    assert done.stdout.startswith(b"Read 200, ")
    assert "Sealing anew  [####" in shown
    assert "100%" in shown


@ON_SQLITE
def test_elsewhere_it_writes_a_line_for_each_tenth(operated: Operated) -> None:
    people(8 * BATCH)
    operated.new_key()
    shown = operated.invoke("rotate-keys").stderr.splitlines()
    assert shown[0] == "Sealing anew: 0%"
    assert shown[-1] == "Sealing anew: 100%"
    assert 3 < len(shown) < 13
