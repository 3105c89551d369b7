"""An app with one route that asks for a second factor, on FastAPI.

    uvicorn --app-dir examples fastapi_app:app --port 8000

It trusts the server that MFA_PUBLIC_URL names, for the audience MFA_JWT_AUDIENCE: the same settings as the server's.
It asks that server for nothing but its public keys, once in five minutes.
"""

import os
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, Header, HTTPException

SERVER = os.environ.get("MFA_PUBLIC_URL", "http://localhost:8080")
AUDIENCE = os.environ.get("MFA_JWT_AUDIENCE", "mfa-server")
# A security key or an authenticator app. Codes by e-mail and backup codes have values of their own.
STRONG = ("phr", "mfa")

keys = jwt.PyJWKClient(f"{SERVER}/.well-known/jwks.json", lifespan=300, timeout=3)
app = FastAPI()


def refused(detail: str) -> HTTPException:
    """RFC 9470: what is wrong, and what would do."""
    challenge = f'Bearer error="insufficient_user_authentication", acr_values="{" ".join(STRONG)}"'
    how = f"Verify a factor at {SERVER}/api/v1/me/mfa/challenge and send the assertion in the header MFA-Assertion."
    return HTTPException(401, {"error": detail, "how": how}, {"WWW-Authenticate": challenge})


def second_factor(mfa_assertion: Annotated[str | None, Header()] = None) -> dict[str, Any]:
    """The claims of the request's assertion. An app with sessions also compares `sub` with its session's user."""
    if mfa_assertion is None:
        raise refused("This takes a second factor.")
    try:
        assertion = jwt.decode_complete(
            mfa_assertion,
            keys.get_signing_key_from_jwt(mfa_assertion),
            algorithms=["ES256"],
            issuer=SERVER,
            audience=AUDIENCE,
            options={"require": ["exp", "sub", "acr"]},
        )
    except jwt.PyJWKClientConnectionError as error:
        raise HTTPException(503, "The keys of the MFA server cannot be fetched.", {"Retry-After": "5"}) from error
    except jwt.PyJWTError as error:
        raise refused("The assertion is expired, broken or not meant for this app.") from error
    # Other tokens of the same issuer are no assertions.
    if assertion["header"].get("typ") != "mfa+jwt":
        raise refused("This is no assertion.")
    claims: dict[str, Any] = assertion["payload"]
    if claims["acr"] not in STRONG:
        raise refused("This takes a stronger factor.")
    return claims


@app.get("/vault")
def vault(claims: Annotated[dict[str, Any], Depends(second_factor)]) -> dict[str, Any]:
    return {"secret": f"Nobody but {claims['sub']} sees this.", "shown": claims["amr"]}
