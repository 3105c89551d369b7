"""The pieces of work, ours beside the floors, and what they leave behind: memory, mail to send."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import click

from bench import machine, pieces, table
from bench.measure import Site, compare, meet, once
from bench.pieces import Piece
from bench.servers import ConnexionFloor, Ours, Server, StarletteFloor
from bench.stage import set_up

MAIL_SECONDS = 5.0
STARTS = 3


def quick(rounds: int, *, on_postgresql: bool) -> None:
    """The main pieces beside the Starlette floor alone."""
    with set_up(on_postgresql=on_postgresql) as stage:
        _compare([stage.site(stage.ours()), stage.site(stage.floor(StarletteFloor))], pieces.QUICK, rounds)


def full(rounds: int, *, on_postgresql: bool) -> None:
    """All pieces beside both floors."""
    with set_up(on_postgresql=on_postgresql) as stage:
        ours = stage.ours()
        floors = [stage.floor(StarletteFloor), stage.floor(ConnexionFloor)]
        sites = [stage.site(server) for server in (ours, *floors)]
        _compare(sites, pieces.FULL, rounds)
        _compare(sites[:1], [pieces.FIRST_METHOD], rounds)
        click.echo()
        for server in (site.server for site in sites):
            memory, files = server.memory_mib()
            click.echo(
                f"memory of {server.name}: {server.memory_at_first:.0f} MiB at first, {memory:.0f} MiB after all this, "
                f"{files:.0f} of them pages of libraries and other files, which workers share"
            )
        _mail(sites[0], ours)
        for make in (stage.ours, lambda: stage.floor(StarletteFloor), lambda: stage.floor(ConnexionFloor)):
            _start([make() for _ in range(STARTS)])


def _start(servers: Sequence[Server]) -> None:
    """In an empty folder, so that ours makes its keys and its database as well."""
    took, cpu = [], []
    for server in servers:
        took.append(server.start())
        cpu.append(sum(server.cpu_times().values()))
        server.stop()
    medians = f"{statistics.median(took):.2f} s, {statistics.median(cpu):.2f} s of it CPU"
    click.echo(f"start of {servers[0].name} to its first answer: {medians}")


def _compare(sites: Sequence[Site], measured: Sequence[Piece], rounds: int) -> None:
    meet(sites)
    shown = table.Table(sites)
    for piece in measured:
        shown.add(piece, compare(sites, piece, rounds))


def _mail(site: Site, ours: Ours) -> None:
    """What the courier does after the answers; of it, the numbers above hold ten mails a second and no more."""
    once(site, pieces.ENROL)
    folder = ours.data / "outbox"
    sent, before = len(list(folder.iterdir())), ours.cpu_times()
    time.sleep(MAIL_SECONDS)
    took = machine.cpu_spent(before, ours.cpu_times())
    mails = len(list(folder.iterdir())) - sent
    click.echo(f"a mail, by the courier: {1000 * took / max(mails, 1):.1f} ms of CPU ({mails} in {MAIL_SECONDS:.0f} s)")
