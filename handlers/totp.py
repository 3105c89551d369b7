"""The authenticator app."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from factors import qr, totp
from factors.assertion import SigningKey
from handlers import notice, proof, step_up
from handlers.backup import NewSet, keep_first
from handlers.hashing import may_hash
from handlers.settings import Settings
from storage import audit
from storage.database import atomic
from storage.methods import Methods, forget_the_rest
from storage.totp import TotpSecret
from storage.user import Caller, User


def enable(
    caller: Caller,
    mfa_assertion: str | None,
    now: datetime,
    settings: Settings,
    signing_keys: Sequence[SigningKey],
) -> dict[str, Any]:
    """Make a secret and show it, once; nothing is on until a code of it is shown."""
    step_up.require(caller, mfa_assertion, "totp", now, settings, signing_keys)
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


@may_hash
def confirm(
    caller: Caller,
    body: dict[str, Any],
    mfa_assertion: str | None,
    now: datetime,
    settings: Settings,
    signing_keys: Sequence[SigningKey],
) -> dict[str, Any]:
    """Turn the pending authenticator on once a code of its secret is shown."""
    permit = step_up.require(caller, mfa_assertion, "totp", now, settings, signing_keys)
    pending = TotpSecret.pending(caller, now)
    with proof.attempt(caller, now) as accepted:
        step = totp.matching_step(pending.secret(), body["code"], now, settings.totp_window)
        new = NewSet.for_first_method(caller)
        with accepted():
            permit.change_factors(caller, now)
            pending.activate(step, now)
            codes = keep_first(caller, new, now)
            audit.record(caller, "totp.enabled", now, device_id=pending.device_id)
            notice.send(caller, "totp.enabled", now)
    return {"type": "totp", "enabled": True, "device_id": pending.device_id, **codes}


def disable(
    caller: Caller, body: dict[str, Any], now: datetime, settings: Settings, signing_keys: Sequence[SigningKey]
) -> dict[str, Any]:
    """Destroy the secret once a code of it, a backup code or an assertion is shown."""
    device = TotpSecret.enabled(caller)
    kinds = ("totp", "backup_code")
    assertions_by = step_up.accepted_for("totp", Methods.of(caller))
    with proof.shown(caller, body["code"], kinds, assertions_by, now, settings, signing_keys):
        device.remove()
        mfa_enabled = forget_the_rest(caller)
        audit.record(caller, "totp.disabled", now, device_id=device.device_id)
        notice.send(caller, "totp.disabled", now)
    return {"type": "totp", "enabled": False, "mfa_enabled": mfa_enabled}
