"""The signed answer to a verification: what was shown, told truthfully (RFC 8176), to whoever trusts our keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm

from factors.errors import InvalidCode

LIFETIME = timedelta(minutes=5)
TYPE = "mfa+jwt"
ALGORITHM = "ES256"

# What each method says of itself. E-mail and backup codes have no registered value.
AMR = {
    "totp": ("otp",),
    "email": ("urn:mfa-server:amr:email",),
    "backup_code": ("urn:mfa-server:amr:backup-code",),
}
ACR = {
    "totp": "mfa",
    "webauthn": "phr",
    "email": "urn:mfa-server:acr:email",
    "backup_code": "urn:mfa-server:acr:backup-code",
}
# Ours are things that one has; RFC 8176 values of things that one knows or is make a second kind of them.
OTHER_KINDS = frozenset({"pwd", "pin", "kba", "face", "fpt", "iris", "retina", "vbm"})
# A mailbox is not something that one has (NIST SP 800-63B-4, 3.1.3.1), so it makes no second kind.
POSSESSIONS = frozenset({"totp", "webauthn", "backup_code"})


def webauthn_amr(*, backup_eligible: bool) -> tuple[str, ...]:
    """A credential that can leave its authenticator is as good as a software key. The user was present (WA 7.2.16)."""
    return ("swk" if backup_eligible else "hwk", "user")


def amr_of(method: str, shown: Sequence[str], token_amr: Sequence[str], *, assume_first_factor: bool) -> list[str]:
    """`amr` of an assertion: what was shown here, and `mfa` when the login showed another kind.

    Args:
        method: The method that was verified.
        shown: Its own values.
        token_amr: The claim `amr` of the access token.
        assume_first_factor: Whether every login is known to show something that one knows or is.
    """
    another_kind = assume_first_factor or not OTHER_KINDS.isdisjoint(token_amr)
    return [*shown, "mfa"] if method in POSSESSIONS and another_kind else list(shown)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A P-256 key pair and its name, the RFC 7638 thumbprint."""

    kid: str
    private: EllipticCurvePrivateKey

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Raises ValueError when it is no unencrypted P-256 private key."""
        private = load_pem_private_key(pem, password=None)
        if not isinstance(private, EllipticCurvePrivateKey) or not isinstance(private.curve, SECP256R1):
            raise ValueError("a signing key is a P-256 private key")
        return cls(_thumbprint(private), private)

    def public_jwk(self) -> dict[str, str]:
        jwk = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**jwk, "kid": self.kid, "use": "sig", "alg": ALGORITHM}


def _thumbprint(private: EllipticCurvePrivateKey) -> str:
    jwk = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    digest = hashlib.sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode()).digest()
    return jwt.utils.base64url_encode(digest).decode()


# PyJWT's own layer below `jwt.encode`, which would look through claims that are made here.
_jws = jwt.PyJWS([ALGORITHM])


def sign(key: SigningKey, claims: Mapping[str, Any], *, jti: str, now: datetime) -> str:
    """An assertion of these claims, good for five minutes from `now`."""
    issued = int(now.timestamp())
    times = {"iat": issued, "exp": issued + int(LIFETIME.total_seconds()), "auth_time": issued, "jti": jti}
    payload = json.dumps({**claims, **times}, separators=(",", ":")).encode()
    return _jws.encode(payload, key.private, ALGORITHM, {"typ": TYPE, "kid": key.kid})


def read(
    token: str, keys: Sequence[SigningKey], *, expected_issuer: str, expected_audience: str, now: datetime
) -> dict[str, Any]:
    """The claims of an assertion that one of our keys signed and that has not expired. Raises InvalidCode."""
    try:
        header = jwt.get_unverified_header(token)
        key = next(key for key in keys if key.kid == header.get("kid"))
        claims: dict[str, Any] = jwt.decode(
            token,
            key.private.public_key(),
            algorithms=[ALGORITHM],
            issuer=expected_issuer,
            audience=expected_audience,
            # The clock is the caller's, so the times are compared below.
            options={"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "sub", "jti"]},
        )
    except Exception as error:  # Whatever a stranger's bytes set off in the parser, the token is at fault.
        raise InvalidCode(reason="assertion") from error
    if header.get("typ") != TYPE:
        raise InvalidCode(reason="assertion")
    if datetime.fromtimestamp(claims["exp"], UTC) <= now:
        raise InvalidCode(reason="expired")
    return claims
