"""Codes by e-mail: what a usable mailbox is, how it is shown, and what a code looks like."""

from __future__ import annotations

import re

CODES = 1_000_000
LONGEST_ADDRESS = 254
# One RFC 5321 mailbox in dot-string form: nothing that could end a header, name a second recipient or quote (EML-07).
_MAILBOX = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64})*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?",
)
_LONGEST_LOCAL_PART = 64


def mailbox(claim: object) -> str | None:
    """The mailbox that an access token's `email` names, or None when it is not exactly one (RFC 5321 section 4.1.2)."""
    if not isinstance(claim, str) or len(claim) > LONGEST_ADDRESS or not _MAILBOX.fullmatch(claim):
        return None
    return claim if claim.index("@") <= _LONGEST_LOCAL_PART else None


def masked(address: str) -> str:
    """`a•••@example.com`; a mailbox of one letter shows none of it."""
    local, _, domain = address.rpartition("@")
    return f"{local[0] if len(local) > 1 else ''}•••@{domain}"


def code_of(number: int) -> str:
    """A random number below `CODES` as six digits, leading zeros kept."""
    return f"{number:06d}"
