"""The one database: connections, transactions, and the field for times.

Two rules hold everywhere above it. Raising rolls back: whatever a request wrote inside `atomic()` is gone when it is
refused, so a thing that must survive the refusal is committed by itself, before. And everything that works once is
one guarded UPDATE or DELETE: its row count is the answer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import peewee
from playhouse.migrations import Runner
from playhouse.pool import PooledSqliteDatabase

BUSY_SECONDS = 5
MIGRATIONS = Path(__file__).parent / "migrations"

database = peewee.DatabaseProxy()

# SQLite has one writer at a time. Threads of one process queue here, fairly and without polling the file;
# only other processes are left to SQLite's busy timeout.
_writer = threading.Lock()


class UtcDateTimeField(peewee.Field):
    """An aware UTC time, kept to the microsecond; as ISO text of one width where there is no such type."""

    field_type = "TIMESTAMPTZ"

    def db_value(self, value: datetime | None) -> str | None:
        return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")

    def python_value(self, value: str | datetime | None) -> datetime | None:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        return None if value is None else value.astimezone(UTC)


class Model(peewee.Model):
    class Meta:
        database = database
        legacy_table_names = False


def connect(url: str) -> None:
    """Point every model at the database of `url` (`sqlite:///path`)."""
    path = urlsplit(url).path.removeprefix("/") if url.startswith("sqlite:///") else ""
    if not path:
        raise ValueError("the database URL has the form sqlite:///path/to/file.db")
    sqlite = PooledSqliteDatabase(
        path,
        pragmas={"journal_mode": "wal", "foreign_keys": 1, "synchronous": "full"},
        timeout=BUSY_SECONDS,
        returning_clause=True,
        max_connections=None,
        check_same_thread=False,
    )
    database.initialize(sqlite)


def connection() -> Any:
    """A connection for the length of a `with` block; each thread has its own, taken from a pool."""
    return database.connection_context()


@contextmanager
def atomic() -> Iterator[None]:
    """One write transaction: all of it or, when anything raises, nothing."""
    if not _writer.acquire(timeout=BUSY_SECONDS):
        raise peewee.OperationalError("the writer did not come free")
    try:
        with database.atomic("IMMEDIATE"):
            yield
    finally:
        _writer.release()


def migrate() -> list[str]:
    """Bring the schema up to date; parallel callers wait for the first. Returns the names of the steps it took."""
    with connection(), atomic():
        return [str(name) for name in Runner(database.obj, str(MIGRATIONS)).up()]


def close() -> None:
    """Close every idle connection."""
    database.close_all()
