"""Indexes that are built beside the requests: for steps of the schema that are no transaction."""

from __future__ import annotations

from typing import Any

from peewee import SqliteDatabase

PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass ORDER BY 1"


def build(db: Any, name: str, table: str, columns: str) -> None:
    """Build an index, on PostgreSQL without keeping anybody from the table. It may have been begun before.

    PostgreSQL builds none of a partitioned table in this way, so there each partition gets its own, and the table's is
    made of those.
    """
    execute: Any = db.execute_sql
    partitions = [] if isinstance(db, SqliteDatabase) else execute(PARTITIONS, (table,)).fetchall()
    concurrently = "" if isinstance(db, SqliteDatabase) or partitions else "CONCURRENTLY"
    # A build that was cut short leaves an index that is written and never read.
    execute(f"DROP INDEX {concurrently} IF EXISTS {name}")
    execute(f"CREATE INDEX {concurrently} {name} ON {'ONLY' if partitions else ''} {table} ({columns})")
    for place, (partition,) in enumerate(partitions):
        build(db, f"{name}_{place}", partition, columns)
        execute(f"ALTER INDEX {name} ATTACH PARTITION {name}_{place}")
