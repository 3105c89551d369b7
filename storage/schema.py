"""The schema: its steps, each taken once, by whoever comes first, while servers of the version before go on.

A step adds, and a version that does not know it goes on. One that takes away what no version uses any more says in its
name which step a version must know so as not to: `0007_drop_something_needs_0005`. On PostgreSQL a step is one
transaction, or none at all where its file says `atomic = False`; then it must bear being taken again from the start.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import peewee
from playhouse.migrations import Runner

from storage.database import connection, database, is_sqlite
from storage.pools import driver_errors

STEPS = Path(__file__).parent / "migrations"
NEEDS = re.compile(r"_needs_(\d{4})$")
# For `connect`, before `migrate`: what builds an index takes its time.
OPTIONS = "-c statement_timeout=0 -c lock_timeout=0"
ONE_AT_A_TIME = 7_006_301
ASK_SECONDS = 0.1
# Whoever waits for a table makes all wait who come after. So it is not for long: then requests have their turn.
LOCK_TIMEOUT = "500ms"
TURN_SECONDS = 1.0
# SQLSTATEs: lock_not_available, deadlock_detected.
IN_USE = ("55P03", "40P01")
# How long it is tried again. A backup that reads a table may take longer, and a step that changes the table with it.
GIVE_UP_SECONDS = 600.0


class NewerSchema(Exception):
    """The schema has lost something that this version needs."""


class Differences(NamedTuple):
    """The names of the steps that the schema lacks, and of those that this version does not know but goes on with."""

    pending: list[str]
    unknown: list[str]


def differences() -> Differences:
    """How the schema differs from the one of this version. Raises NewerSchema."""
    with connection():
        return _differences()


def migrate() -> list[str]:
    """Bring the schema up to date; parallel callers wait for the first. Returns the names of the steps it took.

    Raises NewerSchema.
    """
    if is_sqlite():
        with connection(), database.atomic("IMMEDIATE"):
            _differences()
            return [str(name) for name in _runner().up()]
    with _alone(), connection():
        pending = _differences().pending
        for name in pending:
            _take(name)
        return pending


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock of all who migrate, on a connection of its own.

    It is a transaction's lock, so that a pooler may stand between. Who waits for it asks again and again, since to
    build an index beside requests PostgreSQL waits for every statement that has begun, and so for one that waits.
    """
    with driver_errors:
        holder = database.obj._connect()
    try:
        while not _locked(holder):
            time.sleep(ASK_SECONDS)
        yield
        with driver_errors:
            holder.rollback()
    finally:
        database.obj._close(holder, close_conn=True)


def _locked(holder: Any) -> bool:
    with driver_errors:
        holder.execute("BEGIN")
        holder.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        # Without parameters: with some, PostgreSQL keeps the statement open, and would wait for it as well.
        if holder.execute(f"SELECT pg_try_advisory_xact_lock({ONE_AT_A_TIME})").fetchone()[0]:
            return True
        holder.rollback()
        return False


def _take(name: str) -> None:
    """Take one step."""
    runner = _runner()
    step = next(step for step in runner.migrations() if step.name == name)
    if not getattr(step.load(), "atomic", True):
        runner.up(name)
        return
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while True:
        try:
            with database.atomic():
                database.execute_sql(f"SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                runner.up(name)
            return
        except peewee.OperationalError as error:
            if getattr(getattr(error, "orig", None), "sqlstate", None) not in IN_USE or time.monotonic() > deadline:
                raise
        time.sleep(TURN_SECONDS)


def _differences() -> Differences:
    steps = _runner().status()
    known = {step.idx for step in steps if step.path is not None}
    unknown = [str(step.name) for step in steps if step.path is None]
    if any((needed := NEEDS.search(name)) and int(needed[1]) not in known for name in unknown):
        raise NewerSchema
    return Differences([str(step.name) for step in steps if not step.applied], unknown)


def _runner() -> Runner:
    return Runner(database.obj, str(STEPS))
