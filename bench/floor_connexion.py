"""The same handlers behind Connexion as it comes: its middlewares, its validation, our contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jwt
import yaml
from connexion import AsyncApp
from connexion.exceptions import OAuthProblem

from bench import floor
from bench.floor import Body, Refused

CONTRACT = Path(__file__).parent.parent / "openapi.yaml"
HANDLERS = {
    "handlers.methods.list_all": "list_all",
    "handlers.totp.enable": "enable",
    "handlers.totp.confirm": "confirm",
    "handlers.webauthn.begin": "begin",
    "handlers.webauthn.complete": "complete",
    "handlers.verification.challenge": "challenge",
    "handlers.verification.verify": "verify",
}

# The contract gives an answer two media types, so Connexion wants to be told which one it is.
Answer = tuple[Body, int, dict[str, str]]


def bearer(token: str) -> Body:
    try:
        return floor.claims(token)
    except jwt.InvalidTokenError as error:
        raise OAuthProblem(detail="Invalid token") from error


async def list_all(user: str) -> Answer:
    return _answer(floor.list_methods, user)


async def enable(user: str, token_info: Body) -> Answer:
    return _answer(floor.totp_enable, user, token_info["email"])


async def confirm(user: str, body: Body) -> Answer:
    return _answer(floor.totp_confirm, user, body)


async def begin(user: str, token_info: Body) -> Answer:
    return _answer(floor.webauthn_begin, user, token_info["email"])


async def complete(user: str, body: Body) -> Answer:
    return _answer(floor.webauthn_complete, user, body)


async def challenge(user: str, body: Body) -> Answer:
    return _answer(floor.webauthn_challenge, user)


async def verify(user: str, body: Body) -> Answer:
    return _answer(floor.webauthn_verify if "credential" in body else floor.totp_verify, user, body)


def _answer(handle: Any, *arguments: Any) -> Answer:
    try:
        return handle(*arguments), 200, {"Content-Type": "application/json", "Cache-Control": "no-store"}
    except Refused as refused:
        return refused.body, refused.status, {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}


def _contract() -> dict[str, Any]:
    """Our contract, of which only the operations that are measured are left."""
    contract: dict[str, Any] = yaml.safe_load(CONTRACT.read_text(encoding="utf-8"))
    paths: dict[str, Any] = {}
    for path, operations in contract["paths"].items():
        for method, operation in operations.items():
            if operation["operationId"] in HANDLERS:
                operation["operationId"] = f"{__name__}.{HANDLERS[operation['operationId']]}"
                paths.setdefault(path, {})[method] = operation
    contract["paths"] = paths
    contract["components"]["securitySchemes"]["bearerAuth"]["x-bearerInfoFunc"] = f"{__name__}.bearer"
    return contract


app = AsyncApp(__name__)
app.add_api(_contract())
