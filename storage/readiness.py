"""Whether the database takes what requests have to change."""

from __future__ import annotations

import peewee

from storage.database import atomic, connection, database, is_sqlite
from storage.hanging import Grip


def ask(grip: Grip) -> None:
    """Ask the database. Raises a DatabaseError when it cannot be read or cannot be changed.

    Args:
        grip: Cuts the question off.
    """
    with connection(), grip.on(database.connection()):
        database.execute_sql("SELECT 1 FROM mfa_user LIMIT 1").fetchall()
        if is_sqlite():
            _write()
        # A standby, or one that its operator has shut.
        elif database.execute_sql("SHOW transaction_read_only").fetchone() != ("off",):
            raise peewee.OperationalError("read-only")


def _write() -> None:
    """Write a page and change nothing: a full disk shows in no other way, nor does a file that another process has."""
    with atomic():
        (version,) = database.execute_sql("PRAGMA user_version").fetchone()
        database.execute_sql(f"PRAGMA user_version = {version:d}").fetchall()
