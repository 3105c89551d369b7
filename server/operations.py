"""The contract's operations, compiled at start.

Connexion routes a request to its operation and looks at its token. Here, in place of Connexion's validation and
decorators, which are built anew for each request, stands one compiled operation: its validators, the arguments that
its handler's signature names, and the one hop to a worker thread where a connection is open.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import anyio.to_thread
import orjson
from connexion.middleware.abstract import RoutedAPI, RoutedMiddleware
from connexion.operations import AbstractOperation
from connexion.spec import Specification
from starlette.types import ASGIApp, Receive, Scope, Send
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header, parse_options_header

from factors.email import mailbox
from factors.errors import NotAcceptable, PayloadTooLarge, UnsupportedMediaType
from server import validation
from server.problems import NO_STORE
from server.settings import Settings
from storage.database import connection
from storage.user import Caller

JSON = "application/json"
LARGEST_BODY = 64 * 1024
LONGEST_NAME = 255
ANSWER_HEADERS = [(b"content-type", JSON.encode()), *((k.lower().encode(), v.encode()) for k, v in NO_STORE.items())]
Headers = dict[bytes, bytes]


class AnswerBreaksContract(Exception):
    """A handler's answer does not fit `openapi.yaml`; seen where `MFA_VALIDATE_RESPONSES` is on."""


class Operation:
    """One operation of the contract: an ASGI app that ends the request."""

    def __init__(self, operation: AbstractOperation, settings: Settings) -> None:
        self.id: str = operation.operation_id
        self.handler: Callable[..., Any] = operation.function
        self.wants = frozenset(inspect.signature(self.handler).parameters)
        self.settings = settings
        body = operation.request_body.get("content", {}).get(JSON)
        self.body = validation.compiled(body["schema"]) if body else None
        self.parameters = {
            parameter["name"]: validation.compiled(parameter["schema"])
            for parameter in operation.parameters
            if parameter["in"] == "path"
        }
        answer = operation.responses["200"]["content"][JSON]
        self.answer = validation.compiled(answer["schema"]) if settings.validate_responses else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = dict(scope["headers"])
        _check_accept(headers)
        arguments: dict[str, Any] = {}
        for name, validator in self.parameters.items():
            arguments[name] = scope["path_params"][name]
            validation.check(validator, arguments[name], "path", name)
        body = await _read(headers, receive)
        if self.body is not None:
            _check_content_type(headers)
            arguments["body"] = validation.parse(body)
            validation.check(self.body, arguments["body"], "body")
        if "caller" in self.wants:
            arguments["caller"] = self._caller(scope)
        if "now" in self.wants:
            arguments["now"] = datetime.now(UTC)
        if "settings" in self.wants:
            arguments["settings"] = self.settings
        result = self.handler(**arguments) if inspect.iscoroutinefunction(self.handler) else self._in_thread(arguments)
        payload = orjson.dumps(await result, option=orjson.OPT_UTC_Z)
        if self.answer is not None and not self.answer.is_valid(orjson.loads(payload)):
            raise AnswerBreaksContract(self.id)
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [*ANSWER_HEADERS, (b"content-length", str(len(payload)).encode())],
            }
        )
        await send({"type": "http.response.body", "body": payload})

    async def _in_thread(self, arguments: dict[str, Any]) -> Any:
        return await anyio.to_thread.run_sync(self._call, arguments)

    def _call(self, arguments: dict[str, Any]) -> Any:
        with connection():
            return self.handler(**arguments)

    def _caller(self, scope: Scope) -> Caller:
        claims = scope["extensions"]["connexion_context"]["token_info"]
        email = mailbox(claims.get("email"))
        client = scope.get("client")
        return Caller.of(
            claims["sub"],
            claims.get(self.settings.jwt_tenant_claim, ""),
            email=email,
            account=email or _shown(claims.get("preferred_username")) or _shown(claims["sub"]),
            name=_shown(claims.get("name")),
            operation=self.id,
            request_id=scope["state"]["request_id"],
            address=client[0] if client else "",
        )


def _shown(claim: Any) -> str:
    """A claim that people read: bounded, and encodable whatever the token holds."""
    return claim[:LONGEST_NAME].encode(errors="replace").decode() if isinstance(claim, str) else ""


def _check_accept(headers: Headers) -> None:
    accept = headers.get(b"accept")
    if accept in (None, b"*/*", b"application/json"):
        return
    if not parse_accept_header(accept.decode("latin-1"), MIMEAccept).best_match([JSON]):
        raise NotAcceptable


def _check_content_type(headers: Headers) -> None:
    content_type = headers.get(b"content-type", b"")
    if content_type == b"application/json":
        return
    kind, options = parse_options_header(content_type.decode("latin-1"))
    if kind.lower() != JSON or options.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaType


async def _read(headers: Headers, receive: Receive) -> bytes:
    declared = headers.get(b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > LARGEST_BODY:
        raise PayloadTooLarge
    chunks: list[bytes] = []
    size = 0
    more = declared is not None or b"transfer-encoding" in headers
    while more:
        message = await receive()
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > LARGEST_BODY:
            raise PayloadTooLarge
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)


class OperationsAPI(RoutedAPI[Operation]):
    def __init__(self, specification: Specification, *, settings: Settings, **options: Any) -> None:
        super().__init__(specification, **options)
        self.settings = settings
        self.add_paths()

    def make_operation(self, operation: AbstractOperation) -> Operation:
        return Operation(operation, self.settings)


class OperationsMiddleware(RoutedMiddleware[OperationsAPI]):
    """The last of Connexion's middlewares: a request that was routed and whose token was looked at ends here."""

    api_cls = OperationsAPI

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        super().__init__(app)
        self.settings = settings

    def add_api(self, specification: Specification, **options: Any) -> OperationsAPI:
        return super().add_api(specification, settings=self.settings, **options)
