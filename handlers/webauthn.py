"""Security keys."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from factors.assertion import SigningKey
from factors.authenticators import device_name
from factors.errors import InvalidCredential
from factors.webauthn import verify_registration
from factors.webauthn_options import creation_options
from handlers import notice, step_up
from handlers.backup import NewSet, keep_first
from handlers.hashing import may_hash
from handlers.settings import Settings
from storage import audit
from storage.database import atomic
from storage.methods import forget_the_rest
from storage.user import Caller, User
from storage.webauthn import WebAuthnCredential, WebAuthnRegistration

CHALLENGE_BYTES = 32


def begin(
    caller: Caller,
    mfa_assertion: str | None,
    now: datetime,
    settings: Settings,
    signing_keys: Sequence[SigningKey],
) -> dict[str, Any]:
    """Open a registration and say what the browser is to be asked for."""
    step_up.require(caller, mfa_assertion, "webauthn", now, settings, signing_keys)
    challenge = secrets.token_bytes(CHALLENGE_BYTES)
    with atomic():
        User.ensure(caller, now)
        WebAuthnCredential.check_room(caller)
        opened = WebAuthnRegistration.begin(caller, challenge, settings.user_verification, now)
        handle = User.handle_of(caller)
        registered = WebAuthnCredential.of(caller)
    options = creation_options(
        challenge=challenge,
        rp_id=settings.rp_id,
        rp_name=settings.rp_name,
        user_handle=handle,
        user_name=caller.account,
        user_display_name=caller.name or caller.account,
        exclude_credentials=[(bytes(key.credential_id), key.transports.split()) for key in registered],
        user_verification=settings.user_verification,
    )
    return {
        "device_id": opened.device_id,
        "challenge_id": opened.challenge_id,
        "expires_at": opened.expires_at,
        "options": options,
    }


@may_hash
def complete(
    caller: Caller,
    body: dict[str, Any],
    mfa_assertion: str | None,
    now: datetime,
    settings: Settings,
    signing_keys: Sequence[SigningKey],
) -> dict[str, Any]:
    """Register the key whose answer this is. The registration is used up first, whatever the answer is worth."""
    permit = step_up.require(caller, mfa_assertion, "webauthn", now, settings, signing_keys)
    with atomic():
        opened = WebAuthnRegistration.take(caller, UUID(body["challenge_id"]), UUID(body["device_id"]), now)
    try:
        credential = verify_registration(
            body["credential"],
            expected_challenge=bytes(opened.challenge),
            expected_rp_id=settings.rp_id,
            expected_origins=settings.origins,
            require_user_verification=opened.user_verification == "required",
        )
        name = device_name(credential.aaguid)
        new = NewSet.for_first_method(caller)
        with atomic():
            permit.change_factors(caller, now)
            WebAuthnCredential.add(
                caller,
                now,
                device_id=opened.device_id,
                credential_id=credential.credential_id,
                public_key=credential.public_key,
                sign_count=credential.sign_count,
                aaguid=credential.aaguid,
                name=name,
                transports=" ".join(credential.transports),
                uv_initialized=credential.user_verified,
                backup_eligible=credential.backup_eligible,
                backed_up=credential.backed_up,
            )
            codes = keep_first(caller, new, now)
            audit.record(caller, "webauthn.enabled", now, device_id=opened.device_id)
            notice.send(caller, "webauthn.enabled", now, name=name)
    except InvalidCredential as refusal:
        with atomic(however_late=True):
            audit.record(caller, "proof.refused", now, device_id=opened.device_id, reason=refusal.reason)
        raise
    return {"type": "webauthn", "enabled": True, "device_id": opened.device_id, "name": name, **codes}


def remove(
    caller: Caller,
    device_id: str,
    mfa_assertion: str | None,
    now: datetime,
    settings: Settings,
    signing_keys: Sequence[SigningKey],
) -> dict[str, Any]:
    """Remove one of the caller's keys."""
    permit = step_up.require(caller, mfa_assertion, "webauthn", now, settings, signing_keys)
    device = UUID(device_id)
    with atomic():
        permit.change_factors(caller, now)
        name = WebAuthnCredential.remove(caller, device)
        mfa_enabled = forget_the_rest(caller)
        audit.record(caller, "webauthn.disabled", now, device_id=device)
        notice.send(caller, "webauthn.disabled", now, name=name)
    return {"type": "webauthn", "device_id": device, "enabled": False, "mfa_enabled": mfa_enabled}
