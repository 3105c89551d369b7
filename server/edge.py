"""The outermost layer: every request gets an id, a line in the log, and headers that hold for every answer."""

from __future__ import annotations

import re
import time
import uuid

import structlog
from connexion.middleware.abstract import ROUTING_CONTEXT
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger()

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Edge:
    """ASGI middleware. A caller's `X-Request-Id` is kept when it is a plain word, so that traces join up."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        # Routing works on a copy of the scope, but in this very dictionary.
        extensions = scope.setdefault("extensions", {})
        started = time.perf_counter()
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_marked)
            finally:
                routing = extensions.get(ROUTING_CONTEXT, {})
                log.info(
                    "request",
                    method=scope["method"],
                    operation=routing.get("operation_id"),
                    status=status,
                    ms=round((time.perf_counter() - started) * 1000, 1),
                )
