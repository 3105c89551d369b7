"""`python -m bench.profile`: where the time of each piece of work goes, in the server as it runs."""

from __future__ import annotations

import os
import pstats
import re
import signal
import sys
import sysconfig
import time
from collections import defaultdict
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import click

from bench import pieces
from bench.measure import Site, meet, once
from bench.pieces import Piece
from bench.servers import TOP, Ours
from bench.stage import set_up
from bench.table import title

WAIT_SECONDS = 20
ROOMS = 16
PIECES = {piece.name: piece for piece in (*pieces.FULL, pieces.FIRST_METHOD)}
PACKAGES = sysconfig.get_path("purelib")
STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_C_TYPE = re.compile(r"of '(?:_?)(\w+)")


class Profiled(Ours):
    """Ours, which writes down where its time went."""

    @property
    def profile(self) -> Path:
        return self.folder / "profile"

    def command(self) -> list[str]:
        serve = ["serve", "--port", str(self.port)]
        return [sys.executable, "-m", "bench.profiled", str(self.profile), *serve]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": str(TOP)}

    def begin(self) -> None:
        os.kill(self.process.pid, signal.SIGUSR1)
        time.sleep(0.1)

    def seen(self) -> pstats.Stats:
        """What was seen since `begin`."""
        os.kill(self.process.pid, signal.SIGUSR2)
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.profile.exists():
            if time.monotonic() > deadline:
                raise TimeoutError("no profile was written")
            time.sleep(0.05)
        stats = pstats.Stats(str(self.profile))
        self.profile.unlink()
        return stats


class Line(NamedTuple):
    """A function: how often it was called, and the seconds in itself and in all that it called."""

    place: tuple[str, int, str]
    calls: int
    own: float
    all: float


@click.command()
@click.option(
    "--piece", "names", multiple=True, type=click.Choice(list(PIECES)), help="Only this one; may be repeated."
)
@click.option("--top", default=25, show_default=True, help="How many functions are shown.")
def main(names: tuple[str, ...], top: int) -> None:
    """Profile the server, piece by piece. The profiler's own time is in the numbers, so they are shares.

    A coroutine counts as called again whenever it goes on."""
    with set_up() as stage:
        site = stage.site(stage.ours(Profiled))
        meet([site])
        for name in PIECES:
            # A key must have been registered before it can be used.
            if not names or name in names or (name.endswith("complete") and any("challenge" in each for each in names)):
                _profile(site, PIECES[name], top)


def _profile(site: Site, piece: Piece, top: int) -> None:
    server = site.server
    if not isinstance(server, Profiled):
        raise TypeError("only a server that is profiled can be")
    once(site, piece)
    server.forget_mail()
    server.begin()
    once(site, piece)
    lines = _lines(server.seen())
    server.forget_mail()
    title(f"{piece.name}: milliseconds for one of {piece.times}, of all threads together")
    rooms: defaultdict[str, float] = defaultdict(float)
    for line in lines:
        rooms[_room(*line.place)] += line.own
    for room, seconds in sorted(rooms.items(), key=itemgetter(1), reverse=True)[:ROOMS]:
        click.echo(f"{1000 * seconds / piece.times:9.3f}  {room}")
    click.echo("\n    in it      in all    calls")
    for line in sorted(lines, key=lambda line: line.own, reverse=True)[:top]:
        own, total = 1000 * line.own / piece.times, 1000 * line.all / piece.times
        click.echo(f"{own:9.3f}   {total:9.3f}   {line.calls / piece.times:6.1f}  {_shown(*line.place)}")


def _lines(stats: pstats.Stats) -> list[Line]:
    # What `add` and `dump_stats` work on; its type hints leave it out.
    found = stats.stats  # type: ignore[attr-defined]
    return [Line(place, calls, own, total) for place, (_, calls, own, total, _) in found.items()]


def _room(file: str, _line: int, name: str) -> str:
    """Whose code it is: a room of ours, a package, or the interpreter."""
    if file == "~":
        of = _C_TYPE.search(name)
        return f"C: {of[1]}" if of else "C: built-in functions"
    root = _root(file)
    return "the standard library" if root == STANDARD_LIBRARY else Path(file).relative_to(root).parts[0]


def _shown(file: str, line: int, name: str) -> str:
    return name if file == "~" else f"{Path(file).relative_to(_root(file))}:{line} {name}"


def _root(file: str) -> str:
    """Where it lies. Packages may lie within each of the other two."""
    return next((root for root in (PACKAGES, STANDARD_LIBRARY, str(TOP)) if file.startswith(root)), "")


if __name__ == "__main__":
    main()
