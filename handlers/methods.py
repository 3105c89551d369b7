"""What the user has."""

from __future__ import annotations

from typing import Any

from factors import email
from storage.methods import Enabled, Mailbox, Methods
from storage.user import Caller
from storage.webauthn import WebAuthnCredential


def list_all(caller: Caller) -> dict[str, Any]:
    """The confirmed methods, and how many backup codes are left."""
    methods = Methods.of(caller)
    listed = [_totp(methods.totp)] if methods.totp else []
    listed += [_email(methods.email)] if methods.email else []
    listed += [_webauthn(credential) for credential in methods.credentials]
    codes = methods.backup_codes
    counts = {"total": codes.total, "remaining": codes.remaining, "generated_at": codes.generated_at}
    return {"mfa_enabled": methods.enabled, "methods": listed, "backup_codes": counts}


def _totp(device: Enabled) -> dict[str, Any]:
    return {
        "type": "totp",
        "device_id": device.device_id,
        "name": "Authenticator app",
        "created_at": device.since,
        "last_used_at": device.last_used_at,
    }


def _email(mailbox: Mailbox) -> dict[str, Any]:
    return {
        "type": "email",
        "device_id": mailbox.device_id,
        "name": "E-mail",
        "created_at": mailbox.since,
        "last_used_at": mailbox.last_used_at,
        "email": email.masked(mailbox.address),
    }


def _webauthn(credential: WebAuthnCredential) -> dict[str, Any]:
    return {
        "type": "webauthn",
        "device_id": credential.device_id,
        "name": credential.name,
        "created_at": credential.created_at,
        "last_used_at": credential.last_used_at,
        "aaguid": credential.aaguid,
        "transports": credential.transports.split(),
        "backup_eligible": credential.backup_eligible,
        "backed_up": credential.backed_up,
    }
