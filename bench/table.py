"""How the numbers are shown."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

import click

from bench.measure import Result, Site
from bench.pieces import Piece

NAME, SERVER, NUMBER, RATIO = 29, 12, 13, 13


def title(text: str) -> None:
    click.echo(f"\n{text}\n")


class Table:
    """Pieces of work on several servers, the first of which is compared with the others."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self._columns = {"CPU s/1,000": ("cpu", ".3f"), "a second": ("per_second", ",.0f")}
        self._columns |= {"p50 ms": ("p50", ".2f"), "p99 ms": ("p99", ".2f")}
        if any(site.server.database_cpu_times() for site in sites):
            self._columns["database CPU"] = ("database_cpu", ".3f")
        ratios = [f"x {site.server.name}" for site in sites[1:]]
        click.echo(self._line("", "", list(self._columns), [*ratios, "at most"]))

    def add(self, piece: Piece, results: Sequence[Result]) -> None:
        """The servers' medians; of the first also its CPU time as a multiple of the others'."""
        first, *others = results
        ratios = [f"{first.ratio(other):.2f}" for other in others]
        self._add(piece.name, first, [*ratios, str(piece.target or "")])
        for other in others:
            self._add("", other, [])

    def _add(self, name: str, result: Result, ratios: Sequence[str]) -> None:
        numbers = [format(result.median(attrgetter(what)), form) for what, form in self._columns.values()]
        click.echo(self._line(name, result.server.name, numbers, ratios))

    def _line(self, name: str, server: str, numbers: Sequence[str], ratios: Sequence[str]) -> str:
        cells = [number.rjust(NUMBER) for number in numbers] + [ratio.rjust(RATIO) for ratio in ratios]
        return (name.ljust(NAME) + server.ljust(SERVER) + "".join(cells)).rstrip()
