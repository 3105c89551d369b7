"""The attacked: a running server, its database opened in the test's own process too, and users with factors.

States of the world are set up by the rules' own code on the server's own database, which is fast and goes at any time;
every attack goes over HTTP.
"""

from __future__ import annotations

import hmac
import inspect
import secrets
import struct
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import handlers.verification
import handlers.webauthn
import storage.database
from factors import backup
from factors.assertion import SigningKey
from server.settings import PREFIX, Settings
from server.signing import read
from storage import sealing
from storage.audit import AuditEvent
from storage.backup import BackupCodeSet
from storage.challenge import Challenge
from storage.database import atomic, database
from storage.email import EmailFactor
from storage.methods import Methods
from storage.totp import TotpSecret
from storage.user import Caller, User
from tests.attacks.wire import Answer, Request, together
from tests.authenticator import Authenticator
from tests.running import API, RunningServer

STEP = timedelta(seconds=30)
# What was set up long enough ago to stand in nothing's way, and not so long that it has expired.
EARLIER = timedelta(minutes=3)


def totp(secret: bytes, at: datetime) -> str:
    """The code of a secret at a time (RFC 6238, RFC 4226 section 5.3), as an authenticator app works it out."""
    mac = hmac.digest(secret, struct.pack(">Q", int(at.timestamp()) // 30), "sha1")
    start = mac[-1] & 15
    return f"{(int.from_bytes(mac[start : start + 4]) & 0x7FFFFFFF) % 1_000_000:06d}"


@cache
def backup_codes(owner: str) -> tuple[list[str], bytes, list[bytes]]:
    """Codes, salt and digests of a set. Slow hashes make it, so users share one unless they are told apart."""
    salt = secrets.token_bytes(backup.SALT_BYTES)
    codes = backup.codes_of(secrets.token_bytes(backup.COUNT * backup.CODE_BYTES))[:3]
    return codes, salt, [backup.digest(code, salt) for code in codes]


@dataclass
class World:
    """A server, and what a test knows of it."""

    server: RunningServer
    settings: Settings
    signing_keys: list[SigningKey]

    @classmethod
    @contextmanager
    def of(cls, server: RunningServer) -> Iterator[World]:
        """Open the server's database in this process, with the server's own keys."""
        given = {
            name.removeprefix(PREFIX).lower(): value
            for name, value in server.environment.items()
            if name.startswith(PREFIX)
        }
        defaults = {"origins": server.origin, "public_url": server.origin}
        settings = Settings.model_validate({**defaults, **given, "data_dir": server.data})
        sealing.use(settings.secret_keys)
        storage.database.connect(settings.database_url)
        try:
            with storage.database.connection():
                yield cls(server, settings, list(read(settings.signing_key_file)))
        finally:
            storage.database.close()

    def victim(self, sub: str | None = None, tenant: str = "", **claims: Any) -> Victim:
        """A user that nobody has met."""
        sub = sub or f"victim-{uuid.uuid4().hex}"
        mail = claims.pop("email", f"{sub}@example.com")
        given = {
            "email": mail,
            self.settings.jwt_tenant_claim: tenant or None,
            "iss": self.settings.jwt_issuer,
        } | claims
        token = self.server.token(sub, **given)
        victim = Victim(self, Caller.of(sub, tenant, email=mail, account=sub), token)
        with atomic():
            User.ensure(victim.caller, victim.born)
        return victim

    def send(self, *requests: Request) -> list[Answer]:
        """Send requests at one moment."""
        return together(self.server.ports, requests)

    def service(self, scope: str, tenant: str = "") -> str:
        """The token of an app's backend."""
        claims: dict[str, Any] = {self.settings.jwt_tenant_claim: tenant or None, "iss": self.settings.jwt_issuer}
        return self.server.token("backend", email=None, scope=scope, **claims)

    @contextmanager
    def without_table(self, name: str) -> Iterator[None]:
        """The database breaks: a table is gone for a while."""
        database.execute_sql(f"ALTER TABLE {name} RENAME TO {name}_gone")
        try:
            yield
        finally:
            database.execute_sql(f"ALTER TABLE {name}_gone RENAME TO {name}")

    def introspect(self, token: str, tenant: str = "") -> Answer:
        form = f"token={token}".encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        service = self.service("mfa:introspect", tenant)
        return self.send(Request("POST", "/api/v1/mfa/introspect", service, form, kind))[0]


@dataclass
class Victim:
    """A user, what they know and have, and the requests that their access token can make."""

    world: World
    caller: Caller
    token: str
    secret: bytes = b""
    backup_codes: list[str] = field(default_factory=list)
    authenticator: Authenticator = field(default_factory=Authenticator)
    device_ids: list[str] = field(default_factory=list)
    born: datetime = field(default_factory=lambda: datetime.now(UTC) - EARLIER)

    # Factors.

    def begins_totp(self) -> Victim:
        self.secret = secrets.token_bytes(20)
        with atomic():
            TotpSecret.begin(self.caller, self.secret, self.born)
        return self

    def has_totp(self) -> Victim:
        self.begins_totp()
        with atomic():
            TotpSecret.pending(self.caller, self.born).activate(int(self.born.timestamp()) // 30, self.born)
        return self

    def begins_email(self, code: str) -> Victim:
        with atomic():
            EmailFactor.begin(self.caller, str(self.caller.email), code, self.born)
        return self

    def has_email(self) -> Victim:
        self.begins_email("000000")
        with atomic():
            EmailFactor.pending(self.caller, self.born).activate(self.born)
        return self

    def has_backup_codes(self, owner: str = "") -> Victim:
        self.backup_codes, salt, digests = backup_codes(owner)
        with atomic():
            BackupCodeSet.replace_all(self.caller, salt, digests, self.born)
        return self

    def has_key(self) -> Victim:
        """One more security key. Have backup codes first: making the first set is slow."""
        begun = self.calls(handlers.webauthn.begin, now=self.born)
        answer = self.authenticator.register(begun["options"], origin=self.world.settings.origins[0])
        body = {"device_id": str(begun["device_id"]), "challenge_id": str(begun["challenge_id"]), "credential": answer}
        completed = self.calls(handlers.webauthn.complete, now=self.born, body=body)
        self.device_ids.append(str(completed["device_id"]))
        return self

    def has_key_only(self) -> Victim:
        return self.has_backup_codes().has_key()

    def clears(self) -> Victim:
        """Make the budget of wrong codes whole again."""
        with atomic():
            User.clear_attempts(self.caller)
        return self

    # Codes.

    def code(self, steps: int = 0) -> str:
        """The code of so many steps from now. That of the current or the next step stays good for half a minute."""
        return totp(self.secret, datetime.now(UTC) + steps * STEP)

    def wrong_codes(self) -> Iterator[str]:
        """Codes that are none of the secret's for minutes around now."""
        right = {self.code(steps) for steps in range(-5, 20)}
        return (code for code in (f"{number:06d}" for number in range(111_111, 999_999)) if code not in right)

    @property
    def wrong_code(self) -> str:
        return next(self.wrong_codes())

    def challenge(self, method: str = "", code: str | None = None, at: datetime | None = None) -> str:
        """Open a challenge; for e-mail the code is given, and no mail goes out."""
        return self.challenges(1, method, code, at)[0]

    def challenges(
        self, count: int, method: str = "", code: str | None = None, at: datetime | None = None
    ) -> list[str]:
        now = at or datetime.now(UTC)
        with atomic():
            opened = [
                Challenge.open(self.caller, now, method=method, user_verification="preferred", code=code)
                for _ in range(count)
            ]
        return [str(each.challenge_id) for each in opened]

    def key_challenge(self) -> tuple[str, dict[str, Any]]:
        """The id and the options of a challenge for a security key."""
        opened = self.calls(handlers.verification.challenge, body={})
        return str(opened["challenge_id"]), opened["options"]

    def key_answer(self, options: dict[str, Any], **deviations: Any) -> dict[str, Any]:
        return self.authenticator.authenticate(options, origin=self.world.settings.origins[0], **deviations)

    def assertion(self) -> str:
        """An assertion by security key, which no attempt was spent on."""
        challenge_id, options = self.key_challenge()
        body = {"challenge_id": challenge_id, "credential": self.key_answer(options)}
        return str(self.calls(handlers.verification.verify, body=body)["assertion"])

    # Requests, by the wire or past it.

    def posts(self, operation: str, body: object = None, **headers: str) -> Request:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Request("POST", f"{API}/{operation}", self.token, body, named)

    def deletes(self, device_id: str, **headers: str) -> Request:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Request("DELETE", f"{API}/webauthn/{device_id}", self.token, None, named)

    def verifies(self, challenge_id: str, answer: str | dict[str, Any]) -> Request:
        """A code or a credential in answer to a challenge."""
        kind = "code" if isinstance(answer, str) else "credential"
        return self.posts("verify", {"challenge_id": challenge_id, kind: answer})

    def sends(self, operation: str, body: object = None, **headers: str) -> Answer:
        return self.world.send(self.posts(operation, body, **headers))[0]

    def calls(self, handler: Callable[..., Any], *, now: datetime | None = None, **given: Any) -> Any:
        """Call a handler in this process, at any time, with step-up off unless `settings` are given."""
        supplies = {
            "caller": self.caller,
            "now": now or datetime.now(UTC),
            "settings": self.world.settings.model_copy(update={"step_up": "off"}),
            "signing_keys": self.world.signing_keys,
            "mfa_assertion": None,
        } | given
        wanted = inspect.signature(handler).parameters
        return handler(**{name: value for name, value in supplies.items() if name in wanted})

    # What the database says.

    @property
    def row(self) -> User:
        row: User = User.get_by_id(self.caller.id)
        return row

    @property
    def methods(self) -> Methods:
        return Methods.of(self.caller)

    def audit(self) -> list[AuditEvent]:
        return list(
            AuditEvent.select().where(AuditEvent.user_id == self.caller.id).order_by(AuditEvent.at, AuditEvent.id)
        )

    def events(self) -> list[str]:
        return [event.type for event in self.audit()]

    def check_state(self) -> None:
        """That the rows are such as no half-done operation leaves."""
        assert self.row.failures >= 0
        device = TotpSecret.get_or_none(TotpSecret.user == self.caller.id)
        assert device is None or (device.confirmed_at is None) != (device.expires_at is None)
        mailbox = EmailFactor.get_or_none(EmailFactor.user == self.caller.id)
        if mailbox is not None:
            pending = (mailbox.confirmed_at is None, mailbox.expires_at is not None, mailbox.code_digest is not None)
            assert pending in ((True, True, True), (False, False, False))
        assert self.methods.enabled == (BackupCodeSet.of(self.caller) is not None)
