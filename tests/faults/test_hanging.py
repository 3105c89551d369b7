"""What hangs is given up and its thread comes back (REL-03); what only takes its time is waited for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import peewee
import pytest

from factors import backup
from handlers import hashing
from handlers.backup import regenerate
from server import workers
from server.workers import Workers
from storage.audit import AuditEvent, record
from storage.database import atomic
from storage.database import database as opened
from storage.user import Caller
from tests.faults.load import eventually

ALICE = Caller.of("alice")
SOON = 0.2


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ANSWER_SECONDS", SOON)
    monkeypatch.setattr(workers, "SLOW_ANSWER_SECONDS", 4 * SOON)
    monkeypatch.setattr(workers, "HANG_SECONDS", SOON)


def run(*calls: Callable[[], Any]) -> list[Any]:
    """The answers to slow calls, one after the other, which one and the same thread does."""

    async def all_of_them() -> list[Any]:
        handlers = Workers(2)
        handlers.start()
        try:
            begun = [handlers.run(call, {}, slow=True) for call in calls]
            return [(await asyncio.gather(each, return_exceptions=True))[0] for each in begun]
        finally:
            handlers.stop()

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.usefixtures("database")
def test_a_thread_gets_away_from_a_database_that_hangs_and_finds_another_connection() -> None:
    ended: list[tuple[Exception, float]] = []
    begun = time.monotonic()

    def hang() -> None:
        try:
            opened.execute_sql("SELECT pg_sleep(60)")
        except peewee.DatabaseError as error:
            ended.append((error, time.monotonic() - begun))
            raise

    def count() -> int:
        return int(AuditEvent.select().count())

    # It waits for the thread for longer than that hangs.
    count.is_busy = lambda: True  # type: ignore[attr-defined]
    heard, counted = run(hang, count)
    assert isinstance(heard, TimeoutError)
    assert counted == 0
    [(error, seconds)] = ended
    assert isinstance(error, peewee.OperationalError)
    # PostgreSQL itself would have ended it after four seconds.
    assert seconds < 4 * SOON


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("is_busy", [True, False])
def test_a_slow_call_is_waited_for_only_while_there_is_work_that_takes_long(is_busy: bool) -> None:
    def change() -> str:
        with atomic():
            record(ALICE, "changed", datetime.now(UTC))
            time.sleep(2 * SOON)
        return "done"

    change.is_busy = lambda: is_busy  # type: ignore[attr-defined]
    [answer] = run(change)
    if is_busy:
        assert answer == "done"
    else:
        assert isinstance(answer, TimeoutError)
    assert AuditEvent.select().count() == int(is_busy)


def test_hashing_is_work_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def digest(_code: str, _salt: bytes) -> bytes:
        go_on.wait()
        return b""

    monkeypatch.setattr(backup, "digest", digest)
    is_busy = regenerate.is_busy  # type: ignore[attr-defined]
    assert not is_busy()
    hashed = threading.Thread(target=hashing.digests, args=(["code"], b"salt"))
    hashed.start()
    try:
        eventually(is_busy, 5)
    finally:
        go_on.set()
        hashed.join()
    assert not is_busy()
