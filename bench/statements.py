"""What is asked of a database while a block runs, and how far a statement reaches: to one user's rows, or further."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple
from unittest.mock import patch

import psycopg

from storage.audit import AuditEvent
from storage.backup import BackupCode, BackupCodeSet
from storage.challenge import Challenge
from storage.database import database, is_sqlite
from storage.email import EmailFactor
from storage.mail_quota import MailQuota
from storage.outbox import OutboxMail
from storage.totp import TotpSecret
from storage.user import User
from storage.webauthn import WebAuthnCredential, WebAuthnRegistration


def _leading(*models: Any) -> dict[str, str]:
    """Each table, and the column that its primary key begins with."""
    return {model._meta.table_name: model._meta.get_primary_keys()[0].column_name for model in models}


# The tables whose rows are a user's, and those that have a key of their own.
USERS = _leading(
    User,
    TotpSecret,
    EmailFactor,
    BackupCodeSet,
    BackupCode,
    WebAuthnCredential,
    WebAuthnRegistration,
    Challenge,
    AuditEvent,
)
OTHERS = _leading(MailQuota, OutboxMail)
# What opens and ends a transaction asks nothing, nor does what SQLite does by itself, such as a cascade.
FRAME = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "PRAGMA", "--")
# The last part of a partition's name is its place among the others.
PARTITION = re.compile(r"(\w+)_(\d+)")
SEARCH = re.compile(r"SEARCH (\w+) .*?\((\w+)=\?")
INSERT = re.compile(r'INSERT (?:OR \w+ )?INTO "(\w+)" \(([^)]*)\)')
NAMED = re.compile(r'"(\w+)" AS "(\w+)"')


class Reach(Enum):
    """How far a statement reaches."""

    USER = "one user"
    ROW = "one row, by another key"
    MORE = "more"


class Statement(NamedTuple):
    """SQL and its parameters; on SQLite they stand in the SQL."""

    sql: str
    parameters: Sequence[Any] | None = None

    @property
    def shape(self) -> str:
        """The SQL without its values: the same for every request."""
        return re.sub(r"X?'(?:[^']|'')*'|(?<![\w.\"])\d+(?:\.\d+)?|%s", "?", self.sql)


@dataclass
class Recording:
    statements: list[Statement] = field(default_factory=list)
    transactions: int = 0

    def add(self, sql: str, parameters: Sequence[Any] | None = None) -> None:
        if not sql.startswith(FRAME):
            self.statements.append(Statement(sql, parameters))
        elif sql.startswith("BEGIN"):
            self.transactions += 1

    def clear(self) -> None:
        self.statements.clear()
        self.transactions = 0


@contextmanager
def recorded() -> Iterator[Recording]:
    """Every statement of this process on connections that are made from now on."""
    recording = Recording()
    connect, execute = sqlite3.connect, psycopg.Cursor.execute

    def watched(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(recording.add)
        return connection

    def noted(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        recording.add(str(query), params)
        return execute(self, query, params, **options)

    with patch("sqlite3.connect", watched), patch("psycopg.Cursor.execute", noted):
        yield recording


def reach(statement: Statement) -> Reach:
    """How far a statement reaches in the database that is open; on PostgreSQL, one that is partitioned.

    It is the plan that tells. SQLite's is made without the unique index of credential ids, which partitions cannot
    have; PostgreSQL's names the partitions that are left once the parameters are known.
    """
    inserting = INSERT.match(statement.sql)
    if inserting is not None:
        # It goes where its own columns say.
        table, columns = inserting.groups()
        return Reach.USER if USERS.get(table, "user_id") in re.findall(r"\w+", columns) else Reach.ROW
    return _furthest(_sqlite(statement) if is_sqlite() else _postgresql(statement))


def _furthest(found: list[Reach]) -> Reach:
    return next((reach for reach in (Reach.MORE, Reach.ROW) if reach in found), Reach.USER)


def _sqlite(statement: Statement) -> list[Reach]:
    tables = {alias: table for table, alias in NAMED.findall(statement.sql)}
    plan = [line for line in _sqlite_plan(statement) if line.startswith(("SEARCH", "SCAN"))]
    found = []
    for line in plan:
        by = SEARCH.match(line)
        table, column = (str(tables.get(by[1], by[1])), by[2]) if by else ("", "")
        if column and USERS.get(table) == column:
            found.append(Reach.USER)
        elif column and OTHERS.get(table) == column:
            found.append(Reach.ROW)
        elif line != "SCAN CONSTANT ROW":
            found.append(Reach.MORE)
    return found


def _sqlite_plan(statement: Statement) -> list[str]:
    schema = database.execute_sql("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
    with closing(sqlite3.connect(":memory:")) as empty:
        for (sql,) in schema.fetchall():
            empty.execute(sql.replace(" UNIQUE", ""))
        return [str(row[-1]) for row in empty.execute(f"EXPLAIN QUERY PLAN {statement.sql}")]


def _postgresql(statement: Statement) -> list[Reach]:
    # On few rows it would rather read all than look into an index.
    database.execute_sql("SET enable_seqscan = off")
    plan = database.execute_sql(f"EXPLAIN (FORMAT JSON) {statement.sql}", statement.parameters).fetchone()[0]
    database.execute_sql("RESET enable_seqscan")
    found, places, others = [], set(), set()
    for node in _scans(plan[0]["Plan"]):
        name = node["Relation Name"]
        partition = PARTITION.fullmatch(name)
        if partition is None:
            by_key = node.get("Index Cond", "").startswith(f"({OTHERS.get(name)} = ")
            found.append(Reach.ROW if by_key else Reach.MORE)
        elif partition[1] in USERS:
            places.add(partition[2])
        else:
            others.add(name)
    found += [Reach.MORE] * (len(places) > 1 or len(others) > 1)
    return found + [Reach.ROW] * len(others)


def _scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What reads a table, of all that a plan is made of."""
    if "Scan" in plan["Node Type"] and "Relation Name" in plan:
        yield plan
    for below in plan.get("Plans", []):
        yield from _scans(below)
