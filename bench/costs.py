"""What each operation asks of PostgreSQL: statements, commits, rows, bytes of its log; and how far that reaches."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from unittest.mock import patch

import click

import storage.database
from bench.statements import Reach, Recording, reach, recorded
from factors import backup
from storage import audit_trail, restoration, rotation, sealing
from storage.database import connection, database
from storage.outbox import OutboxMail
from storage.purge import purge
from storage.sealing import Keyring
from storage.user import Caller
from tests import operations
from tests.states import Person, World

TIMES = 5
KEYS = {"bench": bytes(sealing.KEY_BYTES)}
# What one login is made of, and what is looked at beside it.
LOGIN = ("challenge", "verify, authenticator app")


class Cost(NamedTuple):
    """Of one operation; `log` and `log_with_pages` are bytes of write-ahead log.

    PostgreSQL logs the whole of a page that changes for the first time since a checkpoint. Without any such page it is
    `log`; with all of them, as where users are so many that hardly two meet on a page, `log_with_pages`.
    """

    statements: int
    commits: int
    rows: tuple[int, int, int]
    log: float
    log_with_pages: float


def measure(url: str) -> dict[str, Cost]:
    """Do every operation a few times, and print what it takes."""
    click.echo(
        f"\n{'operation':32}{'statements':>11}{'commits':>9}{'rows +':>8}{'~':>4}{'-':>4}{'log bytes':>11}{'most':>9}"
    )
    costs = {}
    with _opened(url) as recording:
        for name, prepare in operations.ALL.items():
            world = World()
            acts = [prepare(Person(world, f"{name} {n}")) for n in range(2 * TIMES)]
            with _full_page_writes("off"):
                plain = [_one(act, recording) for act in acts[:TIMES]]
            with _full_page_writes("on"):
                # What readers would note on pages, that a row is there for all, is noted now.
                database.execute_sql("VACUUM")
                full = [_one(act, recording, checkpoint=True) for act in acts[TIMES:]]
            log, most = (statistics.median(cost.log for cost in measured) for measured in (plain, full))
            cost = costs[name] = plain[0]._replace(log=log, log_with_pages=most)
            inserted, updated, deleted = cost.rows
            rows = f"{inserted:8}{updated:4}{deleted:4}"
            click.echo(f"{name:32}{cost.statements:11}{cost.commits:9}{rows}{log:11.0f}{most:9.0f}")
    return costs


def _one(act: operations.Act, recording: Recording, *, checkpoint: bool = False) -> Cost:
    if checkpoint:
        database.execute_sql("CHECKPOINT")
    before, began = _rows(), _log_bytes()
    recording.clear()
    act()
    statements, commits = len(recording.statements), recording.transactions
    log, after = _log_bytes() - began, _rows()
    inserted, updated, deleted = (late - early for late, early in zip(after, before, strict=True))
    return Cost(statements, commits, (inserted, updated, deleted), log, log)


def reaches(url: str) -> bool:
    """Print which statements do not lead with the user. Returns whether no request has one that reaches further."""
    with _opened(url) as recording:
        kind = "SQLite" if storage.database.is_sqlite() else "PostgreSQL, partitioned"
        world, requests, rows = World(), dict[str, Reach](), dict[str, str]()
        for name, prepare in operations.ALL.items():
            act = prepare(Person(world, name))
            recording.clear()
            act()
            for statement in list(recording.statements):
                requests[statement.shape] = found = reach(statement)
                if found is not Reach.USER:
                    rows.setdefault(statement.shape, f"{found.value}: {_short(statement.shape)} ({name})")
        beyond = [shape for shape, found in requests.items() if found is Reach.MORE]
        click.echo(
            f"\n{kind}: {len(requests)} statements of requests, {len(beyond)} of them reach beyond one user or row"
        )
        for line in rows.values():
            click.echo(f"  {line}")
        if not storage.database.is_sqlite():
            _show_maintenance(recording)
    return not beyond


def _show_maintenance(recording: Recording) -> None:
    click.echo("\nMaintenance, statements that do not lead with the user")
    for what, work in _maintenance().items():
        recording.clear()
        work()
        shapes = {statement.shape: reach(statement) for statement in list(recording.statements)}
        for shape, found in shapes.items():
            if found is not Reach.USER:
                click.echo(f"  {what:15}{found.value + ':':25}{_short(shape)}")


def _maintenance() -> dict[str, Callable[[], object]]:
    now = datetime.now(UTC)
    later, operator, newer = now + timedelta(days=3), Caller.of("operator"), KEYS | {"newer": bytes(32)}

    def send() -> None:
        mail = OutboxMail.claim(World().now)
        if mail is not None:
            mail.delay(now)
            mail.remove()

    return {
        "readiness": lambda: database.execute_sql("SELECT 1 FROM mfa_user LIMIT 1").fetchall(),
        "courier": send,
        "check": lambda: rotation.count_by_key(now),
        "rotate-keys": lambda: list(rotation.reseal(Keyring(dict(reversed(newer.items()))))),
        "audit": lambda: [audit_trail.names({e.user_id for e in page}) for page in audit_trail.read(since=World().now)],
        "audit --user": lambda: list(audit_trail.read(user=operator.id)),
        "after-restore": lambda: list(restoration.shut(operator, now, 1, backup_codes=True)),
        "purge": lambda: (OutboxMail.expire(later), purge(later, timedelta(days=1))),
    }


def _short(shape: str) -> str:
    """A statement without its columns' names, quotes and values."""
    plain = shape.replace('"', "").replace("t1.", "")
    head, _, rest = plain.partition(" FROM ")
    verb = head.partition(" ")[0]
    text = f"{verb} … FROM {rest}" if verb == "SELECT" and rest else plain
    return text if len(text) <= 110 else f"{text[:109]}…"


@contextmanager
def _opened(url: str) -> Iterator[Recording]:
    """The database, with all that is asked of it; hashes cost nothing here, since nothing of it is a database's."""
    sealing.use(KEYS)
    cheap = patch.multiple(backup, MEMORY_KIB=8, PASSES=1)
    with cheap, recorded() as recording:
        storage.database.connect(url)
        try:
            with connection():
                yield recording
        finally:
            storage.database.close()


@contextmanager
def _full_page_writes(value: str) -> Iterator[None]:
    database.execute_sql(f"ALTER SYSTEM SET full_page_writes = {value}")
    database.execute_sql("SELECT pg_reload_conf()")
    while database.execute_sql("SHOW full_page_writes").fetchone()[0] != value:
        pass
    try:
        yield
    finally:
        database.execute_sql("ALTER SYSTEM RESET full_page_writes")
        database.execute_sql("SELECT pg_reload_conf()")


def _rows() -> tuple[int, int, int]:
    """Rows that were added, changed and removed so far."""
    database.execute_sql("SELECT pg_stat_force_next_flush()")
    added, changed, removed = database.execute_sql(
        "SELECT sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_del) FROM pg_stat_user_tables"
    ).fetchone()
    return int(added), int(changed), int(removed)


def _log_bytes() -> float:
    return float(database.execute_sql("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()[0])
