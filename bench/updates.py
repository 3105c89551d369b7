"""How PostgreSQL takes the updates of a login: in place, as a heap-only tuple (HOT), or with every index anew."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from bench import seed
from bench.people import SECRET_BYTES, STEP_SECONDS, Issuer, People, Person
from storage.database import atomic, database
from storage.totp import TotpSecret
from storage.user import User

USERS = 1000
DAYS = 4
TABLES = ("mfa_user", "totp_secret")
FILL_FACTORS = (100, 90, 80)


def run(data: Path, url: str) -> None:
    """Let every user log in once a day, in no order, with a VACUUM each night."""
    click.echo(f"\nShare of updates that are HOT, {USERS:,} users who log in once a day, and bytes a row in the end")
    click.echo(
        f"{'table':16}{'fillfactor':>12}" + "".join(f"{f'day {day + 1}':>10}" for day in range(DAYS)) + f"{'bytes':>10}"
    )
    with seed.storage(data, url):
        database.execute_sql("SET synchronous_commit = off")
        issuer = Issuer(data / "issuer")
        for fill_factor in FILL_FACTORS:
            _one(issuer, fill_factor)


def _one(issuer: Issuer, fill_factor: int) -> None:
    for table in TABLES:
        database.execute_sql(f"ALTER TABLE {table} SET (fillfactor = {fill_factor}, autovacuum_enabled = off)")
    database.execute_sql("DELETE FROM mfa_user")
    database.execute_sql("VACUUM FULL")
    people = [Person(f"user-{n}", "", secrets.token_bytes(SECRET_BYTES)) for n in range(USERS)]
    seed.people(People(issuer, people, []))
    shares = []
    step = int(time.time()) // STEP_SECONDS
    for day in range(DAYS):
        before = _updates()
        _log_in(people, step + day)
        shares.append([(hot - h) / (all_ - a) for (all_, hot), (a, h) in zip(_updates(), before, strict=True)])
        for table in TABLES:
            database.execute_sql(f"VACUUM {table}")
    for n, table in enumerate(TABLES):
        size = database.execute_sql(f"SELECT pg_table_size('{table}') + pg_indexes_size('{table}')").fetchone()[0]
        days = "".join(f"{day[n]:10.0%}" for day in shares)
        click.echo(f"{table:16}{fill_factor:12}{days}{size / USERS:10.0f}")


def _log_in(people: Sequence[Person], step: int) -> None:
    """What a login updates: the attempt is counted; then the budget is whole, and the code spent."""
    now = datetime.now(UTC)
    for person in random.sample(people, len(people)):
        caller = person.caller
        User.count_attempt(caller, now)
        secret = TotpSecret.enabled(caller)
        with atomic():
            User.clear_attempts(caller)
            secret.spend(step, now)


def _updates() -> list[tuple[int, int]]:
    """Updates so far of each table, and how many of them were HOT."""
    database.execute_sql("SELECT pg_stat_force_next_flush()")
    rows = dict[str, tuple[int, int]]()
    for table, updates, hot in database.execute_sql(
        "SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
    ).fetchall():
        rows[table] = (updates, hot)
    return [rows[table] for table in TABLES]
