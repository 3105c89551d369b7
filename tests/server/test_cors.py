"""Pages in browsers: those on our origins may call the API, no others (contract section 2)."""

from __future__ import annotations

import pytest

from tests.running import RunningServer
from tests.server.wire import API, CONFIRM, Answer, request, send


@pytest.fixture(scope="module")
def token(api: RunningServer) -> str:
    return api.token("cors")


def outcome(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.headers.get("access-control-allow-origin", "")


@pytest.mark.parametrize("path", [API, CONFIRM, "/healthz/live", "/nothing"])
def test_a_page_on_our_origin_may_ask_and_read_refusals_too(api: RunningServer, path: str) -> None:
    for token in (None, api.token("cors")):
        answer = send(api, request("GET", path, [("Origin", api.origin)], token=token))
        assert answer.headers["access-control-allow-origin"] == api.origin
        assert "origin" in answer.headers["vary"].lower()
        assert "access-control-allow-credentials" not in answer.headers
        exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert exposed == {"retry-after", "www-authenticate", "x-request-id"}


@pytest.mark.parametrize("header", ["Authorization", "Content-Type", "MFA-Assertion", "authorization, mfa-assertion"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_page_on_our_origin_may_send_what_the_api_takes(api: RunningServer, method: str, header: str) -> None:
    asked = [
        ("Origin", api.origin),
        ("Access-Control-Request-Method", method),
        ("Access-Control-Request-Headers", header),
    ]
    answer = send(api, request("OPTIONS", API, asked))
    assert outcome(answer) == (200, api.origin)
    assert method in answer.headers["access-control-allow-methods"]
    assert int(answer.headers["access-control-max-age"]) > 0


@pytest.mark.parametrize(
    "asked",
    [
        [("Access-Control-Request-Method", "PUT")],
        [("Access-Control-Request-Method", "GET"), ("Access-Control-Request-Headers", "X-Admin")],
    ],
)
def test_a_page_may_send_nothing_else(api: RunningServer, asked: list[tuple[str, str]]) -> None:
    assert send(api, request("OPTIONS", API, [("Origin", api.origin), *asked])).status == 400


def other_origins(server: RunningServer) -> list[str]:
    return [
        "null",
        "*",
        "http://localhost",
        f"https://localhost:{server.port}",
        f"http://localhost:{server.port}.example.com",
        f"http://localhost:{server.port}0",
        f"http://evil.localhost:{server.port}",
        f"http://LOCALHOST:{server.port}",
        f"{server.origin}/",
        f"{server.origin} {server.origin}",
        f"http://127.0.0.1:{server.port}",
        "\xff",
    ]


def test_a_page_on_any_other_origin_reads_nothing_and_may_send_nothing(api: RunningServer) -> None:
    for origin in other_origins(api):
        for path in (API, CONFIRM, "/healthz/live", "/nothing"):
            answer = send(api, request("GET", path, [("Origin", origin)], token=api.token("cors")))
            assert "access-control-allow-origin" not in answer.headers, origin
        asked = [("Origin", origin), ("Access-Control-Request-Method", "POST")]
        assert outcome(send(api, request("OPTIONS", CONFIRM, asked))) == (400, ""), origin


def test_a_client_that_is_no_page_hears_nothing_of_origins(api: RunningServer, token: str) -> None:
    answer = send(api, request("GET", API, token=token))
    assert not [name for name in answer.headers if name.startswith("access-control")]
