"""Each example protects its route, as a process beside the real server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import jwt
import pytest

from tests.authenticator import Authenticator
from tests.programs import serving
from tests.running import API, TOP, RunningServer, free_port

COMMANDS = {
    "fastapi": ["-m", "uvicorn", "--app-dir", str(TOP / "examples"), "fastapi_app:app", "--port"],
    "flask": ["-m", "flask", "--app", str(TOP / "examples" / "flask_app.py"), "run", "--port"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("server")) as started:
        yield started


def running(name: str, server: str) -> AbstractContextManager[httpx.Client]:
    """The example as its docstring starts it; a client of it."""
    port = free_port()
    return serving([sys.executable, *COMMANDS[name], str(port)], port, TOP, MFA_PUBLIC_URL=server)


@pytest.fixture(scope="module", params=list(COMMANDS))
def example(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[httpx.Client]:
    with running(request.param, server.origin) as client:
        yield client


@pytest.fixture(scope="module")
def verified(server: RunningServer) -> dict[str, str]:
    """A user's assertion by a security key, and one by a backup code."""
    key = Authenticator()
    with server.client("alice") as alice:
        begun = alice.post(f"{API}/webauthn/register/begin").json()
        credential = key.register(begun.pop("options"), origin=server.origin)
        del begun["expires_at"]
        codes = alice.post(f"{API}/webauthn/register/complete", json={**begun, "credential": credential}).json()
        opened = alice.post(f"{API}/challenge", json={"method": "webauthn"}).json()
        credential = key.authenticate(opened["options"], origin=server.origin)
        answer = {"challenge_id": opened["challenge_id"], "credential": credential}
        strong = alice.post(f"{API}/verify", json=answer).json()
        opened = alice.post(f"{API}/challenge", json={"method": "backup_code"}).json()
        answer = {"challenge_id": opened["challenge_id"], "code": codes["backup_codes"][0]}
        weak = alice.post(f"{API}/verify", json=answer).json()
    return {"strong": strong["assertion"], "weak": weak["assertion"]}


def forged(server: RunningServer, assertion: str, typ: str = "mfa+jwt", **claims: object) -> str:
    """The assertion with other claims, signed by the server's own key; a claim of None is left out."""
    changed = jwt.decode(assertion, options={"verify_signature": False}) | claims
    changed = {name: value for name, value in changed.items() if value is not None}
    header = {"typ": typ, "kid": jwt.get_unverified_header(assertion)["kid"]}
    return jwt.encode(changed, (server.data / "signing-key.pem").read_bytes(), "ES256", header)


def test_the_route_opens_to_an_assertion(example: httpx.Client, verified: dict[str, str]) -> None:
    opened = example.get("/vault", headers={"MFA-Assertion": verified["strong"]})
    assert opened.status_code == 200
    assert opened.json() == {"secret": "Nobody but alice sees this.", "shown": ["hwk", "user"]}


def test_without_an_assertion_the_answer_says_how_to_get_one(example: httpx.Client, server: RunningServer) -> None:
    refused = example.get("/vault")
    assert refused.status_code == 401
    assert 'error="insufficient_user_authentication", acr_values="phr mfa"' in refused.headers["WWW-Authenticate"]
    assert f"{server.origin}/api/v1/me/mfa/challenge" in refused.text


def test_a_weaker_factor_is_not_enough(example: httpx.Client, verified: dict[str, str]) -> None:
    refused = example.get("/vault", headers={"MFA-Assertion": verified["weak"]})
    assert refused.status_code == 401
    assert "stronger" in refused.text


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://elsewhere.example"},
        {"aud": "another-app"},
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"acr": None},
        {"typ": "at+jwt"},
    ],
    ids=lambda changes: "-".join(map(str, *changes.items())),
)
def test_a_signed_token_that_is_no_assertion_for_this_app_is_refused(
    example: httpx.Client, server: RunningServer, verified: dict[str, str], changes: dict[str, Any]
) -> None:
    token = forged(server, verified["strong"], **changes)
    assert example.get("/vault", headers={"MFA-Assertion": token}).status_code == 401


@pytest.mark.parametrize("token", ["", "x", "a.b.c"])
def test_what_is_no_token_is_refused(example: httpx.Client, token: str) -> None:
    assert example.get("/vault", headers={"MFA-Assertion": token}).status_code == 401


def test_the_access_token_is_no_assertion(example: httpx.Client, server: RunningServer) -> None:
    assert example.get("/vault", headers={"MFA-Assertion": server.token("alice")}).status_code == 401


def test_a_broken_signature_is_refused(example: httpx.Client, verified: dict[str, str]) -> None:
    head, claims, signature = verified["strong"].split(".")
    swapped = ".".join((head, claims, signature[::-1]))
    assert example.get("/vault", headers={"MFA-Assertion": swapped}).status_code == 401


@pytest.mark.parametrize("name", COMMANDS)
def test_without_the_server_s_keys_nothing_opens(name: str, verified: dict[str, str]) -> None:
    with running(name, f"http://localhost:{free_port()}") as example:
        answer = example.get("/vault", headers={"MFA-Assertion": verified["strong"]})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
