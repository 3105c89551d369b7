"""Attestation statements (W3C WebAuthn Level 3, section 8). We ask for none; what comes all the same must be right.

A statement is verified, its certificate chain is not: there are no trust anchors here, so it proves nothing about the
make of the authenticator and is kept as a name only. Formats that python-fido2 cannot verify in full (tpm,
android-key, android-safetynet, compound, and any unknown) count as none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography import x509
from fido2.attestation.apple import AppleAttestation
from fido2.attestation.base import Attestation, InvalidSignature
from fido2.attestation.packed import PackedAttestation
from fido2.attestation.u2f import FidoU2FAttestation
from fido2.cose import CoseKey
from fido2.webauthn import AuthenticatorData

from factors.errors import InvalidCredential
from factors.webauthn_public_key import ALG, ES256
from factors.webauthn_response import require

_VERIFIED: Mapping[str, Attestation] = {
    "packed": PackedAttestation(),
    "fido-u2f": FidoU2FAttestation(),
    "apple": AppleAttestation(),
}


def verify_attestation(
    attestation_format: str,
    statement: object,
    authenticator_data: AuthenticatorData,
    public_key: CoseKey,
    client_data_hash: bytes,
) -> str:
    """The format of the statement that was verified, `none` when it is none or one that cannot be.

    Args:
        attestation_format: As the attestation object names it.
        statement: As decoded from the attestation object.
        authenticator_data: With attested credential data.
        public_key: The credential's key, checked.
        client_data_hash: SHA-256 over the client data.

    Raises:
        InvalidCredential: The statement is broken, or its signature is.
    """
    if attestation_format == "none":
        require(statement == {}, "attestation")  # section 8.7
        return "none"
    if attestation_format not in _VERIFIED:
        return "none"

    if not isinstance(statement, dict):
        raise InvalidCredential(reason="attestation")
    if "x5c" in statement:
        # python-fido2 takes an empty chain for self attestation (section 8.2).
        require(isinstance(statement["x5c"], list) and len(statement["x5c"]) > 0, "attestation")
    if attestation_format == "fido-u2f":
        # Section 8.6: one certificate, and a key whose coordinates have 32 bytes each. python-fido2 looks at neither.
        require(len(statement.get("x5c", ())) == 1 and public_key[ALG] == ES256, "attestation")
    try:
        _VERIFIED[attestation_format].verify(statement, authenticator_data, client_data_hash)
        if attestation_format == "apple":
            _check_apple_key(statement, public_key)
    except Exception:
        # Beside its own exceptions, python-fido2 raises AssertionError, AttributeError, TypeError, NotImplementedError
        # and x509.ExtensionNotFound on statements and certificates that it did not expect.
        raise InvalidCredential(reason="attestation") from None
    return attestation_format


def _check_apple_key(statement: Mapping[str, Any], public_key: CoseKey) -> None:
    """Section 8.8, step 5, which python-fido2 leaves out: the certificate is one of the credential's own key."""
    certified = x509.load_der_x509_certificate(statement["x5c"][0]).public_key()
    if type(public_key).from_cryptography_key(certified) != public_key:
        raise InvalidSignature
