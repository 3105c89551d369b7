"""Secrets at rest: sealed with AES-256-GCM, or kept only as a keyed digest.

A sealed value is `key id:base64(nonce ‖ ciphertext)`. Table, user and row are its associated data, so a value that
was moved to another row, or another user, does not open (SEC-01). Keys come from `MFA_SECRET_KEYS`; the first one
seals, all of them open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 12


class Unsealable(Exception):
    """The value was tampered with or moved, or the key that sealed it is not configured."""


class Keyring:
    """The keys of `MFA_SECRET_KEYS`.

    Args:
        keys: 32-byte keys by their id, newest first.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys.values()):
            raise ValueError("a keyring holds at least one key of 32 bytes")
        self.current = next(iter(keys))
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self._digest_keys = {
            name: HKDF(SHA256(), KEY_BYTES, salt=None, info=b"mfa-server code digest").derive(key)
            for name, key in keys.items()
        }

    def seal(self, plaintext: bytes, *, table: str, user: UUID, row: UUID) -> str:
        nonce = secrets.token_bytes(NONCE_BYTES)
        ciphertext = self._ciphers[self.current].encrypt(nonce, plaintext, _place(table, user, row))
        return f"{self.current}:{base64.b64encode(nonce + ciphertext).decode()}"

    def unseal(self, sealed: str, *, table: str, user: UUID, row: UUID) -> bytes:
        name, _, value = sealed.partition(":")
        try:
            raw = base64.b64decode(value, validate=True)
            return self._ciphers[name].decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _place(table, user, row))
        except (KeyError, ValueError, binascii.Error, InvalidTag) as error:
            raise Unsealable(table) from error

    def digest(self, code: str, *context: str) -> str:
        return self._digest(self.current, code, context)

    def digest_matches(self, expected: str, code: str, *context: str) -> bool:
        name = expected.partition(":")[0]
        if name not in self._digest_keys:
            return False
        # As bytes: a row that was tampered with may hold text that is not ASCII, which only bytes compare.
        return hmac.compare_digest(expected.encode(), self._digest(name, code, context).encode())

    def _digest(self, name: str, code: str, context: tuple[str, ...]) -> str:
        message = "\x00".join((*context, code)).encode()
        return f"{name}:{hmac.new(self._digest_keys[name], message, hashlib.sha256).hexdigest()}"


def _place(table: str, user: UUID, row: UUID) -> bytes:
    return b"|".join((table.encode(), user.bytes, row.bytes))


_keyring: Keyring | None = None


def use(keys: Mapping[str, bytes]) -> None:
    """Seal and open with these keys from now on: 32 bytes each by id, newest first."""
    global _keyring
    _keyring = Keyring(keys)


def _current() -> Keyring:
    if _keyring is None:
        raise RuntimeError("no sealing keys: call storage.sealing.use first")
    return _keyring


def seal(plaintext: bytes, *, table: str, user: UUID, row: UUID) -> str:
    """Encrypt for one row of one user's; the value names its key."""
    return _current().seal(plaintext, table=table, user=user, row=row)


def unseal(sealed: str, *, table: str, user: UUID, row: UUID) -> bytes:
    """The plaintext of `seal`. Raises Unsealable."""
    return _current().unseal(sealed, table=table, user=user, row=row)


def digest(code: str, *context: str) -> str:
    """A keyed digest (HMAC-SHA-256) of a short code in its context; without the key it cannot be searched (EML-09)."""
    return _current().digest(code, *context)


def digest_matches(expected: str, code: str, *context: str) -> bool:
    """Whether `code` in this context has the digest `expected`, compared in constant time."""
    return _current().digest_matches(expected, code, *context)
