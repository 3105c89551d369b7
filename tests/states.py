"""States of the world: people with factors, what they hold in their hands, and a clock that tests move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric import ec

from factors.assertion import SigningKey
from storage.audit import AuditEvent
from storage.outbox import Mail, OutboxMail
from storage.user import Caller
from tests.authenticator import Authenticator
from tests.authenticator_app import AuthenticatorApp
from tests.calling import Json, operation

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STEP = timedelta(seconds=30)
RESEND = timedelta(seconds=60)
ORIGIN = "https://example.org"


@dataclass(frozen=True)
class Policy:
    """Settings as a handler may ask for them."""

    issuer_name: str = "Example Inc."
    rp_id: str = "example.org"
    rp_name: str = "Example"
    origins: Sequence[str] = (ORIGIN,)
    user_verification: Literal["required", "preferred", "discouraged"] = "preferred"
    totp_window: int = 1
    jwt_audience: str = "app"
    jwt_tenant_claim: str = "tenant_id"
    public_url: str = "https://mfa.example.org"
    step_up: Literal["off", "required"] = "off"
    enrol_max_age: int = 900
    assume_first_factor: bool = False


def signing_key() -> SigningKey:
    return SigningKey("a-key", ec.generate_private_key(ec.SECP256R1()))


@dataclass
class World:
    """One server: its clock, its settings and its keys. Its database is the one that is open."""

    now: datetime = NOW
    settings: Policy = Policy()
    signing_keys: list[SigningKey] = field(default_factory=lambda: [signing_key()])

    def later(self, **length: float) -> None:
        """Let time pass; less than none is a clock that was put back."""
        self.now += timedelta(**length)

    def set(self, **settings: Any) -> None:
        self.settings = replace(self.settings, **settings)

    def mails(self) -> list[Mail]:
        """All that is in the outbox, oldest first."""
        return [mail.open() for mail in OutboxMail.select().order_by(OutboxMail.created_at)]


class Person:
    """A user of the app, with an access token, an authenticator app, a mailbox, a security key and a list of codes.

    Args:
        claims: What else their token says: `email`, `name`, `amr`, `auth_time`, `session`.
    """

    def __init__(self, world: World, sub: str, tenant: str = "", **claims: Any) -> None:
        self.world = world
        self.sub = sub
        self.tenant = tenant
        self.claims: dict[str, Any] = {"email": f"{sub}@example.com", **claims}
        self.app: AuthenticatorApp | None = None
        self.key = Authenticator()
        self.backup_codes: list[str] = []

    @property
    def caller(self) -> Caller:
        return Caller.of(self.sub, self.tenant, **{"account": self.claims["email"] or self.sub, **self.claims})

    def call(self, name: str, *, assertion: str | None = None, **given: object) -> Json:
        """Call an operation with path parameters and members of its body."""
        caller = replace(self.caller, operation=f"handlers.{name}", request_id="request-1", address="192.0.2.1")
        world = self.world
        return operation(name).call(
            given,
            caller=caller,
            mfa_assertion=assertion,
            now=world.now,
            settings=world.settings,
            signing_keys=world.signing_keys,
        )

    # Factors, turned on.

    def scan(self, assertion: str | None = None) -> AuthenticatorApp:
        """Begin an enrolment, and have the app scan its QR code's text."""
        self.app = AuthenticatorApp.scan(self.call("totp.enable", assertion=assertion)["otpauth_uri"])
        return self.app

    def enrol_totp(self, assertion: str | None = None) -> Json:
        self.scan(assertion)
        return self._enabled(self.call("totp.confirm", assertion=assertion, code=self.code()))

    def enrol_email(self, assertion: str | None = None) -> Json:
        self.call("email.enable", assertion=assertion)
        return self._enabled(self.call("email.confirm", assertion=assertion, code=self.mailed_code()))

    def enrol_key(self, key: Authenticator | None = None, assertion: str | None = None) -> Json:
        return self._enabled(self.complete(self.call("webauthn.begin", assertion=assertion), key, assertion))

    def complete(
        self,
        begun: Json,
        key: Authenticator | None = None,
        assertion: str | None = None,
        **deviations: Any,
    ) -> Json:
        """Answer a registration that has begun."""
        answer = (key or self.key).register(begun["options"], origin=ORIGIN, **deviations)
        ids = {"device_id": begun["device_id"], "challenge_id": begun["challenge_id"]}
        return self.call("webauthn.complete", assertion=assertion, credential=answer, **ids)

    def _enabled(self, answer: Json) -> Json:
        self.backup_codes = answer.get("backup_codes", self.backup_codes)
        return answer

    # What they hold in their hands.

    def code(self, steps: int = 0) -> str:
        """What the authenticator app shows, or will show so many steps later."""
        assert self.app is not None
        return self.app.code(self.world.now, steps)

    def next_code(self) -> str:
        """Wait for a code that was not used yet."""
        self.world.now += STEP
        return self.code()

    def wrong_code(self) -> str:
        """Six digits that no factor of theirs would show now."""
        shown = {self.code(steps) for steps in range(-3, 4)} if self.app else set()
        shown |= {str(mail.values["code"]) for mail in self.world.mails() if mail.template == "code"}
        return next(code for code in map("{:06d}".format, range(100)) if code not in shown)

    def mailed_code(self) -> str:
        """The code in the latest mail to them."""
        codes = [mail.values["code"] for mail in self.world.mails() if (mail.template, mail.to) == ("code", self.email)]
        return str(codes[-1])

    def backup_code(self) -> str:
        """One that was not used yet."""
        return self.backup_codes.pop()

    @property
    def email(self) -> str:
        return str(self.claims["email"])

    def answer(self, opened: Json, **deviations: Any) -> Json:
        """The security key's answer to a challenge."""
        return self.key.authenticate(opened["options"], origin=ORIGIN, **deviations)

    # Verification.

    def challenge(self, method: str | None = None) -> Json:
        given: Json = {} if method is None else {"method": method}
        return self.call("verification.challenge", **given)

    def verify(self, opened: Json, **answer: Any) -> Json:
        return self.call("verification.verify", challenge_id=opened["challenge_id"], **answer)

    def prove(self, method: str) -> str:
        """Show one factor; the assertion that it is worth. Time passes where a code must be new."""
        if method == "email":
            self.world.now += RESEND
        opened = self.challenge(method)
        match method:
            case "totp":
                verified = self.verify(opened, code=self.next_code())
            case "email":
                verified = self.verify(opened, code=self.mailed_code())
            case "backup_code":
                verified = self.verify(opened, code=self.backup_code())
            case _:
                verified = self.verify(opened, credential=self.answer(opened))
        return str(verified["assertion"])

    # What is known of them.

    def listed(self) -> Json:
        return self.call("methods.list_all")

    def methods(self) -> list[str]:
        """The types of the methods that are on."""
        return [method["type"] for method in self.listed()["methods"]]

    def device_id(self, kind: str) -> str:
        return str(next(method["device_id"] for method in self.listed()["methods"] if method["type"] == kind))

    def events(self) -> list[tuple[str, str | None]]:
        """Their audit trail, oldest first: type and reason."""
        rows = AuditEvent.select().where(AuditEvent.user_id == self.caller.id).order_by(AuditEvent.at, AuditEvent.id)
        return [(row.type, row.reason) for row in rows]

    def notices(self) -> Counter[str]:
        """How often they were told of what."""
        notices = (mail for mail in self.world.mails() if (mail.template, mail.to) == ("notice", self.email))
        return Counter(str(mail.values["event"]) for mail in notices)
