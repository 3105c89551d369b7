"""The threads that handlers run in: what is told to have failed has not happened, and the slow hold up nobody."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import peewee
import pytest

import storage.database
from factors.errors import InvalidCode
from handlers import proof
from server import workers
from server.workers import Workers
from storage.audit import AuditEvent, record
from storage.database import atomic, result
from storage.user import Caller, User
from tests.databases import on_sqlite_only

ALICE = Caller.of("alice")
NOW = datetime.now(UTC)
SOON = 0.3


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ANSWER_SECONDS", SOON)
    monkeypatch.setattr(workers, "SLOW_ANSWER_SECONDS", SOON)


def run(*calls: tuple[Callable[[], Any], bool], threads: int = 3) -> list[Any]:
    """Call each, slow or not, all at once; the answers, or what was raised."""

    async def all_of_them() -> list[Any]:
        handlers = Workers(threads)
        handlers.start()
        try:
            begun = [handlers.run(function, {}, slow=slow) for function, slow in calls]
            return await asyncio.gather(*begun, return_exceptions=True)
        finally:
            handlers.stop()

    return asyncio.run(all_of_them())


def failures() -> int:
    return int(User.get_by_id(ALICE.id).failures)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("slow", [False, True])
def test_a_call_that_ends_too_late_has_changed_nothing(slow: bool) -> None:
    def change() -> None:
        with atomic():
            record(ALICE, "changed", NOW)
            time.sleep(2 * SOON)

    [answer] = run((change, slow))
    assert isinstance(answer, TimeoutError)
    assert AuditEvent.select().count() == 0


@pytest.mark.usefixtures("database")
def test_a_call_in_time_is_kept() -> None:
    def change() -> str:
        with atomic():
            record(ALICE, "changed", NOW)
        return "done"

    assert run((change, False)) == ["done"]
    assert AuditEvent.select().count() == 1


@pytest.mark.usefixtures("database")
def test_thr_07_a_right_code_that_is_accepted_too_late_costs_no_attempt() -> None:
    User.ensure(ALICE, NOW)

    def show() -> None:
        with proof.attempt(ALICE, NOW) as accepted:
            time.sleep(2 * SOON)
            with accepted():
                record(ALICE, "changed", NOW)

    [answer] = run((show, False))
    assert isinstance(answer, TimeoutError)
    assert (failures(), AuditEvent.select().count()) == (0, 0)


@pytest.mark.usefixtures("database")
def test_thr_03_a_wrong_code_that_is_refused_too_late_is_counted_and_on_record() -> None:
    User.ensure(ALICE, NOW)

    def show() -> None:
        with proof.attempt(ALICE, NOW):
            time.sleep(2 * SOON)
            raise InvalidCode(reason="wrong")

    run((show, False))
    assert failures() == 1
    assert [event.type for event in AuditEvent.select()] == ["proof.refused"]


@pytest.mark.usefixtures("database")
def test_what_nobody_waits_for_any_more_is_not_begun() -> None:
    begun = threading.Event()
    # One thread of two is for slow calls, and it is busy until nobody waits for the second.
    answers = run((lambda: time.sleep(2 * SOON), True), (begun.set, True), threads=2)
    assert all(isinstance(answer, TimeoutError) for answer in answers)
    assert not begun.is_set()


@pytest.mark.usefixtures("database")
def test_calls_that_wait_for_slow_work_hold_up_no_quick_one() -> None:
    ended: list[str] = []
    with ThreadPoolExecutor() as elsewhere:

        def slow() -> None:
            result(elsewhere.submit(time.sleep, SOON / 2))
            ended.append("slow")

        run(*[(slow, True)] * 4, (lambda: ended.append("quick"), False), threads=3)
    assert ended[0] == "quick"


@pytest.mark.usefixtures("database")
def test_a_call_that_waited_too_long_for_slow_work_changes_nothing() -> None:
    with ThreadPoolExecutor() as elsewhere:

        def change() -> None:
            result(elsewhere.submit(time.sleep, 2 * SOON))
            with atomic():
                record(ALICE, "changed", NOW)

        [answer] = run((change, True))
    assert isinstance(answer, TimeoutError)
    assert AuditEvent.select().count() == 0


@pytest.mark.usefixtures("database")
def test_slow_work_within_a_transaction_lets_no_other_call_into_it() -> None:
    with ThreadPoolExecutor() as elsewhere:

        def fail() -> None:
            with atomic():
                record(ALICE, "undone", NOW)
                result(elsewhere.submit(time.sleep, SOON / 3))
                raise ZeroDivisionError

        def change() -> int:
            seen = AuditEvent.select().count()
            with atomic():
                record(ALICE, "kept", NOW)
            return int(seen)

        failed, seen = run((fail, True), (change, False))
    assert isinstance(failed, ZeroDivisionError)
    assert seen == 0
    assert [event.type for event in AuditEvent.select()] == ["kept"]


@pytest.mark.usefixtures("database")
def test_a_call_that_fails_in_the_database_takes_nobody_elses_connection() -> None:
    with ThreadPoolExecutor() as elsewhere:

        def change() -> None:
            result(elsewhere.submit(time.sleep, SOON / 3))
            with atomic():
                record(ALICE, "kept", NOW)

        def fail() -> None:
            raise peewee.OperationalError("out of order")

        changed, failed = run((change, True), (fail, False))
    assert (changed, type(failed)) == (None, peewee.OperationalError)
    assert AuditEvent.select().count() == 1


@pytest.mark.usefixtures("database")
def test_whoever_waits_to_begin_is_given_another_connection_when_somebody_fails() -> None:
    def change() -> int:
        with atomic():
            record(ALICE, "kept", NOW)
        return AuditEvent.select().count()

    def fail() -> None:
        raise peewee.OperationalError("out of order")

    changed, failed = run((change, False), (fail, False))
    assert (changed, type(failed)) == (1, peewee.OperationalError)


@pytest.mark.usefixtures("database")
def test_a_call_is_answered_while_others_still_come() -> None:
    happened: list[str] = []

    def pause() -> None:
        happened.append("begun")
        time.sleep(SOON / 10)

    async def all_of_them() -> None:
        handlers = Workers(2)
        handlers.start()
        try:
            calls = [asyncio.ensure_future(handlers.run(pause, {}, slow=False)) for _ in range(5)]
            for call in calls:
                call.add_done_callback(lambda _: happened.append("answered"))
            await asyncio.gather(*calls)
        finally:
            handlers.stop()

    asyncio.run(all_of_them())
    assert happened.index("answered") < 3


@on_sqlite_only
@pytest.mark.usefixtures("database")
def test_on_sqlite_calls_at_once_share_their_commits() -> None:
    statements: list[str] = []

    def let_the_others_gather() -> None:
        time.sleep(SOON / 2)
        with atomic():
            storage.database.database.connection().set_trace_callback(statements.append)

    def change(name: str) -> None:
        for part in ("first", "second"):
            with atomic():
                record(ALICE, f"{name} {part}", NOW)

    run((let_the_others_gather, False), *[(partial(change, f"change {n}"), False) for n in range(20)])
    assert AuditEvent.select().count() == 40
    assert statements.count("COMMIT") == 2


@on_sqlite_only
def test_on_sqlite_another_process_waits_for_statements_alone(database: str) -> None:
    """Whatever else calls do before, between and after their transactions, the file is free."""
    path = database.removeprefix("sqlite:///")
    another = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    is_free: list[bool] = []

    def look() -> None:
        try:
            another.execute("BEGIN IMMEDIATE")
            another.execute("ROLLBACK")
        except sqlite3.OperationalError:
            is_free.append(False)
        else:
            is_free.append(True)

    def change() -> None:
        for _ in range(2):
            look()
            with atomic():
                record(ALICE, "changed", NOW)
        look()

    run(*[(change, False)] * 5)
    another.close()
    assert is_free == [True] * 15


def test_the_database_of_the_thread_is_open(database: Path) -> None:
    assert run((lambda: User.select().count(), False)) == [0]
