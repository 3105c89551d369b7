"""How the list fares while others keep the server busy with slow hashes: four clients regenerate backup codes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import click

from bench import flow, pieces
from bench.flow import Flow, ok
from bench.measure import Result, Site, meet, once
from bench.people import People, Person, Visitors
from bench.pieces import ME, post
from bench.stage import set_up
from bench.table import title

CLIENTS = 4
ROUNDS = 5
CODES = 400
TARGET = 3.0


def run(*, on_postgresql: bool) -> None:
    title(f"The list, alone and while {CLIENTS} clients regenerate backup codes")
    with set_up(on_postgresql=on_postgresql) as stage:
        site = stage.site(stage.ours())
        people = stage.people
        half = len(people.with_totp) // 2
        listing = Site(site.server, Visitors(People(people.issuer, people.with_totp[:half], ())))
        regenerating = Visitors(People(people.issuer, people.with_totp[half:], ()))
        meet([listing], pieces.LIST)
        alone = Result(site.server, [once(listing, pieces.LIST) for _ in range(ROUNDS)])
        stopping = threading.Event()
        done: list[Person] = []
        flows = _regenerations(regenerating, stopping, done)
        with ThreadPoolExecutor() as threads:
            clients = threads.submit(flow.send, site.server.port, flows, CLIENTS)
            try:
                beside = Result(site.server, [once(listing, pieces.LIST) for _ in range(ROUNDS)])
            finally:
                stopping.set()
            clients.result()
    for name, result in (("alone", alone), (f"beside {len(done)} regenerations", beside)):
        p50, p99 = result.median(lambda sample: sample.p50), result.median(lambda sample: sample.p99)
        click.echo(f"{name:24} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   p99/p50 {p99 / p50:.1f} (at most {TARGET})")


def _regenerations(visitors: Visitors, stopping: threading.Event, done: list[Person]) -> Iterator[Flow]:
    for person, code in visitors.fresh_codes(CODES):
        if stopping.is_set():
            return
        yield _regenerate(person, code, done)


def _regenerate(person: Person, code: str, done: list[Person]) -> Flow:
    ok((yield post(f"{ME}/backup-codes/regenerate", person.token, {"code": code})))
    done.append(person)
