"""Backup (look-up) codes: 80 random bits each, in Crockford's base32, kept as Argon2id digests.

One salt serves a whole set, so that one slow hash checks a guess against all ten. With 80 bits a code cannot be
searched; Argon2id (RFC 9106) is there for whoever holds the database and the codes of a weak generator.
"""

from __future__ import annotations

from argon2.low_level import Type, hash_secret_raw

from factors.errors import InvalidCode

COUNT = 10
CODE_BYTES = 10
SALT_BYTES = 16
DIGEST_BYTES = 32
# OWASP's least for Argon2id: 19 MiB, two passes, one lane.
MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MEANT = str.maketrans({"I": "1", "L": "1", "O": "0", "-": None, " ": None})


def codes_of(entropy: bytes) -> list[str]:
    """A set of codes as people see them, four groups of four, from `COUNT * CODE_BYTES` random bytes."""
    return [_grouped(entropy[at : at + CODE_BYTES]) for at in range(0, COUNT * CODE_BYTES, CODE_BYTES)]


def digest(code: str, salt: bytes) -> bytes:
    """The Argon2id digest of a code as typed: case, hyphens and spaces do not matter, nor I, L and O for 1 and 0.

    Raises InvalidCode when the salt cannot be one of ours: somebody has written over it, and no code is right (SEC-03).
    """
    if len(salt) != SALT_BYTES:
        raise InvalidCode(reason="salt")
    return hash_secret_raw(
        code.upper().translate(_MEANT).encode(), salt, PASSES, MEMORY_KIB, LANES, DIGEST_BYTES, Type.ID
    )


def _grouped(code: bytes) -> str:
    number = int.from_bytes(code)
    letters = "".join(ALPHABET[number >> shift & 31] for shift in range(75, -1, -5))
    return "-".join(letters[at : at + 4] for at in range(0, 16, 4))
