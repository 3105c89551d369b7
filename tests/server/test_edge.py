"""The outermost layer, on its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest


# What Connexion imports warns of its own future.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Using `httpx` with `starlette.testclient`")
def test_what_one_request_leaves_in_its_extensions_is_in_no_other_one() -> None:
    from server.edge import Edge

    seen: list[dict[str, Any]] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(dict(scope["extensions"]))
        scope["extensions"]["claims"] = {"sub": "alice"}

    async def nothing(*_: Any) -> Any: ...

    # As granian does: one dictionary for all requests.
    shared: dict[str, Any] = {"http.response.pathsend": {}}
    for _ in range(2):
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "extensions": shared}
        asyncio.run(Edge(app)(scope, nothing, nothing))
    assert seen == [{"http.response.pathsend": {}}] * 2
