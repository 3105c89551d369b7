"""What reaches an operation at all, and in which order a request is refused."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from tests.contract.document import Operation, operations
from tests.running import RunningServer
from tests.server.wire import API, CONFIRM, FORM, JSON, MARKER, PROBLEM, check, post, refused, request, send

OPERATIONS = list(operations().values())
UNDER_API = [operation for operation in OPERATIONS if operation.definition["security"]]
WITH_BODY = [operation for operation in OPERATIONS if "requestBody" in operation.definition]
IDENTITY = {"sub": "alice", "device_id": "5e0b9d2a-3f0e-4f43-8f5e-0a2b61d3c7f1"}
LARGEST_BODY = 64 * 1024
MEGABYTE = 1024 * 1024
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "REPORT")
CODE = b'{"code":"492039"}'


def label(operation: Operation) -> str:
    return operation.label


def path_of(operation: Operation) -> str:
    return operation.path.format(**IDENTITY)


@pytest.fixture(scope="module")
def token(api: RunningServer) -> str:
    return api.token("operations")


@pytest.fixture(scope="module")
def service(api: RunningServer) -> str:
    """Of every scope, so that it is good for every operation."""
    return api.token("backend", scope="mfa:verify mfa:introspect")


# Paths.


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        f"/{MARKER}",
        f"{API}/",
        f"{API}//",
        f"/{API}",
        f"{API}%0A",
        f"{API}%00",
        f"{API}%ff",
        f"{API}%2F",
        f"{API};x",
        f"{API}/totp",
        f"{API}/totp/enable/",
        f"{API}/webauthn/",
        f"{API}/webauthn/{IDENTITY['device_id']}/",
        "/API/v1/me/mfa",
        "/api/v1/me/./mfa",
        "/api/v1/../v1/me/mfa",
        "/api/v1/users/alice/mfa",
        "/api/v1/users/alice/mfa/challenge/",
        "/api/v1/users/alice/mfa/challenge%0A",
        "/openapi.json/",
        "/%",
        "/%zz",
        "/" + "a" * 60_000,
        "*",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_api_03_an_unknown_path_is_not_found_with_a_token_and_without(
    api: RunningServer, token: str, method: str, path: str
) -> None:
    with_token = refused(api, request(method, path, body=b"{}", token=token))
    without = refused(api, request(method, path, body=b"{}"))
    assert (with_token.code, without.code) == ("not_found", "not_found")


@pytest.mark.parametrize(
    "path", [f"{API}?{MARKER}=%ff", f"{API}?" + "a" * 9000, f"{API}?access_token=x", f"http://x{API}"]
)
def test_what_stands_beside_the_path_makes_no_difference(api: RunningServer, token: str, path: str) -> None:
    assert send(api, request("GET", path, token=token)).status == 200


def test_tok_11_a_token_is_taken_from_its_header_alone(api: RunningServer, token: str) -> None:
    for answer in (
        refused(api, request("GET", f"{API}?access_token={token}")),
        refused(api, request("GET", API, [("Cookie", f"access_token={token}")])),
        refused(api, post("/api/v1/mfa/introspect", f"access_token={token}".encode(), None, FORM)),
    ):
        assert answer.code == "unauthenticated"


# Methods.


def allowed(path: str) -> set[str]:
    declared = {operation.method for operation in OPERATIONS if operation.path == path}
    return declared | ({"HEAD"} if "GET" in declared else set())


@pytest.mark.parametrize("path", sorted({operation.path for operation in OPERATIONS}))
def test_api_08_a_method_that_a_path_does_not_take_is_named_not_allowed(
    api: RunningServer, token: str, path: str
) -> None:
    for method in set(METHODS) - allowed(path):
        answer = send(api, request(method, path.format(**IDENTITY), token=token), method=method)
        assert (answer.status, answer.headers["content-type"]) == (405, PROBLEM), method
        assert set(re.split(", *", answer.headers["allow"])) == allowed(path)
        if method != "HEAD":
            assert check(answer).code == "method_not_allowed"


def test_api_08_trace_returns_nothing_of_the_request(api: RunningServer, token: str) -> None:
    answer = refused(api, request("TRACE", API, [("X-Secret", MARKER)], token=token))
    assert answer.code == "method_not_allowed"


@pytest.mark.parametrize("method", ["FOO", "get", "G\xebT", "", "GET" * 50])
def test_a_word_that_is_no_method_is_not_understood(api: RunningServer, method: str) -> None:
    """The parser of the HTTP server answers that, before there is a request."""
    answer = send(api, request(method, API))
    assert answer.status == 400
    assert MARKER not in answer.body.decode()


def test_head_is_get_without_its_body(api: RunningServer, token: str) -> None:
    got = send(api, request("GET", API, token=token))
    head = send(api, request("HEAD", API, token=token), method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert head.headers["cache-control"] == "no-store"
    assert send(api, request("HEAD", API), method="HEAD").status == 401


# Accept.


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "application/json",
        "APPLICATION/JSON",
        "application/*",
        "application/json;q=0.001, text/html",
        "application/json; charset=utf-8",
        "application/json, text/plain, */*",
        "text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8",
    ],
)
def test_whoever_takes_json_gets_it(api: RunningServer, token: str, accept: str) -> None:
    assert send(api, request("GET", API, [("Accept", accept)], token=token)).status == 200


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "application/xml;q=0.9, text/*",
        "application/json;q=0",
        "application/json;q=0, */*",
        "application/problem+json",
        "application/jsonp",
        "json",
        f"text/{MARKER}",
        ";;;,,q=",
        "\xff\xfe",
        "a/b," * 10_000,
    ],
)
@pytest.mark.parametrize("operation", [OPERATIONS[0], OPERATIONS[2], OPERATIONS[-1]], ids=label)
def test_api_03_whoever_takes_no_json_is_told(
    api: RunningServer, token: str, operation: Operation, accept: str
) -> None:
    answer = refused(api, request(operation.method, path_of(operation), [("Accept", accept)], b"", token=token))
    assert answer.code == "not_acceptable"


# The type of a body.


@pytest.mark.parametrize(
    "media_type", [JSON, "application/JSON", f"{JSON};charset=UTF-8", f'{JSON}; charset="utf-8"', f"{JSON};"]
)
def test_json_may_be_announced_in_several_ways(api: RunningServer, token: str, media_type: str) -> None:
    assert refused(api, post(CONFIRM, CODE, token, media_type)).code == "no_pending_enrolment"


@pytest.mark.parametrize(
    "media_type",
    [
        None,
        "",
        "*/*",
        "json",
        "text/plain",
        "text/json",
        FORM,
        "multipart/form-data; boundary=x",
        PROBLEM,
        f"{JSON}, {JSON}",
        f"{JSON}; charset=utf-16",
        f"{JSON}; CHARSET=latin-1",
        f"text/{MARKER}",
        f"{JSON}; charset={MARKER}",
        "\xff",
        "a" * 20_000,
    ],
)
def test_api_03_any_other_body_is_refused_by_its_type(api: RunningServer, token: str, media_type: str | None) -> None:
    answer = refused(api, post(CONFIRM, CODE, token, media_type))
    assert answer.code == "unsupported_media_type"


@pytest.mark.parametrize("media_type", [JSON, None, f"{FORM}; charset=utf-16", "multipart/form-data; boundary=x"])
def test_introspection_takes_a_form_alone(api: RunningServer, service: str, media_type: str | None) -> None:
    answer = refused(api, post("/api/v1/mfa/introspect", b"token=a", service, media_type))
    assert answer.code == "unsupported_media_type"


@pytest.mark.parametrize("encoding", ["gzip", "br", MARKER])
def test_a_compressed_body_is_not_unpacked(api: RunningServer, token: str, encoding: str) -> None:
    """So no small body becomes a large one."""
    packed = bytes.fromhex("1f8b08000000000000ff")
    headers = [("Content-Type", JSON), ("Content-Encoding", encoding)]
    assert refused(api, request("POST", CONFIRM, headers, packed, token=token)).status == 422


# Size.


@pytest.mark.parametrize("operation", OPERATIONS, ids=label)
@pytest.mark.parametrize("size", [LARGEST_BODY + 1, MEGABYTE, 10**30])
def test_api_04_a_body_that_is_announced_too_large_is_not_waited_for(
    api: RunningServer, service: str, operation: Operation, size: int
) -> None:
    headers = [("Content-Type", JSON), ("Content-Length", str(size))]
    if size > 2**64:
        # The HTTP server cannot count so far.
        assert send(api, request(operation.method, path_of(operation), headers, token=service)).status == 400
    else:
        answer = refused(api, request(operation.method, path_of(operation), headers, token=service))
        assert answer.code == "payload_too_large"


def chunked(total: int, chunk: int = 16 * 1024) -> Iterator[bytes]:
    for start in range(0, total, chunk):
        part = b"[" * min(chunk, total - start)
        yield b"%x\r\n%s\r\n" % (len(part), part)
    yield b"0\r\n\r\n"


@pytest.mark.parametrize("operation", [OPERATIONS[0], OPERATIONS[2], OPERATIONS[-1]], ids=label)
def test_api_04_a_body_that_turns_out_too_large_is_refused(
    api: RunningServer, token: str, operation: Operation
) -> None:
    headers = [("Content-Type", JSON), ("Transfer-Encoding", "chunked")]
    head = request(operation.method, path_of(operation), headers, token=token)
    answer = refused(api, head, b"".join(chunked(LARGEST_BODY + 1)))
    assert answer.code == "payload_too_large"


def test_api_04_a_megabyte_in_chunks_is_refused_before_it_is_all_there(api: RunningServer, token: str) -> None:
    headers = [("Content-Type", JSON), ("Transfer-Encoding", "chunked")]
    chunks = itertools.islice(chunked(MEGABYTE), 6)
    answer = refused(api, request("POST", CONFIRM, headers, token=token), *chunks)
    assert answer.code == "payload_too_large"


def test_a_body_of_exactly_64_kib_is_read(api: RunningServer, token: str) -> None:
    body = json.dumps({"code": ""}).encode()
    body = body[:-1] + b" " * (LARGEST_BODY - len(body)) + b"}"
    assert len(body) == LARGEST_BODY
    assert refused(api, post(CONFIRM, body, token)).status == 422
    head = request("POST", CONFIRM, [("Content-Type", JSON), ("Transfer-Encoding", "chunked")], token=token)
    assert refused(api, head, b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)).status == 422


def test_a_connection_is_good_for_the_next_request_after_each_refusal(api: RunningServer, token: str) -> None:
    connection = HTTPConnection("127.0.0.1", api.port, timeout=10)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": JSON}
    bodies = [b"[" * LARGEST_BODY, b"\xff", b"", b"[" * (LARGEST_BODY + 1), CODE]
    statuses = []
    for body in bodies:
        connection.request("POST", CONFIRM, body, headers)
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()
    assert statuses == [422, 422, 422, 413, 409]


@pytest.mark.parametrize("operation", [OPERATIONS[0], OPERATIONS[1]], ids=label)
def test_a_body_that_nobody_asked_for_is_let_be(api: RunningServer, token: str, operation: Operation) -> None:
    body = b"\xff\0{" + MARKER.encode()
    answer = send(api, request(operation.method, path_of(operation), body=body, token=token))
    assert answer.status in (200, 409)


# The order of refusals.


@pytest.mark.parametrize("operation", UNDER_API, ids=label)
def test_tok_13_a_token_is_looked_at_before_anything_else_of_the_request(
    api: RunningServer, operation: Operation
) -> None:
    bad = [("Accept", "text/html"), ("Content-Type", "text/plain"), ("MFA-Assertion", "no assertion")]
    path = operation.path.format(sub="%00", device_id="no id")
    for body in (b"\xff", b"[" * (LARGEST_BODY + 1)):
        assert refused(api, request(operation.method, path.replace(" ", ""), bad, body)).code == "unauthenticated"
        assert refused(api, request(operation.method, path.replace(" ", ""), bad, body, token="a.b.c")).code == (
            "invalid_token"
        )


@pytest.mark.parametrize(
    "operation",
    [each for each in UNDER_API if each.id.startswith("handlers.service") or "introspect" in each.id],
    ids=label,
)
@pytest.mark.parametrize("scope", [None, "", "mfa", "mfa:verifyx", "MFA:VERIFY MFA:INTROSPECT", "openid profile"])
def test_tok_13_a_scope_is_looked_at_before_whether_anybody_is_there(
    api: RunningServer, operation: Operation, scope: str | None
) -> None:
    token = api.token("backend", scope=scope)
    answer = refused(api, post(path_of(operation), b"\xff", token, "text/plain"))
    assert answer.code == "insufficient_scope"
    needed = "mfa:introspect" if "introspect" in operation.id else "mfa:verify"
    assert answer.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{needed}"'


@pytest.mark.parametrize("operation", WITH_BODY, ids=label)
def test_what_is_read_is_refused_in_one_order(api: RunningServer, service: str, operation: Operation) -> None:
    """What does not depend on the body first, then its size, its type, and last what is in it."""
    path = path_of(operation)
    excluded, wrong = ("Accept", "text/html"), ("Content-Type", "text/plain")
    large = b"\xff" * (LARGEST_BODY + 1)
    codes = [
        refused(api, request("POST", path, [excluded, wrong], large, token=service)).code,
        refused(api, request("POST", path, [wrong], large, token=service)).code,
        refused(api, request("POST", path, [wrong], b"\xff", token=service)).code,
    ]
    assert codes == ["not_acceptable", "payload_too_large", "unsupported_media_type"]
    right = FORM if operation.id == "handlers.verification.introspect" else JSON
    assert refused(api, post(path, b"\xff", service, right)).status == 422


def test_rel_01_nothing_of_all_this_was_an_error_of_the_server(api: RunningServer) -> None:
    """Runs last in this file, on the server that all others have asked."""
    assert not re.search(r"\[(error|critical)|Traceback", api.log.read_text())
