"""From what one user and one login take to what many do. Nothing is measured here: it is arithmetic."""

from __future__ import annotations

import math
from typing import NamedTuple

import click

from storage.database import POOL
from storage.pools import BESIDE_THE_POOL

POPULATIONS = (1_000_000, 100_000_000, 1_000_000_000)
DAY = 86_400
# Assumptions: logins of a user a day, the busiest second to a mean one, days that audit events are kept, how busy a
# core may be, and what one PostgreSQL server has and holds.
LOGINS_A_DAY = 1
PEAK = 5
RETENTION_DAYS = 400
BUSY = 0.6
SHARD_BYTES = 4e12
SHARD_CORES = 16
CONNECTIONS_A_WORKER = POOL + BESIDE_THE_POOL


class Measured(NamedTuple):
    """Bytes of a user and of an event; of a login, bytes of log at least and at most, commits, and CPU seconds."""

    user: float
    event: float
    log: float
    log_with_pages: float
    commits: int
    server_cpu: float
    database_cpu: float


class Need(NamedTuple):
    """What so many users take. Cores are those of the busiest second, at `BUSY`; transaction ids, each shard's."""

    users: int
    peak_logins: float
    user_bytes: float
    audit_bytes: float
    log_a_day: float
    log_a_day_with_pages: float
    server_cores: float
    database_cores: float
    shards: int
    transactions_a_day: float
    connections: int


def of(users: int, measured: Measured) -> Need:
    logins = users * LOGINS_A_DAY
    peak = logins / DAY * PEAK
    user_bytes = users * measured.user
    audit_bytes = logins * RETENTION_DAYS * measured.event
    server_cores = peak * measured.server_cpu / BUSY
    database_cores = peak * measured.database_cpu / BUSY
    shards = math.ceil(max((user_bytes + audit_bytes) / SHARD_BYTES, database_cores / SHARD_CORES))
    return Need(
        users=users,
        peak_logins=peak,
        user_bytes=user_bytes,
        audit_bytes=audit_bytes,
        log_a_day=logins * measured.log,
        log_a_day_with_pages=logins * measured.log_with_pages,
        server_cores=server_cores,
        database_cores=database_cores,
        shards=shards,
        transactions_a_day=logins * measured.commits / shards,
        # A worker has a core.
        connections=math.ceil(server_cores) * CONNECTIONS_A_WORKER,
    )


def show(measured: Measured) -> None:
    needs = [of(users, measured) for users in POPULATIONS]
    click.echo(
        f"\n== What users take: {LOGINS_A_DAY} login each a day, the busiest second {PEAK} times a mean one,\n"
        f"events kept {RETENTION_DAYS} days, cores {BUSY:.0%} busy, PostgreSQL servers of {SHARD_CORES} cores that "
        f"hold {shown(SHARD_BYTES)} at most"
    )
    rows = {
        "users": [f"{need.users:,}" for need in needs],
        "logins in the busiest second": [f"{need.peak_logins:,.0f}" for need in needs],
        "disk for users": [shown(need.user_bytes) for need in needs],
        "disk for audit events": [shown(need.audit_bytes) for need in needs],
        "write-ahead log a day": [shown(need.log_a_day) for need in needs],
        "the same with whole pages": [shown(need.log_a_day_with_pages) for need in needs],
        "cores for servers": [f"{need.server_cores:,.1f}" for need in needs],
        "cores for PostgreSQL": [f"{need.database_cores:,.1f}" for need in needs],
        "PostgreSQL servers": [f"{need.shards:,}" for need in needs],
        "transaction ids a day, each": [f"{need.transactions_a_day:,.0f}" for need in needs],
        "connections, at most": [f"{need.connections:,}" for need in needs],
    }
    for name, cells in rows.items():
        click.echo(f"{name:30}" + "".join(f"{cell:>16}" for cell in cells))


def shown(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} TB" if number < 1000 else f"{number:,.0f} TB"
