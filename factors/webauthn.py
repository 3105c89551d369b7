"""Registration of a WebAuthn credential: W3C WebAuthn Level 3, section 7.1.

python-fido2 parses and verifies signatures. Its `Fido2Server` is not used, since it leaves out much of what the text
asks of a relying party; the checks stand here one by one, in the order of the text and with its step numbers. What
browser and authenticator send is read in `webauthn_response` and `webauthn_authenticator_data`, keys and signatures
are the matter of `webauthn_public_key`, and section 7.2 stands in `webauthn_assertion`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from factors.errors import InvalidCredential
from factors.webauthn_attestation import verify_attestation
from factors.webauthn_authenticator_data import decode_cbor, parse_authenticator_data
from factors.webauthn_public_key import ALG, OFFERED_ALGORITHMS, check_public_key, encode_public_key
from factors.webauthn_response import (
    base64url_decode,
    base64url_encode,
    credential_id_of,
    parse_client_data,
    require,
    response_of,
)

# python-fido2 logs credential ids, which tell users apart, at INFO.
logging.getLogger("fido2").setLevel(logging.WARNING)

TRANSPORTS = ("usb", "nfc", "ble", "smart-card", "hybrid", "internal")  # section 5.8.4


@dataclass(frozen=True, slots=True)
class RegisteredCredential:
    """What is worth keeping of a registration: a credential record (W3C WebAuthn Level 3, section 4)."""

    credential_id: bytes
    public_key: bytes
    """A COSE key in CBOR, as `verify_assertion` takes it."""
    algorithm: int
    """A COSE algorithm identifier, one of those offered."""
    sign_count: int
    aaguid: UUID
    """The make of the authenticator, as it says; all zero when it does not."""
    transports: tuple[str, ...]
    user_verified: bool
    backup_eligible: bool
    backed_up: bool
    attestation_format: str
    """The format of the statement that was verified, else `none`. Its certificates are not."""


def verify_registration(
    credential: Mapping[str, object],
    *,
    expected_challenge: bytes,
    expected_rp_id: str,
    expected_origins: Collection[str],
    expected_top_origins: Collection[str] = (),
    require_user_verification: bool,
) -> RegisteredCredential:
    """Verify the answer to `creation_options` (W3C WebAuthn Level 3, section 7.1).

    The caller takes the challenge before, and keeps the credential, unless its id is known already, after (step 26).

    Args:
        credential: A `RegistrationResponseJSON`, shaped as the contract asks; its strings may hold anything.
        expected_challenge: The bytes that were sent.
        expected_rp_id: The relying party's domain.
        expected_origins: Compared whole.
        expected_top_origins: Pages that may hold the page in a frame of another origin; by default none may.
        require_user_verification: Whether it was asked for as `required`.

    Raises:
        InvalidCredential: A check fails; `reason` is a word that says which.
    """
    credential_id = credential_id_of(credential)
    response = response_of(credential)  # 7.1.3
    client_data = parse_client_data(base64url_decode(response.get("clientDataJSON")))  # 7.1.5-6, 7.1.12
    require(client_data.type == "webauthn.create", "type")  # 7.1.7
    require(client_data.challenge == base64url_encode(expected_challenge), "challenge")  # 7.1.8
    require(client_data.origin in frozenset(expected_origins), "origin")  # 7.1.9
    if client_data.cross_origin:
        require(len(expected_top_origins) > 0, "cross_origin")  # 7.1.10
    if client_data.top_origin is not None:
        require(client_data.top_origin in frozenset(expected_top_origins), "top_origin")  # 7.1.11

    attestation_object = decode_cbor(base64url_decode(response.get("attestationObject")))  # 7.1.13
    require(isinstance(attestation_object, dict), "attestation_object")
    attestation_format = attestation_object.get("fmt")
    statement = attestation_object.get("attStmt")
    raw_authenticator_data = attestation_object.get("authData")
    require(isinstance(attestation_format, str) and isinstance(statement, dict | list), "attestation_object")
    require(isinstance(raw_authenticator_data, bytes), "attestation_object")
    authenticator_data = parse_authenticator_data(raw_authenticator_data)

    require(authenticator_data.rp_id_hash == sha256(expected_rp_id.encode()).digest(), "rp_id")  # 7.1.14
    require(authenticator_data.is_user_present(), "user_presence")  # 7.1.15
    if require_user_verification:
        require(authenticator_data.is_user_verified(), "user_verification")  # 7.1.16
    if not authenticator_data.is_backup_eligible():
        require(not authenticator_data.is_backed_up(), "backup_state")  # 7.1.17
    # 7.1.18-19: backup eligibility and state are shown, not judged.

    attested = authenticator_data.credential_data
    if attested is None:
        raise InvalidCredential(reason="authenticator_data")
    require(attested.public_key.get(ALG) in OFFERED_ALGORITHMS, "algorithm")  # 7.1.20
    public_key = check_public_key(attested.public_key)
    verified_format = verify_attestation(  # 7.1.21-22
        attestation_format, statement, authenticator_data, public_key, client_data.hash
    )
    # 7.1.23-24: every attestation, and none, is as good; no trust anchors are asked.
    require(attested.credential_id == credential_id, "credential_id")  # 7.1.25: with the bound of credential_id_of
    # 7.1.26: storage refuses an id that is registered, to whomever.
    # 7.1.28: extensions were not asked for, and what comes of them is ignored.

    return RegisteredCredential(  # 7.1.27
        credential_id=credential_id,
        public_key=encode_public_key(public_key),
        algorithm=public_key[ALG],
        sign_count=authenticator_data.counter,
        aaguid=UUID(bytes=bytes(attested.aaguid)),
        transports=_known_transports(response.get("transports")),
        user_verified=authenticator_data.is_user_verified(),
        backup_eligible=authenticator_data.is_backup_eligible(),
        backed_up=authenticator_data.is_backed_up(),
        attestation_format=verified_format,
    )


def _known_transports(transports: object) -> tuple[str, ...]:
    """Those transports that the text names, each once. They are hints for browsers; unknown ones drop out."""
    if not isinstance(transports, list):
        return ()
    return tuple(transport for transport in TRANSPORTS if transport in transports)
