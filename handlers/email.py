"""Codes by e-mail."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from factors import email
from factors.assertion import SigningKey
from factors.errors import EmailMissing
from handlers import notice, proof, step_up
from handlers.backup import NewSet, keep_first
from handlers.hashing import may_hash
from handlers.settings import Settings
from storage import audit
from storage.database import atomic
from storage.email import EmailFactor
from storage.mail_quota import RESEND, MailQuota
from storage.methods import Methods, forget_the_rest
from storage.outbox import Mail, OutboxMail
from storage.user import Caller, User


def enable(
    caller: Caller,
    mfa_assertion: str | None,
    now: datetime,
    settings: Settings,
    signing_keys: Sequence[SigningKey],
) -> dict[str, Any]:
    """Mail a code to the token's address; nothing is on until it is shown."""
    step_up.require(caller, mfa_assertion, "email", now, settings, signing_keys)
    if caller.email is None:
        raise EmailMissing
    code = new_code()
    with atomic():
        User.ensure(caller, now)
        pending = EmailFactor.begin(caller, caller.email, code, now)
        mail(caller, caller.email, code, now, pending.expires_at)
        audit.record(caller, "email.begun", now, device_id=pending.device_id)
    return {"email": email.masked(caller.email), "expires_at": pending.expires_at, "resend_at": now + RESEND}


@may_hash
def confirm(
    caller: Caller,
    body: dict[str, Any],
    mfa_assertion: str | None,
    now: datetime,
    settings: Settings,
    signing_keys: Sequence[SigningKey],
) -> dict[str, Any]:
    """Turn the pending mailbox on once the code that was sent there is shown."""
    permit = step_up.require(caller, mfa_assertion, "email", now, settings, signing_keys)
    pending = EmailFactor.pending(caller, now)
    with proof.attempt(caller, now) as accepted:
        pending.check(body["code"])
        new = NewSet.for_first_method(caller)
        with accepted():
            permit.change_factors(caller, now)
            pending.activate(now)
            codes = keep_first(caller, new, now)
            audit.record(caller, "email.enabled", now, device_id=pending.device_id)
            notice.send(caller, "email.enabled", now)
    return {"type": "email", "enabled": True, "device_id": pending.device_id, **codes}


def disable(
    caller: Caller, body: dict[str, Any], now: datetime, settings: Settings, signing_keys: Sequence[SigningKey]
) -> dict[str, Any]:
    """Forget the mailbox once a code of the authenticator app is shown; without one, a backup or a mailed code."""
    mailbox = EmailFactor.enabled(caller)
    methods = Methods.of(caller)
    kinds = ("totp",) if methods.totp else ("backup_code", "email")
    assertions_by = step_up.accepted_for("email", methods)
    with proof.shown(caller, body["code"], kinds, assertions_by, now, settings, signing_keys):
        notice.send(caller, "email.disabled", now)
        mailbox.remove()
        mfa_enabled = forget_the_rest(caller)
        audit.record(caller, "email.disabled", now, device_id=mailbox.device_id)
    return {"type": "email", "enabled": False, "mfa_enabled": mfa_enabled}


def new_code() -> str:
    return email.code_of(secrets.randbelow(email.CODES))


def mail(caller: Caller, address: str, code: str, now: datetime, expires_at: datetime) -> None:
    """Write a code to the outbox, in the transaction that is open. Raises TooManyEmails."""
    mailbox_key = UUID(bytes=hashlib.sha256(b"mailbox:" + address.lower().encode()).digest()[:16])
    for key in (caller.id, mailbox_key):
        MailQuota.spend(key, now)
    OutboxMail.put(caller, Mail("code", address, {"code": code}), now, expires_at)
