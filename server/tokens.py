"""Bearer tokens: access tokens of the identity provider (RFC 6750, RFC 9068), verified as RFC 8725 asks.

`openapi.yaml` names `bearer` as its `x-bearerInfoFunc`. It runs on the event loop, and all the time it takes there is
that of a signature check. What is cheap to refuse is refused first.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import jwt
import orjson

from factors.errors import InsufficientScope, InvalidToken, Refusal, StepUpRequired, Unauthenticated
from server.claims import check_claims, check_header, numeric_date
from server.jwks import key_source
from server.keyset import ASYMMETRIC, Key, KeySet, KeySource

if TYPE_CHECKING:
    from server.settings import Settings

MAX_TOKEN_LENGTH = 16 * 1024
LEEWAY = 30  # Seconds that the identity provider's clock and ours may be apart.
REMEMBERED = 10_000  # Verified tokens; with claims of the usual size they take 10 MB.

REASONS: dict[type[Exception], str] = {
    jwt.InvalidSignatureError: "signature",
    jwt.InvalidIssuerError: "issuer",
    jwt.InvalidAudienceError: "audience",
    jwt.MissingRequiredClaimError: "claim_missing",
}


class Header(NamedTuple):
    """What a token asks to be verified with."""

    kid: str | None
    algorithm: str


@dataclass(frozen=True, slots=True)
class Verified:
    """A token that passed every check. Two things can still turn against it: the time, and a change of the keys."""

    header: Header
    keys: KeySet
    begins_at: float
    ends_at: float
    claims: bytes

    def claims_at(self, now: float) -> dict[str, Any]:
        """The claims, a copy for each caller. Raises `InvalidToken` outside of the token's time."""
        if now >= self.ends_at:
            raise InvalidToken(reason="expired")
        if now < self.begins_at:
            raise InvalidToken(reason="not_yet_valid")
        claims: dict[str, Any] = orjson.loads(self.claims)
        return claims


class Verifier:
    """Tells whether a token is an access token that the issuer made for this server and that counts now.

    Args:
        issuer: The `iss` that is accepted, compared whole.
        audience: What `aud` must be, or contain.
        algorithms: Asymmetric ones, or HS256 by itself.
        tenant_claim: The claim that names the tenant, where a token has it.
        require_at_jwt: Whether `typ` must be `at+jwt`.
        keys: Where the keys come from.
        clock: Seconds since 1970.

    Raises:
        ValueError: With these arguments nothing, or too much, would be accepted.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        algorithms: Sequence[str],
        tenant_claim: str,
        require_at_jwt: bool,
        keys: KeySource,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not issuer or not audience:
            raise ValueError("Neither the issuer nor the audience of access tokens may be empty.")
        if tuple(algorithms) != ("HS256",) and (not algorithms or set(algorithms) - set(ASYMMETRIC)):
            raise ValueError(f"The algorithms are of {', '.join(ASYMMETRIC)}, or HS256 by itself.")
        self.keys = keys
        self._issuer = issuer
        self._audience = audience
        self._algorithms = tuple(algorithms)
        self._tenant_claim = tenant_claim
        self._require_at_jwt = require_at_jwt
        self._clock = clock
        self._remembered: OrderedDict[bytes, Verified] = OrderedDict()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The verifier that the settings describe. Raises ValueError, in one line, where they make no sense."""
        # A public key would do as the secret, so the two never meet (RFC 8725 section 2.1).
        algorithms = ("HS256",) if settings.jwt_secret is not None else settings.jwt_algorithms
        return cls(
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            algorithms=algorithms,
            tenant_claim=settings.jwt_tenant_claim,
            require_at_jwt=settings.jwt_require_at_jwt,
            keys=key_source(settings, algorithms),
        )

    async def verify(self, token: str) -> dict[str, Any]:
        """Verify a token and return its claims.

        Raises:
            InvalidToken: It does not verify; `reason` says in a word why.
            KeysUnavailable: The keys that could tell are out of reach.
        """
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii() or token.count(".") != 2:
            raise InvalidToken(reason="malformed")
        digest = hashlib.sha256(token.encode()).digest()
        verified = self._remembered.get(digest)
        header = verified.header if verified else self._read_header(token)
        keys = await self.keys.current()
        if verified is None or verified.keys is not keys:
            verified = await self._check(token, header, keys)
        claims = verified.claims_at(self._clock())
        self._remember(digest, verified)
        return claims

    def _read_header(self, token: str) -> Header:
        try:
            # Of the header alone, which costs a tenth, PyJWT makes the same as of the whole token later.
            header = jwt.get_unverified_header(token.partition(".")[0] + "..")
        except Exception as error:  # Whatever a stranger's bytes set off in the parser, the token is at fault.
            raise InvalidToken(reason="malformed") from error
        check_header(header, expected_algorithms=self._algorithms, require_at_jwt=self._require_at_jwt)
        return Header(header.get("kid"), header["alg"])

    async def _check(self, token: str, header: Header, keys: KeySet) -> Verified:
        """Check everything about a token but the time."""
        key = keys.find(header.kid, header.algorithm)
        if key is None:
            keys = await self.keys.newer()
            key = keys.find(header.kid, header.algorithm)
        if key is None:
            raise InvalidToken(reason="key")
        claims = self._decode(token, key)
        check_claims(claims, tenant_claim=self._tenant_claim)
        begins_at = max(numeric_date(claims, "nbf", 0), numeric_date(claims, "iat", 0)) - LEEWAY
        ends_at = numeric_date(claims, "exp") + LEEWAY
        try:
            # Copied to its size, for what orjson returns holds on to a buffer of 4 KiB.
            plain = bytes(memoryview(orjson.dumps(claims)))
        except orjson.JSONEncodeError as error:
            # Lone surrogates, integers over 64 bits and nesting without end would only fail later, in other hands.
            raise InvalidToken(reason="malformed") from error
        return Verified(header, keys, begins_at, ends_at, plain)

    def _decode(self, token: str, key: Key) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key.material,
                algorithms=self._algorithms,
                issuer=self._issuer,
                audience=self._audience,
                options={
                    "require": ["iss", "aud", "sub", "exp"],
                    "enforce_minimum_key_length": True,
                    # PyJWT asks the clock by itself, takes a number in a string and cuts fractions off. A remembered
                    # token needs these checks again, so they are made in one place, `Verified.claims_at`.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except Exception as error:  # As above: PyJWT and cryptography let more through than their own errors.
            raise InvalidToken(reason=REASONS.get(type(error), "malformed")) from error

    def _remember(self, digest: bytes, verified: Verified) -> None:
        self._remembered[digest] = verified
        self._remembered.move_to_end(digest)
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)


