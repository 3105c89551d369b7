"""The one database: what models stand on, transactions, and the field for times.

Two rules hold everywhere above it. Raising rolls back: whatever a request wrote inside `atomic()` is gone when it is
refused, so a thing that must survive the refusal is committed by itself, before. And everything that works once is
one guarded UPDATE or DELETE: its row count is the answer.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import peewee

from storage import pools
from storage.deadline import deadline
from storage.group_commit import GroupCommit
from storage.together import NextCall, Together

POOL = 10

Value = TypeVar("Value")

database = peewee.DatabaseProxy()

_writer: GroupCommit | None = None
_making_writer = threading.Lock()


class UtcDateTimeField(peewee.Field):
    """An aware UTC time, kept to the microsecond; as ISO text of one width where there is no such type."""

    field_type = "TIMESTAMPTZ"

    def db_value(self, value: datetime | None) -> datetime | str | None:
        if value is None or not is_sqlite():
            return value
        return value.astimezone(UTC).isoformat(timespec="microseconds")

    def python_value(self, value: str | datetime | None) -> datetime | None:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        return None if value is None else value.astimezone(UTC)


class Model(peewee.Model):
    class Meta:
        database = database
        legacy_table_names = False


def connect(url: str, pool: int = POOL, options: str = pools.POSTGRESQL_OPTIONS) -> None:
    """Point every model at a database.

    Args:
        url: `sqlite:///path`, or `postgresql://user:password@host/name` with libpq's parameters.
        pool: How many connections handlers may hold at once.
        options: What PostgreSQL is told at each connection, unless the URL has `options` of its own.
    """
    _close_writer()
    if url.startswith("postgresql://"):
        database.initialize(pools.postgresql(url, pool, options))
    elif path := url.removeprefix("sqlite:///"):
        database.initialize(pools.sqlite(path))


def is_sqlite() -> bool:
    return isinstance(database.obj, peewee.SqliteDatabase)


def gives_up() -> bool:
    """Whether a statement ends that takes too long. A pooler may have kept our own options from the server."""
    if is_sqlite():
        return True
    with connection():
        return bool(database.execute_sql("SHOW statement_timeout").fetchone() != ("0",))


def connection() -> Any:
    """A connection for the length of a `with` block; each thread has its own, taken from a pool."""
    return database.connection_context()


def keep_connection() -> Any:
    """This thread's connection, kept from one call to the next, or another where the server has hung up meanwhile."""
    if not is_sqlite() and not database.is_closed() and pools.has_hung_up(database.connection()):
        database.close()
    database.connect(reuse_if_open=True)
    return database.connection()


def run_together(calls: Together, next_call: NextCall) -> None:
    """On SQLite, run calls that share their commits in this thread; see `Together.run`."""
    _sqlite_writer().run_together(calls, next_call)


def result(work: Future[Value]) -> Value:
    """What other threads are at work on; calls that go together with this one do not wait for it.

    Raises what it raises, and OperationalError when nobody waits for this call any more.
    """
    calls = _sqlite_writer().calls() if is_sqlite() else None
    done = calls.result(work) if calls else work.result()
    deadline().check()
    return done


@contextmanager
def atomic(*, however_late: bool = False) -> Iterator[None]:
    """One write transaction: all of it or, when anything raises, nothing. Durable once the block has ended.

    Nor does anything happen that ends too late, when its request has been told that nothing has; but for what makes
    that true, `however_late`.
    """
    until = deadline()
    try:
        with _transaction():
            yield
            if not however_late:
                until.begin_commit()
    finally:
        until.end_commit()


@contextmanager
def _transaction() -> Iterator[None]:
    if not is_sqlite():
        keep_connection()
        with database.atomic():
            yield
        return
    state = database.obj._state
    own: Any = None

    def use(connection: Any) -> None:
        # Peewee keeps a thread's connection here; while it is the thread's turn, that is the writer's.
        nonlocal own
        if connection is not None:
            # What went wrong before, in this call or in another of this thread, may have been the connection.
            own = keep_connection()
        state.conn = connection or own

    try:
        with _sqlite_writer().transaction(use):
            yield
    except sqlite3.OperationalError as error:
        raise peewee.OperationalError(str(error)) from error


def _sqlite_writer() -> GroupCommit:
    """The one for this database in this process, made when it is first needed."""
    global _writer
    with _making_writer:
        if _writer is None:
            connection = database.obj._connect()
            connection.execute("PRAGMA busy_timeout = 0")
            _writer = GroupCommit(connection, pools.BUSY_SECONDS)
        return _writer


def close() -> None:
    """Close every idle connection, and the writer's."""
    _close_writer()
    database.close_all()


def _close_writer() -> None:
    global _writer
    with _making_writer:
        if _writer is not None:
            _writer.close()
            _writer = None
