"""Credential public keys: the algorithms that are offered, what their keys must look like, and their signatures.

python-fido2 verifies signatures but looks at a key only when it does so, and then neither at its type nor at its size.
A key is checked whole before it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from fido2 import cbor
from fido2.cose import CoseKey

from factors.errors import InvalidCredential
from factors.webauthn_authenticator_data import decode_cbor
from factors.webauthn_response import require

# COSE key parameters (RFC 9052, section 7.1; RFC 9053, section 7; RFC 8230, section 4).
KTY, ALG = 1, 3
CRV, X, Y = -1, -2, -3
N, E = -1, -2

ES256, EDDSA, RS256, ES384, ES512 = -7, -8, -257, -35, -36

RSA_MODULUS_BITS = range(2048, 8192 + 1)
RSA_EXPONENT_BYTES = range(1, 4 + 1)


@dataclass(frozen=True, slots=True)
class _Shape:
    """The parameters of a key whose values are given, and those that are byte strings, with their lengths."""

    given: Mapping[int, int]
    lengths: Mapping[int, range]


def _exactly(length: int) -> range:
    return range(length, length + 1)


# In the order of preference, which is the order in which they are offered. Section 5.8.5 ties each to one curve.
_SHAPES: Mapping[int, _Shape] = {
    ES256: _Shape({KTY: 2, CRV: 1}, {X: _exactly(32), Y: _exactly(32)}),
    EDDSA: _Shape({KTY: 1, CRV: 6}, {X: _exactly(32)}),
    RS256: _Shape({KTY: 3}, {N: range(256, 1024 + 1), E: RSA_EXPONENT_BYTES}),
    ES384: _Shape({KTY: 2, CRV: 2}, {X: _exactly(48), Y: _exactly(48)}),
    ES512: _Shape({KTY: 2, CRV: 3}, {X: _exactly(66), Y: _exactly(66)}),
}
OFFERED_ALGORITHMS: tuple[int, ...] = tuple(_SHAPES)


def check_public_key(key: CoseKey) -> CoseKey:
    """The same key, once it is known to be whole: the parameters of its algorithm, no others, and a point on its curve.

    Raises InvalidCredential. The caller has seen that its algorithm is one of those offered.
    """
    shape = _SHAPES[key[ALG]]
    checked = CoseKey.parse({ALG: key[ALG], **shape.given})
    for parameter, lengths in shape.lengths.items():
        value = key.get(parameter)
        require(isinstance(value, bytes) and len(value) in lengths, "public_key")
        checked[parameter] = value
    # Encoded, also `true` differs from 1, and a parameter too many shows.
    require(cbor.encode(checked) == cbor.encode(key), "public_key")
    if key[ALG] == RS256:
        modulus = int.from_bytes(key[N])
        require(modulus % 2 == 1 and modulus.bit_length() in RSA_MODULUS_BITS, "public_key")
        require(key[N][0] != 0 and key[E][0] != 0, "public_key")  # RFC 8230: no more bytes than it takes
    try:
        checked.verify(b"", b"")
    except InvalidSignature:
        pass  # The good outcome: the key could be loaded, and this was of course no signature of its.
    except Exception:
        # python-fido2 and cryptography refuse a point off the curve, or an even exponent, by exceptions of several
        # types, none documented.
        raise InvalidCredential(reason="public_key") from None
    return checked


def encode_public_key(key: CoseKey) -> bytes:
    """A checked key as CBOR in CTAP 2 canonical form, to be kept."""
    return cbor.encode(key)


def verify_signature(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Verify a signature by a key that `encode_public_key` made. Raises InvalidCredential unless it is valid."""
    key = decode_cbor(public_key)
    require(isinstance(key, dict) and key.get(ALG) in OFFERED_ALGORITHMS, "public_key")
    try:
        CoseKey.parse(key).verify(message, signature)
    except Exception:
        # It returns nothing, so that it raises is the verdict: InvalidSignature, or whatever a broken key leads to.
        raise InvalidCredential(reason="signature") from None
