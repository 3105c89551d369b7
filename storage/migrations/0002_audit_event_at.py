"""The audit trail of all users by time: for whoever reads it, and for retention."""

from typing import Any

from peewee import SqliteDatabase

# PostgreSQL builds it beside the requests that write events, but not in a transaction.
atomic = False


def up(migrator: Any, db: Any) -> None:
    concurrently = "" if isinstance(db, SqliteDatabase) else "CONCURRENTLY"
    # A build that was cut short leaves an index that is written and never read.
    db.execute_sql(f"DROP INDEX {concurrently} IF EXISTS audit_event_at")
    db.execute_sql(f"CREATE INDEX {concurrently} audit_event_at ON audit_event (at, id)")
