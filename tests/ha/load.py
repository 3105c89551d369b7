"""The constant load: so many requests a second, whether or not the ones before were answered."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Self

from tests.ha.journal import Journal
from tests.ha.person import NoAnswer, Person
from tests.running import RunningServer

# Who is there before the first kill.
CAST = 24
MOST_AT_ONCE = 100
TOKEN_SECONDS = 6 * 3600


class Load:
    """While its block lasts, users begin to enrol, finish that, show codes, and read; what they are told is kept.

    Each code is shown to both servers at one moment.
    """

    def __init__(self, server: RunningServer, journal: Journal) -> None:
        self._server = server
        self._journal = journal
        self._chance = random.Random(4)  # noqa: S311 - it decides whose turn it is
        self._numbers = iter(range(10**9))
        self._stopping = threading.Event()
        self._free = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._failure: BaseException | None = None
        # Those who were told that they have begun, and the others, who were told that their app is on.
        self.begun: list[Person] = []
        self.enrolled: list[Person] = []
        self.missing: list[str] = []
        # Seconds from one to the next.
        self._activities: dict[Callable[[], None], float] = {
            self._begin: 0.1,
            self.enrol: 3.0,
            partial(self._show, Person.next_code): 0.5,
            partial(self._show, Person.next_backup_code): 1.0,
            self._read: 0.25,
        }

    def __enter__(self) -> Self:
        for _ in range(CAST):
            self.enrol()
        self._executor = ThreadPoolExecutor(MOST_AT_ONCE)
        self._clocks = [
            threading.Thread(target=self._every, args=(seconds, activity))
            for activity, seconds in self._activities.items()
        ]
        for clock in self._clocks:
            clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for clock in self._clocks:
            clock.join()
        self._executor.shutdown()

    def check(self) -> None:
        """Raises what any of the clients has met that is none of the servers' answers."""
        if self._failure is not None:
            raise self._failure

    def enrol(self) -> None:
        """Begin at one server, confirm at the other."""
        one, other = self._chance.sample(self._journal.ports, 2)
        person = self._new_person()
        if person.begin(one) and person.confirm(other) == 200:
            self.enrolled.append(person)

    def _begin(self) -> None:
        person = self._new_person()
        if person.begin(self._chance.choice(self._journal.ports)):
            self.begun.append(person)

    def _show(self, next_code: Callable[[Person], str | None]) -> None:
        for person in self._anyone():
            if code := next_code(person):
                person.show(code, self._journal.ports)
                return

    def _read(self) -> None:
        for person in self._anyone():
            with suppress(NoAnswer):
                self.missing += person.missing(self._chance.choice(self._journal.ports))
            return

    def _anyone(self) -> Iterator[Person]:
        """The enrolled, in any order; those who do something else just now are left out."""
        for person in self._chance.sample(self.enrolled, len(self.enrolled)):
            if person.busy.acquire(blocking=False):
                try:
                    yield person
                finally:
                    person.busy.release()

    def _new_person(self) -> Person:
        sub = f"person-{next(self._numbers)}"
        return Person(sub, self._server.token(sub, seconds=TOKEN_SECONDS), self._journal)

    def _every(self, seconds: float, activity: Callable[[], None]) -> None:
        while not self._stopping.wait(seconds):
            # So many are more than enough to see that nobody answers.
            if self._free.acquire(blocking=False):
                self._executor.submit(activity).add_done_callback(self._done)

    def _done(self, activity: Future[None]) -> None:
        self._free.release()
        self._failure = self._failure or activity.exception()
