"""The audit trail of all users by time: for whoever reads it, and for retention."""

from typing import Any

from storage.indexes import build

# PostgreSQL builds it beside the requests that write events, but not in a transaction.
atomic = False


def up(migrator: Any, db: Any) -> None:
    build(db, "audit_event_at", "audit_event", "at, id")
