"""The identity provider hangs: those with known keys are served for a while, and nothing is restarted (TOK-09)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.faults.load import eventually
from tests.faults.questions import ANSWER_SECONDS, PROBLEM, ask
from tests.running import API, TOP, RunningServer
from tests.server.test_jwks import AUDIENCE, ISSUER, NEW, OLD, IdentityProvider, hang, jwk, serve, sign

idp = pytest.fixture(serve, name="idp")

# Ten seconds, five minutes and an hour are too long for a test; how they are kept is in `tests/server/test_jwks.py`.
FETCH_SECONDS, COOL_DOWN_SECONDS, GRACE_SECONDS = 1.0, 1.2, 5.0
SHORT = f"""
from server import jwks
jwks.FETCH_TIMEOUT, jwks.COOL_DOWN, jwks.GRACE = {FETCH_SECONDS}, {COOL_DOWN_SECONDS}, {GRACE_SECONDS}
jwks.FRESH_FOR = jwks.UNREACHABLE_FOR = 1.0
"""


@pytest.fixture
def server(tmp_path: Path, idp: IdentityProvider) -> Iterator[RunningServer]:
    idp.publish(jwk(OLD, kid="old"))
    (tmp_path / "sitecustomize.py").write_text(SHORT)
    server = RunningServer(tmp_path, jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks_url=idp.url)
    server.environment["PYTHONPATH"] = f"{tmp_path}:{TOP}"
    with server:
        yield server


def lists(server: RunningServer, token: str) -> httpx.Response:
    begun = time.monotonic()
    answer = httpx.get(f"{server.url}{API}", headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert time.monotonic() - begun < ANSWER_SECONDS
    return answer


def check_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert answer.headers["content-type"] == PROBLEM
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["code"] == "keys_unavailable"


def test_tok_09_an_identity_provider_that_hangs_and_comes_back(server: RunningServer, idp: IdentityProvider) -> None:
    old, new = sign(OLD, "old"), sign(NEW, "new")
    assert lists(server, old).status_code == 200
    assert lists(server, new).status_code == 401
    idp.answer = hang
    began = time.monotonic()
    time.sleep(COOL_DOWN_SECONDS)
    with ThreadPoolExecutor() as clients:
        known, unknown = clients.submit(lists, server, old), clients.submit(lists, server, new)
        assert known.result().status_code == 200
        # It may be a good one, of a key that is too new to be known here.
        check_unavailable(unknown.result())
    assert ask(server, "/healthz/ready").status == 200
    time.sleep(max(0.0, began + GRACE_SECONDS - time.monotonic()))
    check_unavailable(lists(server, old))
    ready = ask(server, "/healthz/ready")
    assert (ready.status, ready.body["code"]) == (503, "keys_unavailable")
    assert ready.seconds < ANSWER_SECONDS
    assert ask(server, "/healthz/live").status == 200
    idp.publish(jwk(OLD, kid="old"), jwk(NEW, kid="new"))
    eventually(lambda: ask(server, "/healthz/ready").status == 200, ANSWER_SECONDS)
    assert [lists(server, token).status_code for token in (old, new)] == [200, 200]
