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
from server.settings import Settings
from server.signing import SigningKeys
from server.workers import Workers
from storage.database import database, is_sqlite
from storage.user import Caller

JSON = "application/json"
LARGEST_BODY = 64 * 1024
LONGEST_NAME = 255
LATEST_TIME = 253_402_300_799  # The end of the year 9999.
Headers = dict[bytes, bytes]
Supplies = tuple[Settings, SigningKeys, Workers]


class AnswerBreaksContract(Exception):
    """A handler's answer does not fit `openapi.yaml`; seen where `MFA_VALIDATE_RESPONSES` is on."""


class Operation:
    """One operation of the contract: an ASGI app that ends the request."""

    def __init__(
        self,
        operation: AbstractOperation,
        settings: Settings,
        signing_keys: SigningKeys,
        workers: Workers,
    ) -> None:
        self.id: str = operation.operation_id
        self.handler: Callable[..., Any] = operation.function
        self.is_read = operation.method.upper() == "GET"
        self.is_slow = hasattr(self.handler, "is_busy")
        self.is_async = inspect.iscoroutinefunction(self.handler)
        self.settings = settings
        self.workers = workers
        supplies: dict[str, Callable[[Scope], Any]] = {
            "caller": self._caller,
            "now": lambda _scope: datetime.now(UTC),
            "settings": lambda _scope: settings,
            "signing_keys": lambda _scope: signing_keys(),
        }
        wanted = inspect.signature(self.handler).parameters
        self.supplies = {name: supply for name, supply in supplies.items() if name in wanted}
        self.parameters = [
            (place["in"], place["name"], validation.compiled(place["schema"])) for place in operation.parameters
        ]
        contents = operation.request_body.get("content", {})
        # The contract gives each body one type.
        self.content_type: str = next(iter(contents), "")
        content = contents.get(self.content_type)
        self.body = validation.compiled(content["schema"]) if content else None
        answer = operation.responses["200"]
        self.answer = validation.compiled(answer["content"][JSON]["schema"]) if settings.validate_responses else None
        self.headers = [(b"content-type", JSON.encode())]
        for name, header in answer.get("headers", {}).items():
            # A header of an answer is a constant, and stands in the contract.
            self.headers.append((name.lower().encode(), header["schema"]["enum"][0].encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = dict(scope["headers"])
        _check_accept(headers)
        body = await _read(headers, receive)
        if self.body is not None:
            _check_content_type(headers, self.content_type)
        arguments = {name: supply(scope) for name, supply in self.supplies.items()}
        for place, name, validator in self.parameters:
            value = scope["path_params"][name] if place == "path" else _header(headers, name)
            if value is not None:
                validation.check(validator, value, place, name)
            arguments[name.lower().replace("-", "_")] = value
        if self.body is not None:
            arguments["body"] = validation.parse(body) if self.content_type == JSON else validation.parse_form(body)
            validation.check(self.body, arguments["body"], "body")
        if self.is_async:
            result = await self.handler(**arguments)
        elif self.is_read and is_sqlite():
            # SQLite answers sooner than a thread takes over, and in WAL mode a reader waits for nobody.
            database.connect(reuse_if_open=True)
            result = self.handler(**arguments)
        else:
            result = await self.workers.run(self.handler, arguments, slow=self.is_slow)
        payload = orjson.dumps(result, option=orjson.OPT_UTC_Z)
        if self.answer is not None and not self.answer.is_valid(orjson.loads(payload)):
            raise AnswerBreaksContract(self.id)
        length = (b"content-length", str(len(payload)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [*self.headers, length]})
        await send({"type": "http.response.body", "body": payload})

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
            amr=tuple(value for value in _list(claims.get("amr")) if isinstance(value, str)),
            auth_time=_time(claims.get("auth_time")),
            session=_shown(claims.get("sid")),
            operation=self.id,
            request_id=scope["state"]["request_id"],
            address=client[0] if client else "",
        )


def _shown(claim: Any) -> str:
    """A claim that people read: bounded, and encodable whatever the token holds."""
    return claim[:LONGEST_NAME].encode(errors="replace").decode() if isinstance(claim, str) else ""


def _list(claim: Any) -> list[Any]:
    return claim if isinstance(claim, list) else []


def _time(claim: Any) -> datetime | None:
    """A NumericDate (RFC 7519 section 2); what is none, or out of all range, is no time."""
    if isinstance(claim, bool) or not isinstance(claim, int | float) or not 0 < claim < LATEST_TIME:
        return None
    return datetime.fromtimestamp(claim, UTC)


def _check_accept(headers: Headers) -> None:
    accept = headers.get(b"accept")
    if accept in (None, b"", b"*/*", b"application/json"):
        return
    # JSON has no parameters, but clients that ask for it with a charset are many.
    ranges = parse_accept_header(accept.decode("latin-1"), MIMEAccept)
    if not MIMEAccept((kind.partition(";")[0].strip(), quality) for kind, quality in ranges).best_match([JSON]):
        raise NotAcceptable


def _header(headers: Headers, name: str) -> str | None:
    value = headers.get(name.lower().encode())
    return None if value is None else value.decode("latin-1")


def _check_content_type(headers: Headers, expected: str) -> None:
    kind, options = parse_options_header(headers.get(b"content-type", b"").decode("latin-1"))
    if kind.lower() != expected or options.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
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
    def __init__(self, specification: Specification, *, supplies: Supplies, **options: Any) -> None:
        super().__init__(specification, **options)
        self.supplies = supplies
        self.add_paths()

    def make_operation(self, operation: AbstractOperation) -> Operation:
        return Operation(operation, *self.supplies)


class OperationsMiddleware(RoutedMiddleware[OperationsAPI]):
    """The last of Connexion's middlewares: a request that was routed and whose token was looked at ends here."""

    api_cls = OperationsAPI

    def __init__(self, app: ASGIApp, settings: Settings, signing_keys: SigningKeys, workers: Workers) -> None:
        super().__init__(app)
        self.supplies = (settings, signing_keys, workers)

    def add_api(self, specification: Specification, **options: Any) -> OperationsAPI:
        api: OperationsAPI = super().add_api(specification, supplies=self.supplies, **options)
        return api
