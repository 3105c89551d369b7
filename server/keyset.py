"""The keys that verify access tokens: how they are read, and which of them a token may ask for.

Nothing in a token ever names a source of keys (RFC 8725 section 3.10): `jku`, `jwk`, `x5u` and `x5c` are not even read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt.algorithms import Algorithm, AllowedPublicKeys

ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
MAX_KEYS = 100  # Reading a key takes up to a third of a millisecond, on the event loop.


@dataclass(frozen=True, slots=True)
class Key:
    """A public key or an HS256 secret, with those of the configured algorithms that it may verify."""

    kid: str | None
    algorithms: frozenset[str]
    material: AllowedPublicKeys | bytes


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys that count at one time. A set is replaced, never changed: `is` tells whether the keys are others."""

    keys: tuple[Key, ...]

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """The key of that name for the algorithm, else the only one without a name; for no name, the only key."""
        fitting = [key for key in self.keys if algorithm in key.algorithms]
        if kid is not None:
            # A PEM file has no place for a name, so its key answers to any.
            fitting = [key for key in fitting if key.kid == kid][:1] or [key for key in fitting if key.kid is None]
        return fitting[0] if len(fitting) == 1 else None


class KeySource(Protocol):
    """What the verifier asks for keys. All of it runs on the event loop, and none of it blocks."""

    async def current(self) -> KeySet:
        """The keys that count now. Raises `KeysUnavailable`."""

    async def newer(self) -> KeySet:
        """The keys after one more look, for a key that `current` does not hold. Raises `KeysUnavailable`."""

    async def ready(self) -> bool:
        """Whether there are keys to verify with, at hand or after one fetch."""


class FixedKeys:
    """Keys that change with a restart only."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    @classmethod
    def from_text(cls, text: str, algorithms: Sequence[str]) -> FixedKeys:
        """Read the text of a key file: a JWK set, or a PEM with one public or one private key.

        Raises:
            ValueError: It is neither, or nothing in it can verify any of the algorithms.
        """
        keys = read_jwks(text, algorithms) if text.lstrip().startswith("{") else _read_pem(text, algorithms)
        if not keys.keys:
            raise ValueError(f"The key file has no public key for {', '.join(algorithms)} (RSA: from 2048 bits).")
        return cls(keys)

    @classmethod
    def from_secret(cls, secret: str) -> FixedKeys:
        """Take the shared secret of HS256.

        Raises:
            ValueError: It is shorter than 32 bytes (RFC 7518 section 3.2), or the text of an asymmetric key.
        """
        material = secret.encode()
        fitting = _fitting(material, ("HS256",))
        if not fitting:
            raise ValueError("A secret for HS256 has 32 bytes or more and is not the text of a PEM or JWK.")
        return cls(KeySet((Key(None, fitting, material),)))

    async def current(self) -> KeySet:
        return self._keys

    async def newer(self) -> KeySet:
        return self._keys

    async def ready(self) -> bool:
        return True


def read_jwks(document: str | bytes, algorithms: Sequence[str]) -> KeySet:
    """Read a JWK set (RFC 7517 section 5), leaving out the keys that cannot be used. It may come out empty.

    Raises:
        ValueError: The document is no JWK set. Nested absurdly deep, it is a RecursionError.
    """
    try:
        parsed = json.loads(document)
    except ValueError as error:
        raise ValueError("This is no JWK set, for it is no JSON.") from error
    members = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(members, list) or len(members) > MAX_KEYS:
        raise ValueError(f"This is no JWK set of at most {MAX_KEYS} keys.")
    keys = (_read_jwk(member, algorithms) for member in members)
    return KeySet(tuple(key for key in keys if key is not None))


def _read_jwk(member: Any, algorithms: Sequence[str]) -> Key | None:
    if not isinstance(member, dict) or not isinstance(member.get("kid", ""), str):
        return None
    # A secret or private key in a published set is everyone's: what it signs proves nothing.
    if member.get("kty") == "oct" or "d" in member:
        return None
    operations = member.get("key_ops")
    if member.get("use") not in (None, "sig") or (isinstance(operations, list) and "verify" not in operations):
        return None
    try:
        material = jwt.PyJWK(member).key
    except Exception:
        # Besides its own errors PyJWT lets TypeError, KeyError, NotImplementedError and cryptography's
        # UnsupportedAlgorithm through. RFC 7517 section 5: a key that cannot be used is ignored, the others count.
        return None
    declared = member.get("alg")
    fitting = _fitting(material, [name for name in algorithms if declared in (None, name)])
    return Key(member.get("kid"), fitting, material) if fitting else None


def _read_pem(text: str, algorithms: Sequence[str]) -> KeySet:
    data = text.encode()
    key: Any
    try:
        if "PRIVATE KEY-----" in text:
            key = load_pem_private_key(data, password=None).public_key()
        else:
            key = load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: the key wants a password.
        raise ValueError(
            "The key file is neither a JWK set nor the PEM of a public or unencrypted private key."
        ) from error
    fitting = _fitting(key, algorithms)
    return KeySet((Key(None, fitting, key),) if fitting else ())


def _fitting(material: Any, algorithms: Sequence[str]) -> frozenset[str]:
    """Those that the key serves, by PyJWT's own judgement of its family, curve and size (RFC 7518 section 3)."""
    return frozenset(name for name in algorithms if _fits(material, jwt.get_algorithm_by_name(name)))


def _fits(material: Any, algorithm: Algorithm) -> bool:
    try:
        return algorithm.check_key_length(algorithm.prepare_key(material)) is None
    except (jwt.InvalidKeyError, TypeError):
        return False
