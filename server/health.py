"""For the load balancer."""

from __future__ import annotations

from typing import Any

import anyio.to_thread

from factors.errors import KeysUnavailable
from server import tokens
from storage.database import connection, database


async def live() -> dict[str, Any]:
    """The process answers."""
    return {"status": "ok"}


async def ready() -> dict[str, Any]:
    """Database and access-token keys answer. Raises StorageUnavailable (as a database error) or KeysUnavailable."""
    await anyio.to_thread.run_sync(_ask_database)
    if not await tokens.current().keys.ready():
        raise KeysUnavailable
    return {"status": "ok"}


def _ask_database() -> None:
    with connection():
        database.execute_sql("SELECT 1 FROM mfa_user LIMIT 1").fetchall()
