"""For the load balancer."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio.to_thread

from factors.errors import KeysUnavailable
from server import tokens
from storage.hanging import Grip
from storage.readiness import ask

ANSWER_SECONDS = 4.5


async def live() -> dict[str, Any]:
    """The process answers."""
    return {"status": "ok"}


async def ready() -> dict[str, Any]:
    """Database and access-token keys answer. Raises StorageUnavailable (as a database error) or KeysUnavailable."""
    await _database_answers()
    if not await tokens.current().keys.ready():
        raise KeysUnavailable
    return {"status": "ok"}


class _Question:
    """One question to the database, whose answer goes to all who ask meanwhile: one that hangs takes one thread."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._grip = Grip()
        self._answer = asyncio.ensure_future(anyio.to_thread.run_sync(ask, self._grip))

    @property
    def is_over(self) -> bool:
        return self._answer.done()

    async def wait(self) -> None:
        """Raises a database error, or TimeoutError."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await asyncio.shield(self._answer)
        except TimeoutError:
            self._grip.cut()
            raise


_question: _Question | None = None


async def _database_answers() -> None:
    global _question
    if _question is None or _question.is_over or _question.loop is not asyncio.get_running_loop():
        _question = _Question()
    await _question.wait()
