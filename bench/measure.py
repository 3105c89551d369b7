"""Servers side by side: the same piece of work for each in turn, round after round, so that a noisy moment hits all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from bench import machine
from bench.people import Visitors
from bench.pieces import Piece, list_everybody
from bench.servers import Server

# What a server still does when the last answer is on its way.
SETTLE_SECONDS = 0.05
WARM_UP = 50


class Sample(NamedTuple):
    """One round of one server; milliseconds, of CPU time for each piece of work (so seconds for 1,000 of them)."""

    cpu: float
    per_second: float
    p50: float
    p99: float
    database_cpu: float


class Result(NamedTuple):
    """All rounds of one server."""

    server: Server
    samples: Sequence[Sample]

    def median(self, what: Callable[[Sample], float]) -> float:
        return statistics.median(what(sample) for sample in self.samples)

    def ratio(self, other: Result) -> float:
        """Its CPU time to that of another server, round by round, of which this is the median."""
        return statistics.median(mine.cpu / its.cpu for mine, its in zip(self.samples, other.samples, strict=True))


class Site(NamedTuple):
    """A server and its visitors."""

    server: Server
    visitors: Visitors


def once(site: Site, piece: Piece, count: int | None = None) -> Sample:
    """One round of a piece of work on one server."""
    send = piece.prepare(site.server, site.visitors, count or piece.times)
    before, database_before = site.server.cpu_times(), site.server.database_cpu_times()
    load = send()
    time.sleep(SETTLE_SECONDS)
    took = machine.cpu_spent(before, site.server.cpu_times())
    database_took = machine.cpu_spent(database_before, site.server.database_cpu_times())
    return Sample(
        cpu=1000 * took / load.sent,
        per_second=load.sent / load.seconds,
        p50=load.p50,
        p99=load.p99,
        database_cpu=1000 * database_took / load.sent,
    )


def compare(sites: Sequence[Site], piece: Piece, rounds: int) -> list[Result]:
    """All rounds of a piece of work, the servers taking turns."""
    samples: dict[int, list[Sample]] = {n: [] for n in range(len(sites))}
    for site in sites:
        once(site, piece, min(WARM_UP, piece.times))
    for _ in range(rounds):
        for n, site in enumerate(sites):
            samples[n].append(once(site, piece))
    for site in sites:
        site.server.forget_mail()
    return [Result(site.server, samples[n]) for n, site in enumerate(sites)]


def meet(sites: Iterable[Site]) -> None:
    """Let every user ask for their methods, as a page does first; so what a server remembers of tokens is there."""
    for site in sites:
        list_everybody(site.server, site.visitors)()
