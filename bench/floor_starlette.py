"""The floor: Starlette, and nothing between a request and its handler but PyJWT."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import jwt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bench import floor
from bench.floor import Body, Refused

SIX_DIGITS = re.compile(r"[0-9]{6}")
NO_STORE = {"cache-control": "no-store"}


def operation(handle: Callable[[Body, Body], Body], needs: tuple[str, ...] = ()) -> Any:
    """An endpoint that reads token and body. The handler runs on the event loop, where sqlite3 is at its cheapest."""

    async def endpoint(request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return JSONResponse({"code": "unauthenticated"}, 401, {"www-authenticate": "Bearer"})
        try:
            claims = floor.claims(token)
        except jwt.InvalidTokenError:
            return JSONResponse({"code": "invalid_token"}, 401, {"www-authenticate": 'Bearer error="invalid_token"'})
        body: Any = {}
        if needs:
            try:
                body = json.loads(await request.body())
            except ValueError:
                return JSONResponse({"detail": "JSON expected"}, 422)
            if not isinstance(body, dict) or any(name not in body for name in needs):
                return JSONResponse({"detail": f"expected: {needs}"}, 422)
            if "code" in body and not (isinstance(body["code"], str) and SIX_DIGITS.fullmatch(body["code"])):
                return JSONResponse({"detail": "six digits expected"}, 422)
        try:
            return JSONResponse(handle(claims, body), headers=NO_STORE)
        except Refused as refused:
            return JSONResponse(refused.body, refused.status, NO_STORE, "application/problem+json")

    return endpoint


def verify(claims: Body, body: Body) -> Body:
    handle = floor.webauthn_verify if "credential" in body else floor.totp_verify
    return handle(claims["sub"], body)


ME = "/api/v1/me/mfa"
app = Starlette(
    routes=[
        Route(ME, operation(lambda claims, _: floor.list_methods(claims["sub"]))),
        Route(
            f"{ME}/totp/enable",
            operation(lambda claims, _: floor.totp_enable(claims["sub"], claims["email"])),
            methods=["POST"],
        ),
        Route(
            f"{ME}/totp/confirm",
            operation(lambda claims, body: floor.totp_confirm(claims["sub"], body), ("code",)),
            methods=["POST"],
        ),
        Route(
            f"{ME}/webauthn/register/begin",
            operation(lambda claims, _: floor.webauthn_begin(claims["sub"], claims["email"])),
            methods=["POST"],
        ),
        Route(
            f"{ME}/webauthn/register/complete",
            operation(
                lambda claims, body: floor.webauthn_complete(claims["sub"], body),
                ("challenge_id", "device_id", "credential"),
            ),
            methods=["POST"],
        ),
        Route(
            f"{ME}/challenge", operation(lambda claims, _: floor.webauthn_challenge(claims["sub"])), methods=["POST"]
        ),
        Route(f"{ME}/verify", operation(verify, ("challenge_id",)), methods=["POST"]),
    ]
)
