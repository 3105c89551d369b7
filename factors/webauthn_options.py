"""What a browser is asked for, as JSON for `parseCreationOptionsFromJSON` and `parseRequestOptionsFromJSON`.

W3C WebAuthn Level 3, sections 5.4, 5.5 and 5.1.9.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, TypeAlias

from factors.webauthn_public_key import OFFERED_ALGORITHMS
from factors.webauthn_response import base64url_encode

TIMEOUT_MS = 300_000  # as long as the challenge lives

Descriptor: TypeAlias = tuple[bytes, Collection[str]]
"""A credential's id, and the transports it was registered with."""


def creation_options(
    *,
    challenge: bytes,
    rp_id: str,
    rp_name: str,
    user_handle: bytes,
    user_name: str,
    user_display_name: str,
    exclude_credentials: Iterable[Descriptor],
    user_verification: str,
    timeout_ms: int = TIMEOUT_MS,
) -> dict[str, Any]:
    """Ask for a new credential: a `PublicKeyCredentialCreationOptionsJSON`.

    Args:
        challenge: 32 random bytes, kept on the server.
        rp_id: The relying party's domain.
        rp_name: What the user knows the relying party as.
        user_handle: 1 to 64 random bytes, the same for every credential of the user, telling nothing about them.
        user_name: What tells the user's accounts apart; the authenticator may show it.
        user_display_name: What the user is called.
        exclude_credentials: Those the user has, so that no authenticator is registered twice.
        user_verification: `required`, `preferred` or `discouraged`.
        timeout_ms: How long the browser waits, in milliseconds.
    """
    return {
        "rp": {"id": rp_id, "name": rp_name},
        "user": {"id": base64url_encode(user_handle), "name": user_name, "displayName": user_display_name},
        "challenge": base64url_encode(challenge),
        "pubKeyCredParams": [{"type": "public-key", "alg": algorithm} for algorithm in OFFERED_ALGORITHMS],
        "timeout": timeout_ms,
        "excludeCredentials": _descriptors(exclude_credentials),
        "authenticatorSelection": {
            # A second factor is always asked for by its id, so it need not take one of a key's few places.
            "residentKey": "discouraged",
            "requireResidentKey": False,
            "userVerification": user_verification,
        },
        "attestation": "none",
    }


def request_options(
    *,
    challenge: bytes,
    rp_id: str,
    allow_credentials: Iterable[Descriptor],
    user_verification: str,
    timeout_ms: int = TIMEOUT_MS,
) -> dict[str, Any]:
    """Ask for an assertion by one of the user's credentials: a `PublicKeyCredentialRequestOptionsJSON`.

    Args:
        challenge: 32 random bytes, kept on the server.
        rp_id: The relying party's domain.
        allow_credentials: Those the user has; at least one.
        user_verification: `required`, `preferred` or `discouraged`.
        timeout_ms: How long the browser waits, in milliseconds.
    """
    return {
        "challenge": base64url_encode(challenge),
        "timeout": timeout_ms,
        "rpId": rp_id,
        "allowCredentials": _descriptors(allow_credentials),
        "userVerification": user_verification,
    }


def _descriptors(credentials: Iterable[Descriptor]) -> list[dict[str, Any]]:
    return [
        {"type": "public-key", "id": base64url_encode(credential_id), "transports": list(transports)}
        for credential_id, transports in credentials
    ]
