"""An app with one route that asks for a second factor, on Flask.

    flask --app examples/flask_app.py run --port 8000

It trusts the server that MFA_PUBLIC_URL names, for the audience MFA_JWT_AUDIENCE: the same settings as the server's.
It asks that server for nothing but its public keys, once in five minutes.
"""

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import jwt
from flask import Flask, Response, jsonify, make_response, request

SERVER = os.environ.get("MFA_PUBLIC_URL", "http://localhost:8080")
AUDIENCE = os.environ.get("MFA_JWT_AUDIENCE", "mfa-server")
# A security key or an authenticator app. Codes by e-mail and backup codes have values of their own.
STRONG = ("phr", "mfa")

keys = jwt.PyJWKClient(f"{SERVER}/.well-known/jwks.json", lifespan=300, timeout=3)
app = Flask(__name__)


class Refused(Exception):
    """There is no second factor, or not one that will do."""


@app.errorhandler(Refused)
def refused(error: Refused) -> Response:
    """RFC 9470: what is wrong, and what would do."""
    challenge = f'Bearer error="insufficient_user_authentication", acr_values="{" ".join(STRONG)}"'
    how = f"Verify a factor at {SERVER}/api/v1/me/mfa/challenge and send the assertion in the header MFA-Assertion."
    return make_response(jsonify(error=str(error), how=how), 401, {"WWW-Authenticate": challenge})


@app.errorhandler(jwt.PyJWKClientConnectionError)
def without_keys(_: jwt.PyJWKClientConnectionError) -> Response:
    return make_response(jsonify(error="The keys of the MFA server cannot be fetched."), 503, {"Retry-After": "5"})


def with_second_factor(view: Callable[[dict[str, Any]], Any]) -> Callable[[], Any]:
    """Hand the claims of the request's assertion to a view. One with sessions also compares `sub` with its user."""

    @wraps(view)
    def guarded() -> Any:
        return view(claims_of(request.headers.get("MFA-Assertion")))

    return guarded


def claims_of(mfa_assertion: str | None) -> dict[str, Any]:
    if mfa_assertion is None:
        raise Refused("This takes a second factor.")
    try:
        assertion = jwt.decode_complete(
            mfa_assertion,
            keys.get_signing_key_from_jwt(mfa_assertion),
            algorithms=["ES256"],
            issuer=SERVER,
            audience=AUDIENCE,
            options={"require": ["exp", "sub", "acr"]},
        )
    except jwt.PyJWKClientConnectionError:
        raise
    except jwt.PyJWTError as error:
        raise Refused("The assertion is expired, broken or not meant for this app.") from error
    # Other tokens of the same issuer are no assertions.
    if assertion["header"].get("typ") != "mfa+jwt":
        raise Refused("This is no assertion.")
    claims: dict[str, Any] = assertion["payload"]
    if claims["acr"] not in STRONG:
        raise Refused("This takes a stronger factor.")
    return claims


@app.get("/vault")
@with_second_factor
def vault(claims: dict[str, Any]) -> Response:
    return jsonify(secret=f"Nobody but {claims['sub']} sees this.", shown=claims["amr"])
