"""Connexion's check of Bearer tokens, without what it would look up anew for each request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from connexion.lifecycle import ConnexionRequest
from connexion.security import NO_VALUE, BearerSecurityHandler

Verify = Callable[[str], Awaitable[dict[str, Any]]]


class BearerTokens(BearerSecurityHandler):
    """Takes the token from the header `Authorization` and nowhere else (RFC 6750 section 2.1)."""

    def _get_verify_func(self, token_info_func: Verify) -> Callable[[ConnexionRequest], Awaitable[Any]]:
        async def verify(request: ConnexionRequest) -> Any:
            for name, value in request.scope["headers"]:
                if name == b"authorization":
                    scheme, _, token = value.decode("latin-1").strip().partition(" ")
                    if scheme.lower() == "bearer" and token:
                        return await token_info_func(token.strip())
            return NO_VALUE

        return verify
