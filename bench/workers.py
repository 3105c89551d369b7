"""One worker and two, on all cores, of which the requests take a part as well; and uvicorn beside granian."""

from __future__ import annotations

import importlib.util
import os
import resource
import statistics
from functools import partial

import click

from bench import machine, pieces
from bench.measure import Result, compare, meet
from bench.pieces import Piece
from bench.servers import OursOnGranian
from bench.stage import set_up
from bench.table import Table, title

# Enough that both workers get their share of them.
CONNECTIONS = 32
SCALED = (
    Piece("list methods", partial(pieces.list_methods, connections=CONNECTIONS), 2000),
    Piece("verify TOTP", partial(pieces.verify, connections=CONNECTIONS), 500),
)
TARGET = 1.7


def scale(rounds: int, *, on_postgresql: bool) -> None:
    """Two workers beside one."""
    cores = set(os.sched_getaffinity(0))
    title(f"Two workers beside one, on {len(cores)} cores, of which the requests, and PostgreSQL, take their part")
    with set_up(on_postgresql=on_postgresql) as stage, machine.pinned_to(cores):
        sites = [stage.site(stage.ours(workers=workers, cores=cores)) for workers in (2, 1)]
        for site, name in zip(sites, ("two", "one"), strict=True):
            site.server.name = name
        # Each worker remembers tokens by itself.
        for _ in range(5):
            meet(sites)
        table = Table(sites)
        for piece in SCALED:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            two, one = compare(sites, piece, rounds)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            table.add(piece, (two, one))
            clients = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            client = 1000 * clients / (2 * rounds * piece.times)
            click.echo(
                f"  {_throughput(two, one):.2f} times as many a second (at least {TARGET}); "
                f"two keep {_busy(two):.2f} cores busy, one {_busy(one):.2f}; "
                f"wrk took {client:.3f} s of CPU for 1,000, "
                f"so {len(cores)} cores have room for {_room(one, client, len(cores)):.2f} times as many"
            )
        memory = [machine.proportional_memory_mib(pid) for pid in machine.family(sites[0].server.process.pid)]
        click.echo(
            "memory of a parent, a helper of Python's and two workers, where a page that n processes share counts 1/n: "
            f"{', '.join(f'{mib:.0f}' for mib in memory)} MiB"
        )


def engines(rounds: int, *, on_postgresql: bool) -> None:
    """uvicorn beside granian, where that is installed."""
    title("The same application on uvicorn, as `mfa-server serve` runs it, and on granian")
    if importlib.util.find_spec("granian") is None:
        click.echo("granian is not installed")
        return
    with set_up(on_postgresql=on_postgresql) as stage:
        sites = [stage.site(stage.ours()), stage.site(stage.ours(OursOnGranian))]
        meet(sites)
        table = Table(sites)
        for piece in pieces.QUICK:
            table.add(piece._replace(target=None), compare(sites, piece, rounds))
        for site in sites:
            click.echo(f"memory of {site.server.name}: {site.server.memory_mib()[0]:.0f} MiB")


def _throughput(more: Result, fewer: Result) -> float:
    pairs = zip(more.samples, fewer.samples, strict=True)
    return statistics.median(two.per_second / one.per_second for two, one in pairs)


def _room(result: Result, client: float, cores: int) -> float:
    """How many times as many there could be if all cores were busy all the time and a request cost what it does now."""
    return result.median(lambda sample: 1000 * cores / (sample.cpu + sample.database_cpu + client) / sample.per_second)


def _busy(result: Result) -> float:
    return result.median(lambda sample: sample.cpu * sample.per_second / 1000)
