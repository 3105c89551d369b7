"""How the list fares while others keep the server busy with slow hashes: four clients regenerate backup codes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import click

from bench import flow, pieces
from bench.flow import Flow
from bench.measure import Result, Sample, Site, meet, once
from bench.people import People, Person, Visitors
from bench.pieces import ME, post
from bench.stage import set_up
from bench.table import title
from bench.wrk import Load

CLIENTS = 4
CODES = 100
LIST = pieces.LIST._replace(times=6000)
# Until all the clients' work has begun.
BEGIN_SECONDS = 0.3
TARGET = 3.0


def run(rounds: int, *, on_postgresql: bool) -> None:
    """Alone and beside the clients, in turn."""
    title(f"The list, alone and while {CLIENTS} clients regenerate backup codes")
    with set_up(on_postgresql=on_postgresql) as stage:
        site = stage.site(stage.ours())
        people = stage.people
        half = len(people.with_totp) // 2
        listing = Site(site.server, Visitors(People(people.issuer, people.with_totp[:half], ())))
        regenerating = Visitors(People(people.issuer, people.with_totp[half:], ()))
        meet([listing])
        alone, beside = [], []
        statuses: Counter[int] = Counter()
        took: list[float] = []
        for _ in range(rounds):
            alone.append(once(listing, LIST))
            sample, slow = _beside(listing, regenerating, statuses)
            beside.append(sample)
            took.append(slow.p50)
    for name, samples in (("alone", alone), ("beside them", beside)):
        result = Result(site.server, samples)
        p50, p99 = result.median(lambda sample: sample.p50), result.median(lambda sample: sample.p99)
        click.echo(f"{name:12} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   p99/p50 {p99 / p50:.1f} (at most {TARGET})")
    click.echo(f"regenerations: {sum(took) / len(took):.0f} ms each; statuses and how often: {dict(statuses)}")


def _beside(listing: Site, regenerating: Visitors, statuses: Counter[int]) -> tuple[Sample, Load]:
    stopping = threading.Event()
    flows = _regenerations(regenerating, stopping, statuses)
    with ThreadPoolExecutor() as threads:
        clients = threads.submit(flow.send, listing.server.port, flows, CLIENTS)
        try:
            time.sleep(BEGIN_SECONDS)
            sample = once(listing, LIST)
        finally:
            stopping.set()
        return sample, clients.result()


def _regenerations(visitors: Visitors, stopping: threading.Event, statuses: Counter[int]) -> Iterator[Flow]:
    for person, code in visitors.fresh_codes(CODES):
        if stopping.is_set():
            return
        yield _regenerate(person, code, statuses)


def _regenerate(person: Person, code: str, statuses: Counter[int]) -> Flow:
    """Its status is noted: on a busy machine so much slow work may be given up, which is answered 503."""
    answer = yield post(f"{ME}/backup-codes/regenerate", person.token, {"code": code})
    statuses[answer.status] += 1
