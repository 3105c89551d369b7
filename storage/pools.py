"""The connections to either database: how they are made, kept and given up.

The driver of PostgreSQL is imported where it is needed: see `server/__main__.py`.
"""

from __future__ import annotations

import os
import select
from typing import Any

import peewee
from playhouse.pool import PooledSqliteDatabase
from playhouse.postgres_ext import PooledPsycopg3Database

# Less than a request may take, so that its thread is free again when it is told to come back.
BUSY_SECONDS = 4
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

# Peewee's own way to make its errors of the driver's.
driver_errors = peewee.__exception_wrapper__  # type: ignore[attr-defined]  # Its type hints leave it out.


class _SqlitePool(PooledSqliteDatabase):  # type: ignore[misc]  # Peewee's playhouse has no types.
    """Connections that can write, or none.

    SQLite would open a file that may not be written for reading alone, and with it, for as long as one such connection
    is open, every other one of the process.
    """

    def _connect(self) -> Any:
        files = (f"{self.database}{ending}" for ending in ("", "-wal", "-shm"))
        if not all(os.access(file, os.W_OK) for file in files if os.path.exists(file)):
            raise peewee.OperationalError("read-only")
        return super()._connect()


def sqlite(path: str) -> Any:
    return _SqlitePool(
        path,
        pragmas={"journal_mode": "wal", "foreign_keys": 1, "synchronous": "full"},
        timeout=BUSY_SECONDS,
        returning_clause=True,
        max_connections=None,
        check_same_thread=False,
    )


def is_conninfo(text: str) -> bool:
    """Whether libpq understands it."""
    from psycopg import ProgrammingError, conninfo

    try:
        conninfo.conninfo_to_dict(text)
    except ProgrammingError:  # Its message would repeat the password.
        return False
    return True


class PostgresqlPool(PooledPsycopg3Database):  # type: ignore[misc]  # Peewee's playhouse has no types.
    """Connections that are looked at before they are handed out, without a question to the server.

    Peewee would ask, with the pool locked: a server that hangs would hold up everyone who wants another connection.
    """

    def _is_closed(self, connection: Any) -> bool:
        if not has_hung_up(connection):
            return False
        self._close_raw(connection)
        return True

    def _can_reuse(self, connection: Any) -> bool:
        return not has_hung_up(connection) and bool(super()._can_reuse(connection))


def has_hung_up(connection: Any) -> bool:
    """Whether the server has closed a connection on which nothing is under way."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    # Unasked, a server says nothing but goodbye.
    return bool(poll.poll(0))


def postgresql(url: str, pool: int, options: str) -> Any:
    """`pool` connections for handlers, and a few for others.

    Works behind PgBouncer in transaction mode: nothing is kept in a session, prepared statements included.
    """
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(url)
    defaults = {"application_name": "mfa-server", "options": options, **FAILOVER}
    return PostgresqlPool(
        url,
        max_connections=pool + BESIDE_THE_POOL,
        timeout=BUSY_SECONDS,
        prepare_threshold=None,
        **{name: value for name, value in defaults.items() if name not in given},
    )
