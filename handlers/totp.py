"""The authenticator app."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any

from factors import qr, totp
from handlers import notice, proof
from handlers.backup import NewSet, keep_first
from handlers.settings import Settings
from storage import audit
from storage.database import atomic
from storage.methods import forget_the_rest
from storage.totp import TotpSecret
from storage.user import Caller, User


def enable(caller: Caller, now: datetime, settings: Settings) -> dict[str, Any]:
    """Make a secret and show it, once; nothing is on until a code of it is shown."""
    secret = secrets.token_bytes(totp.SECRET_BYTES)
    with atomic():
        User.ensure(caller, now)
        pending = TotpSecret.begin(caller, secret, now)
        audit.record(caller, "totp.begun", now, device_id=pending.device_id)
    uri = totp.otpauth_uri(secret, account=caller.account, issuer=settings.issuer_name)
    return {
        "secret": totp.base32(secret),
        "otpauth_uri": uri,
        "qr_code": qr.data_uri(uri),
        "expires_at": pending.expires_at,
    }


def confirm(caller: Caller, body: dict[str, Any], now: datetime, settings: Settings) -> dict[str, Any]:
    """Turn the pending authenticator on once a code of its secret is shown."""
    pending = TotpSecret.pending(caller, now)
    with proof.attempt(caller, now) as accepted:
        step = totp.matching_step(pending.secret(), body["code"], now, settings.totp_window)
        new = NewSet.for_first_method(caller)
        with accepted():
            User.change_factors(caller)
            pending.activate(step, now)
            codes = keep_first(caller, new, now)
            audit.record(caller, "totp.enabled", now, device_id=pending.device_id)
            notice.send(caller, "totp.enabled", now)
    return {"type": "totp", "enabled": True, "device_id": pending.device_id, **codes}


def disable(caller: Caller, body: dict[str, Any], now: datetime, settings: Settings) -> dict[str, Any]:
    """Destroy the secret once a code of it, or a backup code, is shown."""
    device = TotpSecret.enabled(caller)
    with proof.attempt(caller, now) as accepted:
        code = body["code"]
        spend = (
            proof.by_totp(caller, code, now, settings)
            if proof.is_six_digits(code)
            else proof.by_backup_code(caller, code, now)
        )
        with accepted():
            User.change_factors(caller)
            spend()
            device.remove()
            mfa_enabled = forget_the_rest(caller)
            audit.record(caller, "totp.disabled", now, device_id=device.device_id)
            notice.send(caller, "totp.disabled", now)
    return {"type": "totp", "enabled": False, "mfa_enabled": mfa_enabled}