def challenge(error: Refusal) -> str:
    """The `WWW-Authenticate` of a refusal: without credentials only the scheme (RFC 6750 section 3.1)."""
    match error:
        case Unauthenticated():
            return "Bearer"
        case InsufficientScope(scope=scope):
            return f'Bearer error="insufficient_scope", scope="{scope}"'
        case StepUpRequired(acr_values=acr_values, max_age=max_age):  # RFC 9470 section 3
            wanted = f', acr_values="{" ".join(acr_values)}"' if acr_values else ""
            return f'Bearer error="insufficient_user_authentication"{wanted}, max_age="{max_age}"'
        case _:
            return f'Bearer error="{error.code}"'


_verifier: Verifier | None = None


def use(verifier: Verifier) -> None:
    """Let `bearer` ask this verifier from now on."""
    global _verifier
    _verifier = verifier


def current() -> Verifier:
    """The verifier in use. Raises RuntimeError where there is none yet."""
    if _verifier is None:
        raise RuntimeError("server.tokens.use has not been called.")
    return _verifier


async def bearer(token: str) -> dict[str, Any]:
    """The claims of the Bearer token of a request. Raises as `Verifier.verify` does."""
    return await current().verify(token)


async def bearer_for_verify(token: str) -> dict[str, Any]:
    """The claims of a service token of scope `mfa:verify`. Raises InsufficientScope, or as `bearer` does."""
    return await _with_scope(token, "mfa:verify")


async def bearer_for_introspect(token: str) -> dict[str, Any]:
    """The claims of a service token of scope `mfa:introspect`. Raises InsufficientScope, or as `bearer` does."""
    return await _with_scope(token, "mfa:introspect")


async def _with_scope(token: str, scope: str) -> dict[str, Any]:
    claims = await bearer(token)
    granted = claims.get("scope")
    if not isinstance(granted, str) or scope not in granted.split(" "):
        raise InsufficientScope(scope)
    return claims
