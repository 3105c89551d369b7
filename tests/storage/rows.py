"""Rows of the models, as a handler would have them made."""

from __future__ import annotations

import secrets
import uuid
from datetime import UTC, datetime

from storage.challenge import Challenge
from storage.database import atomic
from storage.email import EmailFactor
from storage.totp import TotpSecret
from storage.user import Caller, User
from storage.webauthn import WebAuthnCredential

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALICE = Caller.of("alice", email="alice@example.com")
BOB = Caller.of("bob", email="bob@example.com")
SECRET = b"12345678901234567890"
STEP = 59_078_880


def ensure(*callers: Caller) -> None:
    with atomic():
        for caller in callers:
            User.ensure(caller, NOW)


def pending_totp(caller: Caller = ALICE, secret: bytes = SECRET, now: datetime = NOW) -> TotpSecret:
    with atomic():
        TotpSecret.begin(caller, secret, now)
    return TotpSecret.pending(caller, now)


def totp(caller: Caller = ALICE, step: int = STEP, now: datetime = NOW) -> TotpSecret:
    pending = pending_totp(caller, now=now)
    with atomic():
        pending.activate(step, now)
    return TotpSecret.enabled(caller)


def pending_email(caller: Caller = ALICE, code: str = "012345", now: datetime = NOW) -> EmailFactor:
    with atomic():
        EmailFactor.begin(caller, caller.email or "", code, now)
    return EmailFactor.pending(caller, now)


def mailbox(caller: Caller = ALICE, now: datetime = NOW) -> EmailFactor:
    pending = pending_email(caller, now=now)
    with atomic():
        pending.activate(now)
    return EmailFactor.enabled(caller)


def key(caller: Caller = ALICE, now: datetime = NOW, **record: object) -> WebAuthnCredential:
    kept = {
        "device_id": uuid.uuid4(),
        "credential_id": secrets.token_bytes(16),
        "public_key": b"a public key",
        "sign_count": 0,
        "aaguid": uuid.UUID(int=0),
        "name": "Security key",
        "transports": "usb nfc",
        "uv_initialized": False,
        "backup_eligible": False,
        "backed_up": False,
        **record,
    }
    with atomic():
        User.change_factors(caller)
        WebAuthnCredential.add(caller, now, **kept)
    return next(each for each in WebAuthnCredential.of(caller) if each.device_id == kept["device_id"])


def challenge(caller: Caller = ALICE, now: datetime = NOW, code: str | None = None) -> Challenge:
    with atomic():
        return Challenge.open(caller, now, method="email" if code else "", user_verification="preferred", code=code)
