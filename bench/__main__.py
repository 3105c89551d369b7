"""`python -m bench`: what the server costs, beside what the same work costs without what makes it safe."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from bench import machine, pieces, table
from bench.measure import Site, meet, side_by_side
from bench.people import Issuer, People, Visitors
from bench.servers import SETTING, ConnexionFloor, Ours, Server, StarletteFloor

USERS = 2000


@click.command()
@click.option("--quick", is_flag=True, help="The main pieces, beside the Starlette floor, in less than a minute.")
@click.option("--rounds", default=None, type=click.IntRange(1), help="How often each piece is measured.")
def main(quick: bool, rounds: int | None) -> None:
    for name in [name for name in os.environ if name.startswith(SETTING)]:
        del os.environ[name]
    with ExitStack() as stack:
        folder = stack.enter_context(_folder())
        stack.enter_context(machine.pinned_to(machine.cores()[1]))
        issuer = Issuer(folder / "issuer")
        people = People.of(issuer, USERS)
        kinds = (Ours, StarletteFloor) if quick else (Ours, StarletteFloor, ConnexionFloor)
        servers: list[Server] = [kind(folder / kind.name, issuer.key) for kind in kinds]
        for server in servers:
            server.start()
            stack.callback(server.stop)
            # While it runs: with the last connection, SQLite would delete the log that it writes to, and the first
            # commits would pay for a new one.
            server.seed(people)
        sites = [Site(server, Visitors(people)) for server in servers]
        meet(sites, pieces.QUICK[0])
        table.head([server.name for server in servers])
        for piece in pieces.QUICK:
            table.result(piece, side_by_side(sites, piece, rounds or 5))


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mfa-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
