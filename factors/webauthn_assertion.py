"""Verification of a WebAuthn assertion: W3C WebAuthn Level 3, section 7.2. The checks stand as in `webauthn`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256

from factors.webauthn_authenticator_data import parse_authenticator_data
from factors.webauthn_public_key import verify_signature
from factors.webauthn_response import (
    base64url_decode,
    base64url_encode,
    credential_id_of,
    parse_client_data,
    require,
    response_of,
)


@dataclass(frozen=True, slots=True)
class VerifiedAssertion:
    """What the credential record becomes (W3C WebAuthn Level 3, section 7.2.24)."""

    sign_count: int
    user_verified: bool
    backed_up: bool


def verify_assertion(
    credential: Mapping[str, object],
    *,
    expected_challenge: bytes,
    expected_rp_id: str,
    expected_origins: Collection[str],
    expected_top_origins: Collection[str] = (),
    require_user_verification: bool,
    expected_user_handle: bytes,
    credential_id: bytes,
    public_key: bytes,
    sign_count: int,
    backup_eligible: bool,
) -> VerifiedAssertion:
    """Verify the answer to `request_options` (W3C WebAuthn Level 3, section 7.2).

    The caller takes the challenge before, finds the record by `credential_id_of` among those allowed, and keeps the
    new state by a guarded update after, since another assertion may have come in between.

    Args:
        credential: An `AuthenticationResponseJSON`, shaped as the contract asks; its strings may hold anything.
        expected_challenge: The bytes that were sent.
        expected_rp_id: The relying party's domain.
        expected_origins: Compared whole.
        expected_top_origins: Pages that may hold the page in a frame of another origin; by default none may.
        require_user_verification: Whether it was asked for as `required`.
        expected_user_handle: The user's.
        credential_id: The record's.
        public_key: The record's, as `verify_registration` gave it.
        sign_count: The record's.
        backup_eligible: The record's.

    Raises:
        InvalidCredential: A check fails; `reason` is a word that says which. `sign_count` hints at a cloned key.
    """
    require(credential_id_of(credential) == credential_id, "credential_id")  # 7.2.5
    response = response_of(credential)  # 7.2.3
    if response.get("userHandle") is not None:
        require(base64url_decode(response["userHandle"]) == expected_user_handle, "user_handle")  # 7.2.6
    signature = base64url_decode(response.get("signature"))  # 7.2.7
    raw_authenticator_data = base64url_decode(response.get("authenticatorData"))
    client_data = parse_client_data(base64url_decode(response.get("clientDataJSON")))  # 7.2.8-9, 7.2.20
    require(client_data.type == "webauthn.get", "type")  # 7.2.10
    require(client_data.challenge == base64url_encode(expected_challenge), "challenge")  # 7.2.11
    require(client_data.origin in frozenset(expected_origins), "origin")  # 7.2.12
    if client_data.cross_origin:
        require(len(expected_top_origins) > 0, "cross_origin")  # 7.2.13
    if client_data.top_origin is not None:
        require(client_data.top_origin in frozenset(expected_top_origins), "top_origin")  # 7.2.14

    authenticator_data = parse_authenticator_data(raw_authenticator_data)
    require(not authenticator_data.is_attested(), "authenticator_data")  # 6.1: only a registration attests
    require(authenticator_data.rp_id_hash == sha256(expected_rp_id.encode()).digest(), "rp_id")  # 7.2.15
    require(authenticator_data.is_user_present(), "user_presence")  # 7.2.16
    if require_user_verification:
        require(authenticator_data.is_user_verified(), "user_verification")  # 7.2.17
    if not authenticator_data.is_backup_eligible():
        require(not authenticator_data.is_backed_up(), "backup_state")  # 7.2.18
    require(authenticator_data.is_backup_eligible() == backup_eligible, "backup_eligibility")  # 7.2.19

    verify_signature(public_key, raw_authenticator_data + client_data.hash, signature)  # 7.2.21
    if authenticator_data.counter != 0 or sign_count != 0:
        require(authenticator_data.counter > sign_count, "sign_count")  # 7.2.22
    # 7.2.23: extensions were not asked for, and what comes of them is ignored.

    return VerifiedAssertion(  # 7.2.24
        sign_count=authenticator_data.counter,
        user_verified=authenticator_data.is_user_verified(),
        backed_up=authenticator_data.is_backed_up(),
    )
