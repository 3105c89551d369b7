"""The audit trail of all users by time: for whoever reads it, and for retention."""

from typing import Any


def up(migrator: Any, db: Any) -> None:
    db.execute_sql("CREATE INDEX audit_event_at ON audit_event (at, id)")
