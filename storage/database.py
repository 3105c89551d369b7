"""The one database: connections, transactions, and the field for times.

Two rules hold everywhere above it. Raising rolls back: whatever a request wrote inside `atomic()` is gone when it is
refused, so a thing that must survive the refusal is committed by itself, before. And everything that works once is
one guarded UPDATE or DELETE: its row count is the answer.
"""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TypeVar

import peewee
from playhouse.pool import PooledSqliteDatabase
from psycopg.conninfo import conninfo_to_dict

from storage.group_commit import GroupCommit
from storage.hanging import PostgresqlPool, has_hung_up
from storage.together import NextCall, Together

# Less than a request may take, so that its thread is free again when it is told to come back.
BUSY_SECONDS = 4
# What a call may take from its last commit to its end.
END_SECONDS = 0.1
POOL = 10
# The courier, readiness and a command look at the database beside the handlers.
BESIDE_THE_POOL = 4
# A statement that waits longer is given up, so that its request can be told to come again (milliseconds).
POSTGRESQL_OPTIONS = "-c statement_timeout=4000 -c lock_timeout=3000 -c idle_in_transaction_session_timeout=10000"
# Only a server that takes writes is connected to, since a standby would be kept for ever; and one that is not there any
# more is noticed after ten seconds, for which TCP by itself takes minutes where a machine has died, or hours.
FAILOVER = {
    "connect_timeout": "3",
    "target_session_attrs": "read-write",
    "keepalives_idle": "4",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}

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


def connect(url: str, pool: int = POOL, options: str = POSTGRESQL_OPTIONS) -> None:
    """Point every model at a database.

    Args:
        url: `sqlite:///path`, or `postgresql://user:password@host/name` with libpq's parameters.
        pool: How many connections handlers may hold at once.
        options: What PostgreSQL is told at each connection, unless the URL has `options` of its own.
    """
    _close_writer()
    if url.startswith("postgresql://"):
        database.initialize(_postgresql(url, pool + BESIDE_THE_POOL, options))
    elif path := url.removeprefix("sqlite:///"):
        database.initialize(_sqlite(path))


class _SqlitePool(PooledSqliteDatabase):  # type: ignore[misc]
    """Connections that can write, or none.

    SQLite would open a file that may not be written for reading alone, and with it, for as long as one such connection
    is open, every other one of the process.
    """

    def _connect(self) -> Any:
        files = (f"{self.database}{ending}" for ending in ("", "-wal", "-shm"))
        if not all(os.access(file, os.W_OK) for file in files if os.path.exists(file)):
            raise peewee.OperationalError("read-only")
        return super()._connect()


def _sqlite(path: str) -> Any:
    return _SqlitePool(
        path,
        pragmas={"journal_mode": "wal", "foreign_keys": 1, "synchronous": "full"},
        timeout=BUSY_SECONDS,
        returning_clause=True,
        max_connections=None,
        check_same_thread=False,
    )


def _postgresql(url: str, connections: int, options: str) -> Any:
    """Works behind PgBouncer in transaction mode: nothing is kept in a session, prepared statements included."""
    given = conninfo_to_dict(url)
    defaults = {"application_name": "mfa-server", "options": options, **FAILOVER}
    return PostgresqlPool(
        url,
        max_connections=connections,
        timeout=BUSY_SECONDS,
        prepare_threshold=None,
        **{name: value for name, value in defaults.items() if name not in given},
    )


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
    if not is_sqlite() and not database.is_closed() and has_hung_up(database.connection()):
        database.close()
    database.connect(reuse_if_open=True)
    return database.connection()


class Deadline:
    """When nobody waits any more for what a call does, in the seconds of `time.monotonic`; it may be drawn nearer.

    A call that has begun to commit in time is waited for, so that nobody hears of a failure where there is none.
    """

    def __init__(self, at: float = math.inf) -> None:
        self.at = at
        self._deciding = threading.Lock()
        self._kept_until = -math.inf

    def give_up(self) -> bool:
        """Draw it nearer, to now. False, and nothing is changed, while there is a commit to wait for."""
        now = time.monotonic()
        with self._deciding:
            if now < self._kept_until:
                return False
            self.at = min(self.at, now)
            return True

    def begin_commit(self) -> None:
        """Raises OperationalError when it is too late for that."""
        with self._deciding:
            if time.monotonic() > self.at:
                raise peewee.OperationalError("too late")
            self._kept_until = math.inf

    def end_commit(self) -> None:
        if self._kept_until == math.inf:
            self._kept_until = time.monotonic() + END_SECONDS


_NONE = Deadline()
_deadline = ContextVar("deadline", default=_NONE)


def end_by(deadline: Deadline) -> None:
    """From now on this call's transactions are undone when they end after `deadline`."""
    _deadline.set(deadline)


def is_late() -> bool:
    """Whether nobody waits any more for what this call does."""
    return time.monotonic() > _deadline.get().at


def run_together(calls: Together, next_call: NextCall) -> None:
    """On SQLite, run calls that share their commits in this thread; see `Together.run`."""
    _sqlite_writer().run_together(calls, next_call)


def result(work: Future[Value]) -> Value:
    """What other threads are at work on; calls that go together with this one do not wait for it.

    Raises what it raises, and OperationalError when nobody waits for this call any more.
    """
    calls = _sqlite_writer().calls() if is_sqlite() else None
    done = calls.result(work) if calls else work.result()
    if is_late():
        raise peewee.OperationalError("too late")
    return done


@contextmanager
def atomic(*, however_late: bool = False) -> Iterator[None]:
    """One write transaction: all of it or, when anything raises, nothing. Durable once the block has ended.

    Nor does anything happen that ends too late, when its request has been told that nothing has; but for what makes
    that true, `however_late`.
    """
    deadline = _deadline.get()
    try:
        with _transaction():
            yield
            if not however_late:
                deadline.begin_commit()
    finally:
        deadline.end_commit()


@contextmanager
def _transaction() -> Iterator[None]:
    if not is_sqlite():
        with database.atomic():
            yield
        return
    state = database.obj._state
    own = state.conn

    def use(connection: Any) -> None:
        # Peewee keeps a thread's connection here; while it is the thread's turn, that is the writer's.
        state.conn = own if connection is None else connection

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
            _writer = GroupCommit(connection, BUSY_SECONDS)
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
