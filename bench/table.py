"""How the numbers are shown."""

from __future__ import annotations

from collections.abc import Sequence

import click

from bench.measure import Result
from bench.pieces import Piece

HEAD = ("", "server", "CPU s / 1,000", "per second", "p50 ms", "p99 ms")


def head(servers: Sequence[str]) -> None:
    row(*HEAD, *(f"x {name}" for name in servers[1:]), "target")


def row(*cells: str) -> None:
    widths = [26, 14, 13, 10, 8, 8, 12, 12, 8]
    first, *others = [
        cell.ljust(width) if n < 2 else cell.rjust(width) for n, (cell, width) in enumerate(zip(cells, widths))
    ]
    click.echo(" ".join([first, *others]).rstrip())


def result(piece: Piece, results: Sequence[Result]) -> None:
    ours, *floors = results
    ratios = [f"{ours.ratio(floor):.2f}" for floor in floors]
    target = f"<= {piece.target}" if piece.target else ""
    row(piece.name, *_numbers(ours), *ratios, target)
    for floor in floors:
        row("", *_numbers(floor))


def _numbers(result: Result) -> list[str]:
    return [
        result.server.name,
        f"{result.median(lambda sample: sample.cpu):.3f}",
        f"{result.median(lambda sample: sample.per_second):.0f}",
        f"{result.median(lambda sample: sample.p50):.2f}",
        f"{result.median(lambda sample: sample.p99):.2f}",
    ]
