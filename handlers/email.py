"""Codes by e-mail."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from typing import Any
from uuid import UUID

from factors import email
from factors.errors import EmailMissing, InvalidCode
from handlers import notice, proof
from handlers.backup import NewSet, keep_first
from handlers.settings import Settings
from storage import audit
from storage.database import atomic
from storage.email import EmailFactor
from storage.mail_quota import RESEND, MailQuota
from storage.methods import Methods, forget_the_rest
from storage.outbox import Mail, OutboxMail
from storage.user import Caller, User


def enable(caller: Caller, now: datetime) -> dict[str, Any]:
    """Mail a code to the token's address; nothing is on until it is shown."""
    if caller.email is None:
        raise EmailMissing
    code = email.code_of(secrets.randbelow(email.CODES))
    with atomic():
        User.ensure(caller, now)
        pending = EmailFactor.begin(caller, caller.email, code, now)
        MailQuota.spend(caller.id, now)
        MailQuota.spend(_quota_key(caller.email), now)
        OutboxMail.put(caller, Mail("code", caller.email, {"code": code}), now, pending.expires_at)
        audit.record(caller, "email.begun", now, device_id=pending.device_id)
    return {"email": email.masked(caller.email), "expires_at": pending.expires_at, "resend_at": now + RESEND}


def confirm(caller: Caller, body: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Turn the pending mailbox on once the code that was sent there is shown."""
    pending = EmailFactor.pending(caller, now)
    with proof.attempt(caller, now) as accepted:
        pending.check(body["code"])
        new = NewSet.for_first_method(caller)
        with accepted():
            User.change_factors(caller)
            pending.activate(now)
            codes = keep_first(caller, new, now)
            audit.record(caller, "email.enabled", now, device_id=pending.device_id)
            notice.send(caller, "email.enabled", now)
    return {"type": "email", "enabled": True, "device_id": pending.device_id, **codes}


def disable(caller: Caller, body: dict[str, Any], now: datetime, settings: Settings) -> dict[str, Any]:
    """Forget the mailbox once a code of the authenticator app is shown; without one, a backup code."""
    mailbox = EmailFactor.enabled(caller)
    totp_is_on = Methods.of(caller).totp is not None
    with proof.attempt(caller, now) as accepted:
        code = body["code"]
        if proof.is_six_digits(code) != totp_is_on:
            raise InvalidCode(reason="wrong kind")
        spend = proof.by_totp(caller, code, now, settings) if totp_is_on else proof.by_backup_code(caller, code, now)
        with accepted():
            User.change_factors(caller)
            spend()
            notice.send(caller, "email.disabled", now)
            mailbox.remove()
            mfa_enabled = forget_the_rest(caller)
            audit.record(caller, "email.disabled", now, device_id=mailbox.device_id)
    return {"type": "email", "enabled": False, "mfa_enabled": mfa_enabled}


def _quota_key(address: str) -> UUID:
    return UUID(bytes=hashlib.sha256(b"mailbox:" + address.lower().encode()).digest()[:16])
