"""The outermost layer: every request gets an id, a line in the log, and headers that hold for every answer."""

from __future__ import annotations

import os
import re
import time

import structlog
from connexion.middleware.abstract import ROUTING_CONTEXT
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NO_SNIFFING = (b"x-content-type-options", b"nosniff")
REQUEST_ID_BYTES = 16
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def new_request_id() -> str:
    return os.urandom(REQUEST_ID_BYTES).hex()


class Edge:
    """ASGI middleware. A caller's `X-Request-Id` is kept when it is a plain word, so that traces join up."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        # Bound once: the logger of a module is looked up anew at each call.
        self.log = structlog.get_logger().bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = b""
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given = value
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id
        # Routing works on a copy of the scope, but in this very dictionary, where Connexion keeps the claims.
        # Some servers hand the same one to all requests (granian does), so each gets its own: else users are mixed up.
        extensions = scope["extensions"] = dict(scope.get("extensions") or ())
        started = time.perf_counter()
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] += [(b"x-request-id", request_id.encode()), NO_SNIFFING]
            await send(message)

        # The server runs each request in a context of its own, so there is nothing to undo.
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self.app(scope, receive, send_marked)
        finally:
            self.log.info(
                "request",
                method=scope["method"],
                operation=extensions.get(ROUTING_CONTEXT, {}).get("operation_id"),
                status=status,
                ms=round((time.perf_counter() - started) * 1000, 1),
            )
