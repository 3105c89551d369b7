"""Requests as bytes, for what no HTTP client sends, and what every answer to them must be like."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Mapping
from http.client import HTTPResponse
from typing import Any, NamedTuple

from factors.errors import Refusal
from server import validation
from tests.contract.document import document, inlined
from tests.running import RunningServer

API = "/api/v1/me/mfa"
CONFIRM = f"{API}/totp/confirm"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
PROBLEM = "application/problem+json"
SECONDS = 10
# Stands in rejected values; no answer may repeat it.
MARKER = "hush4711hush"
CODES = {each.code: each for each in Refusal.__subclasses__()}

_SCHEMAS = document()["components"]["schemas"]
is_validation_error = validation.compiled(inlined(_SCHEMAS["HTTPValidationError"])).is_valid
is_problem = validation.compiled(inlined(_SCHEMAS["Problem"])).is_valid


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the problem that this is."""
        code: str = self.json["code"]
        return code


def send(server: RunningServer, *parts: bytes, method: str = "GET") -> Answer:
    """Send the bytes of one request, piece by piece; returns what is answered."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
        for part in parts:
            connection.sendall(part)
        response = HTTPResponse(connection, method=method)
        response.begin()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def request(
    method: str,
    path: str,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
    *,
    token: str | None = None,
) -> bytes:
    """A request with exactly these headers, and those that HTTP needs; text is sent as Latin-1."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += [f"Content-Length: {len(body)}"] if body is not None else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def post(path: str, body: bytes, token: str | None, media_type: str | None = JSON) -> bytes:
    return request("POST", path, [("Content-Type", media_type)] if media_type is not None else [], body, token=token)


def check(answer: Answer) -> Answer:
    """What every refusal is like: the declared shape, not to be stored, nothing of ours in it and nothing of theirs."""
    assert 400 <= answer.status < 500, answer
    if answer.status == 422:
        assert answer.headers["content-type"] == JSON
        assert is_validation_error(answer.json), answer
    else:
        assert answer.headers["content-type"] == PROBLEM
        assert is_problem(answer.json), answer
        refusal = CODES[answer.code]
        assert (answer.status, answer.json["status"], answer.json["title"]) == (
            refusal.status,
            answer.status,
            refusal.title,
        )
        assert answer.json["type"] == f"/problems/{answer.code}"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers
    shown = answer.body.decode() + str(answer.headers)
    assert MARKER not in shown
    return answer


def refused(server: RunningServer, *parts: bytes) -> Answer:
    return check(send(server, *parts))
