"""The application: Connexion with the contract, our operations behind its routing and security."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import yaml
from connexion import AsyncApp
from connexion.exceptions import ProblemException
from connexion.middleware import MiddlewarePosition
from connexion.middleware.abstract import ROUTING_CONTEXT
from connexion.middleware.exceptions import ExceptionMiddleware
from connexion.middleware.lifespan import LifespanMiddleware
from connexion.middleware.routing import RoutingMiddleware
from connexion.middleware.security import SecurityMiddleware
from connexion.middleware.server_error import ServerErrorMiddleware
from connexion.middleware.swagger_ui import SwaggerUIMiddleware
from connexion.options import SwaggerUIOptions
from connexion.spec import Specification
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from factors.errors import Refusal
from server import logs, problems, tokens
from server.courier import Courier
from server.edge import Edge
from server.operations import OperationsMiddleware
from server.security import BearerTokens
from server.settings import Settings
from server.signing import SigningKeys
from server.validation import ContractBroken
from server.workers import Workers
from storage import database, sealing

HERE = Path(__file__).parent
# A wheel carries the contract beside this file, a checkout at its top.
CONTRACT = next(path for path in (HERE / "openapi.yaml", HERE.parent / "openapi.yaml") if path.exists())
CORS_SECONDS = 600


class Documentation(SwaggerUIMiddleware):
    """Connexion's Swagger UI, which has no business with requests under /api/, and the contract as it is written.

    Connexion would resolve the contract anew for each request, which takes a second of everybody's time, and without
    its references the names of its schemas are lost.
    """

    def add_api(self, specification: Specification, **options: Any) -> None:
        documents = {
            "/openapi.json": (orjson.dumps(specification.raw), "application/json"),
            "/openapi.yaml": (CONTRACT.read_bytes(), "application/yaml"),
        }
        for path, (content, media_type) in documents.items():

            async def serve(_request: Request, content: bytes = content, media_type: str = media_type) -> Response:
                return Response(content, media_type=media_type)

            # Ahead of Connexion's.
            self.router.add_route(path, serve, methods=["GET"])
        super().add_api(specification, **options)
        _without_redirects(self.router)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        serve = self.app if scope.get("path", "").startswith("/api/") else super().__call__
        await serve(scope, receive, send)


class Cors(CORSMiddleware):
    """Only a request that a browser sends from another origin has the header; the others need no look."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from_a_page = any(name == b"origin" for name, _ in scope.get("headers", ()))
        serve = super().__call__ if from_a_page else self.app
        await serve(scope, receive, send)


class ExactRouting(RoutingMiddleware):
    """Connexion's routing, for which a path with one more slash is another path: unknown, and not a redirect.

    In Starlette's patterns `.` stops at a line end and `$` overlooks one. Here a `sub` may hold any character, and a
    path that ends with a line end is another path.

    Starlette tries one pattern after the other. A path without parameters is looked up instead.
    """

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app)
        self.looked_up: dict[tuple[str, str], dict[str, str | None]] = {}

    def add_api(self, specification: Specification, **options: Any) -> None:
        super().add_api(specification, **options)
        _without_redirects(self.router)
        for mount in self.router.routes:
            if isinstance(mount, Mount) and isinstance(mount.app, Router):
                for route in (mount, *mount.app.routes):
                    if isinstance(route, Mount | Route):
                        pattern = route.path_regex.pattern.removesuffix("$")
                        route.path_regex = re.compile(rf"{pattern}\Z", re.DOTALL)
                    if isinstance(route, Route) and not route.param_convertors:
                        operation: Any = route.endpoint
                        routed = {"api_base_path": mount.path, "operation_id": operation.operation_id}
                        for method in route.methods or ():
                            self.looked_up[method, mount.path + route.path] = routed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        routed = self.looked_up.get((scope.get("method", ""), scope.get("path", "")))
        if routed is None or scope.get("root_path"):
            await super().__call__(scope, receive, send)
            return
        scope["path_params"] = {}
        scope["extensions"][ROUTING_CONTEXT] = dict(routed)
        await self.app(scope, receive, send)


def _without_redirects(router: Router) -> None:
    """A path with one more slash is another path."""
    router.redirect_slashes = False
    for mount in router.routes:
        if isinstance(mount, Mount) and isinstance(mount.app, Router):
            mount.app.redirect_slashes = False


def create(settings: Settings | None = None) -> AsyncApp:
    """Stand the application up from the environment (or from `settings`, in tests): what uvicorn calls in a worker."""
    settings = settings or Settings()
    logs.configure(settings)
    database.connect(settings.database_url, settings.database_pool)
    sealing.use(settings.secret_keys)
    tokens.use(tokens.Verifier.from_settings(settings))

    signing_keys = SigningKeys(settings.signing_key_file)
    workers = Workers(settings.database_pool)

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        courier = Courier(settings, settings.audit_retention)
        courier.start()
        workers.start()
        try:
            yield
        finally:
            workers.stop()
            courier.stop()
            database.close()

    app = AsyncApp(
        __name__,
        lifespan=lifespan,
        middlewares=[
            ServerErrorMiddleware,
            ExceptionMiddleware,
            Documentation,
            ExactRouting,
            SecurityMiddleware,
            partial(OperationsMiddleware, settings=settings, signing_keys=signing_keys, workers=workers),
            LifespanMiddleware,
        ],
        security_map={"bearer": BearerTokens},
        swagger_ui_options=SwaggerUIOptions(swagger_ui_path="/docs"),
    )
    # Connexion would take it for a template and read it in Python, a fifth of a second at each start.
    app.add_api(yaml.load(CONTRACT.read_bytes(), Loader=yaml.CSafeLoader))
    for error in (Refusal, ContractBroken, ProblemException, HTTPException, Exception):
        app.add_error_handler(error, problems.answer)
    app.add_middleware(Edge, position=MiddlewarePosition.BEFORE_EXCEPTION)
    app.add_middleware(
        Cors,
        position=MiddlewarePosition.BEFORE_EXCEPTION,
        allow_origins=settings.origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "MFA-Assertion"],
        expose_headers=["Retry-After", "WWW-Authenticate", "X-Request-Id"],
        max_age=CORS_SECONDS,
    )
    return app
