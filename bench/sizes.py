"""What a user and an event take on the disk, table by table."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import click
import peewee

from bench import seed
from bench.people import SECRET_BYTES, Issuer, People, Person
from bench.statements import OTHERS, USERS
from storage.audit import AuditEvent
from storage.database import atomic, database, is_sqlite
from storage.email import EmailFactor
from storage.mail_quota import MailQuota

# Of all users, those with a security key instead of an authenticator app, and those with a mailbox besides.
SHARE = 10
EVENT = {"type": "totp.verified", "operation": "handlers.verification.verify", "address": "203.0.113.77"}
APP = {"mfa_user": 1, "totp_secret": 1, "backup_code_set": 1, "backup_code": seed.CODES}
EXTRAS = {"a security key": "webauthn_credential", "a mailbox": "email_factor", "an audit event": "audit_event"}


class Size(NamedTuple):
    """A table with rows: bytes of its own and of its indexes."""

    rows: int
    heap: int
    indexes: int

    @property
    def each(self) -> float:
        return (self.heap + self.indexes) / self.rows


class Sizes(NamedTuple):
    """Bytes a user takes who has an authenticator app and ten backup codes; on average, as seeded; and an event."""

    app: float
    average: float
    event: float


def measure(name: str, data: Path, url: str, users: int) -> Sizes:
    """Seed a database, and print what is in it."""
    with seed.storage(data, url):
        _fill(Issuer(data / "issuer"), users)
        sizes = dict(_tables())
    click.echo(f"\n{name}, {users:,} users")
    click.echo(f"{'table':24}{'rows':>12}{'bytes a row':>14}{'of it indexes':>16}")
    for table, size in sizes.items():
        click.echo(f"{table:24}{size.rows:12,}{size.each:14.0f}{size.indexes / size.rows:16.0f}")
    app = sum(sizes[table].each * rows for table, rows in APP.items())
    click.echo(f"{'a user with an authenticator app and ten backup codes':54}{app:12.0f}")
    for what, table in EXTRAS.items():
        click.echo(f"{what:54}{sizes[table].each:12.0f}")
    kept = sum(size.heap + size.indexes for table, size in sizes.items() if table not in ("audit_event", *OTHERS))
    click.echo(f"{'a user on average: every tenth key, every tenth mailbox':54}{kept / users:12.0f}", nl=True)
    return Sizes(app, kept / users, sizes["audit_event"].each)


def _fill(issuer: Issuer, users: int) -> None:
    everybody = [Person(f"user-{n}", "", secrets.token_bytes(SECRET_BYTES)) for n in range(users)]
    tenth = users // SHARE
    seed.people(People(issuer, everybody[tenth:], everybody[:tenth]))
    now = datetime.now(UTC)
    with atomic():
        _insert(EmailFactor, (_mailbox(person, now) for person in everybody[-tenth:]))
        _insert(MailQuota, (_quota(person, now) for person in everybody[-tenth:]))
        # One after the other, as they happen: users come in no order.
        _insert(AuditEvent, (_event(person, now + timedelta(seconds=n)) for n, person in enumerate(everybody)))
    if not is_sqlite():
        database.execute_sql("VACUUM ANALYZE")


def _insert(model: type[peewee.Model], rows: Iterator[dict[str, Any]]) -> None:
    for chunk in peewee.chunked(rows, seed.CHUNK):
        model.insert_many(chunk).execute()


def _mailbox(person: Person, now: datetime) -> dict[str, Any]:
    address = f"{person.sub}@example.com"
    return {
        "user": person.caller.id,
        "device_id": uuid.uuid4(),
        "address": address,
        "created_at": now,
        "confirmed_at": now,
        "last_used_at": now,
    }


def _quota(person: Person, now: datetime) -> dict[str, Any]:
    return {"key": person.caller.id, "sent_at": f'["{now.isoformat()}"]', "last_sent_at": now}


def _event(person: Person, at: datetime) -> dict[str, Any]:
    return {"user_id": person.caller.id, "at": at, "id": uuid.uuid4(), "request_id": uuid.uuid4().hex, **EVENT}


def _tables() -> Iterator[tuple[str, Size]]:
    for table in (*USERS, *OTHERS):
        rows = int(database.execute_sql(f"SELECT count(*) FROM {table}").fetchone()[0])
        if rows:
            yield table, Size(rows, *(_on_sqlite if is_sqlite() else _on_postgresql)(table))


def _on_sqlite(table: str) -> tuple[int, int]:
    trees = dict(
        database.execute_sql(
            "SELECT name, sum(pgsize) FROM dbstat"
            " WHERE name IN (SELECT name FROM sqlite_master WHERE tbl_name = ?) GROUP BY name",
            (table,),
        ).fetchall()
    )
    heap = int(trees.pop(table))
    return heap, sum(trees.values())


def _on_postgresql(table: str) -> tuple[int, int]:
    heap, indexes = database.execute_sql(f"SELECT pg_table_size('{table}'), pg_indexes_size('{table}')").fetchone()
    return int(heap), int(indexes)
