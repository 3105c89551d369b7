"""Requests over plain sockets, so that many of them reach the server at one moment and every byte of an answer shows.

The attacker's way to hit a race: open a connection for each request, send all of it but the last byte, and then
let the last bytes go, one right after the other.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Self

PATIENCE = 60.0
# The server has read the heads by then, and waits for the last bytes.
SETTLE = 0.01
# These differ from one answer to the next, whatever was asked.
OF_EACH_ANSWER = {"x-request-id", "date"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request; a body of bytes is sent as it is, any other as JSON."""

    method: str
    path: str
    token: str | None = None
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        head = {"Host": "localhost", "Connection": "close"}
        if self.token is not None:
            head["Authorization"] = f"Bearer {self.token}"
        content = b""
        if self.body is not None:
            content = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
            head["Content-Type"] = "application/json"
            head["Content-Length"] = str(len(content))
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{k}: {v}" for k, v in (head | dict(self.headers)).items())]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for known, value in self.headers if known.lower() == name.lower()), None)

    @property
    def code(self) -> str:
        """The problem's `code`; empty in an answer that is none."""
        return str(self.json().get("code", ""))

    def bare(self, *without: str) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body: what two answers have to share to be the same bytes."""
        left_out = OF_EACH_ANSWER | set(without)
        return self.status, [pair for pair in self.headers if pair[0].lower() not in left_out], self.body


class Volley:
    """Requests that are sent up to their last byte, to each port in turn."""

    def __init__(self, ports: int | Sequence[int], requests: Iterable[Request]) -> None:
        self._requests = [(request, request.encode()) for request in requests]
        self._ports = cycle([ports] if isinstance(ports, int) else ports)
        self._stack = contextlib.ExitStack()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        for _, data in self._requests:
            connection = self._stack.enter_context(socket.create_connection(("127.0.0.1", next(self._ports)), PATIENCE))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(data[:-1])
            self._sockets.append(connection)
        if len(self) > 1:
            time.sleep(SETTLE)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __len__(self) -> int:
        return len(self._requests)

    def release(self) -> None:
        for connection, (_, data) in zip(self._sockets, self._requests, strict=True):
            connection.sendall(data[-1:])

    def wait_for(self, count: int) -> None:
        """Until so many of the answers have begun to arrive."""
        deadline = time.monotonic() + PATIENCE
        while len(select.select(self._sockets, [], [], 0)[0]) < count:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def answers(self) -> list[Answer | None]:
        """An answer for each request; None where the server died before all of it was out."""
        return [
            _read(connection, request) for connection, (request, _) in zip(self._sockets, self._requests, strict=True)
        ]


def together(ports: int | Sequence[int], requests: Iterable[Request]) -> list[Answer]:
    """Send requests at one moment and wait for all answers."""
    with Volley(ports, requests) as volley:
        volley.release()
        answers = [answer for answer in volley.answers() if answer is not None]
        assert len(answers) == len(volley), "the server cut a connection"
        return answers


def _read(connection: socket.socket, request: Request) -> Answer | None:
    try:
        response = http.client.HTTPResponse(connection, method=request.method)
        response.begin()
        return Answer(response.status, response.getheaders(), response.read())
    except (http.client.HTTPException, ConnectionError):
        return None
