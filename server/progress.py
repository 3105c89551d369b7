"""Long work of a command: how far it is, and how it is asked to stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import click

STEPS = 1000
# Without a terminal, a line is written each time so much more is done.
LINE_EVERY = 0.1


class Step(Protocol):
    """A piece of the work; `share` is how much is done with it, from 0 to 1."""

    @property
    def share(self) -> float: ...


Piece = TypeVar("Piece", bound=Step)


class Stopped(SystemExit):
    """SIGINT or SIGTERM has come, and the piece at hand was finished. The exit status is the shell's for the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


def tracked(pieces: Iterable[Piece], label: str) -> Iterator[Piece]:
    """Each piece of the work once it is done, while standard error shows how far that is.

    Raises Stopped between two pieces when the user or the system wants it.
    """
    with _signals() as received, _shown(label) as show:
        for piece in pieces:
            show(piece.share)
            yield piece
            if received:
                break
        else:
            return
    click.echo("Stopped before the end. Run the command again to go on.", err=True)
    raise Stopped(received[0])


@contextmanager
def _signals() -> Iterator[list[int]]:
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _shown(label: str) -> Iterator[Callable[[float], None]]:
    if sys.stderr.isatty():
        with click.progressbar(length=STEPS, label=label, file=sys.stderr) as bar:
            yield lambda share: bar.update(round(share * STEPS) - bar.pos)
        return
    told = 0.0
    click.echo(f"{label}: 0%", err=True)

    def tell(share: float) -> None:
        nonlocal told
        if share >= told + LINE_EVERY or told < share == 1.0:
            told = share
            click.echo(f"{label}: {share:.0%}", err=True)

    yield tell
