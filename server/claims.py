"""What an access token must say, in its header and in its claims: pure checks, without keys and without a clock.

Each of them raises `InvalidToken` with the reason in a word. RFC 9068 section 4, RFC 8725 section 3.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from factors.errors import InvalidToken

ACCESS_TOKEN_TYPES = ("at+jwt", "application/at+jwt")  # RFC 9068 section 2.1
ID_TOKEN_TYPES = ("id", "id_token", "id-token", "id+jwt", "application/id+jwt")
MAX_NAME_LENGTH = 255  # Characters of `sub` (OpenID Connect Core section 2), and of a tenant.
LAST_DATE = 253_402_300_799  # The end of the year 9999, which is also that of datetime.


def check_header(header: dict[str, Any], *, expected_algorithms: Collection[str], require_at_jwt: bool) -> None:
    """Check a header that nothing vouches for yet."""
    # An extension that must be understood is one that we do not (RFC 7515 section 4.1.11, RFC 7797 section 6).
    if "crit" in header or "b64" in header:
        raise InvalidToken(reason="critical")
    if header.get("alg") not in expected_algorithms:
        raise InvalidToken(reason="algorithm")
    kind = _lower(header.get("typ", "JWT"))
    if kind in ID_TOKEN_TYPES:
        raise InvalidToken(reason="id_token")
    # An allow-list: logout tokens, proofs and our own assertions (mfa+jwt) carry types of their own.
    if kind not in ACCESS_TOKEN_TYPES and (kind != "jwt" or require_at_jwt):
        raise InvalidToken(reason="type")


def check_claims(claims: dict[str, Any], *, tenant_claim: str) -> None:
    """Check the claims of a token whose signature, issuer and audience are right."""
    # Keycloak names the kind of a token in a claim `typ`, Cognito in `token_use`.
    kinds = (_lower(claims.get("typ")), _lower(claims.get("token_use")))
    if "nonce" in claims or "at_hash" in claims or any(kind in ID_TOKEN_TYPES for kind in kinds):
        raise InvalidToken(reason="id_token")
    if "cnf" in claims:
        # Its holder would have to prove possession of a key (RFC 7800 section 3), which this server cannot ask for.
        raise InvalidToken(reason="sender_constrained")
    _check_name(claims.get("sub"), reason="subject")
    if tenant_claim in claims:
        _check_name(claims[tenant_claim], reason="tenant")


def numeric_date(claims: dict[str, Any], name: str, default: int | None = None) -> float:
    """The claim's seconds since 1970 (RFC 7519 section 2)."""
    value: Any = claims.get(name, default)
    # To Python a bool is an int. NaN fails the comparison, and no float is made of an integer it cannot hold.
    if type(value) not in (int, float) or not 0 <= value <= LAST_DATE:
        raise InvalidToken(reason="date")
    return float(value)


def _check_name(value: Any, *, reason: str) -> None:
    # The database finds a user by it, and cannot store a NUL.
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME_LENGTH or "\0" in value:
        raise InvalidToken(reason=reason)


def _lower(value: Any) -> str | None:
    return value.lower() if isinstance(value, str) else None
