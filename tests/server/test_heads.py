"""The head of a request: tokens that are none, names and values that are too long, and bytes that are no HTTP."""

from __future__ import annotations

import re

import pytest

from tests.running import RunningServer
from tests.server.wire import API, CONFIRM, MARKER, refused, request, send

LARGEST_HEAD = 64 * 1024


@pytest.fixture(scope="module")
def token(api: RunningServer) -> str:
    return api.token("heads")


# Tokens.


@pytest.mark.parametrize(
    "value",
    [
        "Bearer " + "a" * 20_000,
        f"Bearer {MARKER}",
        f"Bearer {MARKER}.{MARKER}.{MARKER}",
        "Bearer \xff\xfe.\xff.\xff",
        "Bearer a b c",
        "Bearer ..",
        "Bearer ....",
        "Bearer e30.e30.",
        "Bearer " + "W" * 8000 + ".e30.AA",
    ],
    ids=lambda value: value[:24],
)
@pytest.mark.parametrize(("method", "path"), [("GET", API), ("POST", CONFIRM), ("POST", "/api/v1/mfa/introspect")])
def test_tok_10_a_header_that_holds_no_token_is_refused(api: RunningServer, method: str, path: str, value: str) -> None:
    answer = refused(api, request(method, path, [("Authorization", value)], b""))
    assert answer.code == "invalid_token"
    assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token"')


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "Basic YTpi", f"Digest {MARKER}", "\xff", f"{MARKER} a.b.c", "a.b.c"]
)
def test_tok_12_a_header_of_another_scheme_is_none(api: RunningServer, value: str) -> None:
    answer = refused(api, request("GET", API, [("Authorization", value)]))
    assert (answer.code, answer.headers["www-authenticate"]) == ("unauthenticated", "Bearer")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_tok_11_the_name_of_the_scheme_is_good_in_any_case(api: RunningServer, token: str, scheme: str) -> None:
    assert send(api, request("GET", API, [("Authorization", f"{scheme} {token}")])).status == 200


# Length and form.


@pytest.mark.parametrize(
    "headers",
    [
        b"".join(b"X-%d: %s\r\n" % (number, b"a" * 100) for number in range(700)),
        b"X-Long: " + b"a" * LARGEST_HEAD,
        b"Cookie: " + b"a=b;" * 20_000,
        b"A" * LARGEST_HEAD,
    ],
    ids=["many", "a long one", "cookies", "a long name"],
)
def test_rel_01_a_head_beyond_64_kib_is_not_waited_for(api: RunningServer, headers: bytes) -> None:
    answer = refused(api, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + headers)
    assert (answer.status, answer.code) == (431, "head_too_large")


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\xff" * 1000 + b"\r\n\r\n",
    ],
)
def test_rel_01_what_is_no_http_is_not_understood(api: RunningServer, raw: bytes) -> None:
    answer = refused(api, raw)
    assert answer.code == "malformed_request"
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("given", ["trace-1.a_b", "a" * 64])
def test_a_request_may_bring_its_id(api: RunningServer, given: str) -> None:
    assert send(api, request("GET", "/healthz/live", [("X-Request-Id", given)])).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a" * 65, f"{MARKER}!", "\xff", "a;b", '"a"'])
def test_not_05_an_id_that_is_no_plain_word_is_replaced(api: RunningServer, given: str) -> None:
    answer = refused(api, request("GET", "/nothing", [("X-Request-Id", given)]))
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_api_02_an_answer_names_nothing_that_the_server_is_made_of(api: RunningServer) -> None:
    for answer in (send(api, request("GET", "/healthz/live")), refused(api, request("GET", "/nothing"))):
        assert {"server", "x-powered-by", "via"}.isdisjoint(answer.headers)
