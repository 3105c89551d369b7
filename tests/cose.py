"""COSE keys and CBOR for the software authenticator, as it would have them: nothing of python-fido2, nothing read."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

ES256, EDDSA, RS256, ES384, ES512, ES256K = -7, -8, -257, -35, -36, -47

_CURVES: Mapping[int, tuple[ec.EllipticCurve, int, int, hashes.HashAlgorithm]] = {
    ES256: (ec.SECP256R1(), 1, 32, hashes.SHA256()),
    ES384: (ec.SECP384R1(), 2, 48, hashes.SHA384()),
    ES512: (ec.SECP521R1(), 3, 66, hashes.SHA512()),
    ES256K: (ec.SECP256K1(), 8, 32, hashes.SHA256()),
}

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def cbor(value: object) -> bytes:
    """Encode as CBOR (RFC 8949), maps in the order given."""
    match value:
        case bool():
            return b"\xf5" if value else b"\xf4"
        case int():
            return _cbor_head(0, value) if value >= 0 else _cbor_head(1, -1 - value)
        case bytes():
            return _cbor_head(2, len(value)) + value
        case str():
            return _cbor_head(3, len(value.encode())) + value.encode()
        case list():
            return _cbor_head(4, len(value)) + b"".join(map(cbor, value))
        case dict():
            return _cbor_head(5, len(value)) + b"".join(cbor(key) + cbor(item) for key, item in value.items())
    raise TypeError(type(value))


def _cbor_head(major: int, argument: int) -> bytes:
    for code, width, limit in ((24, ">BB", 1 << 8), (25, ">BH", 1 << 16), (26, ">BI", 1 << 32), (27, ">BQ", 1 << 64)):
        if argument < 24:
            return bytes([major << 5 | argument])
        if argument < limit:
            return struct.pack(width, major << 5 | code, argument)
    raise OverflowError(argument)


def new_key(algorithm: int) -> PrivateKey:
    if algorithm == EDDSA:
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm == RS256:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(_CURVES[algorithm][0])


def cose_key(private_key: PrivateKey, algorithm: int) -> dict[object, object]:
    """The public key as a COSE key, in CTAP 2 canonical order."""
    public = private_key.public_key()
    if isinstance(public, ed25519.Ed25519PublicKey):
        return {1: 1, 3: algorithm, -1: 6, -2: public.public_bytes_raw()}
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        return {1: 3, 3: algorithm, -1: numbers.n.to_bytes(public.key_size // 8), -2: numbers.e.to_bytes(3)}
    _, curve, width, _ = _CURVES[algorithm]
    point = public.public_numbers()
    return {1: 2, 3: algorithm, -1: curve, -2: point.x.to_bytes(width), -3: point.y.to_bytes(width)}


def sign(private_key: PrivateKey, algorithm: int, message: bytes) -> bytes:
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        return private_key.sign(message)
    if isinstance(private_key, rsa.RSAPrivateKey):
        return private_key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    return private_key.sign(message, ec.ECDSA(_CURVES[algorithm][3]))
