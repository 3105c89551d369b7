"""Whether what was acknowledged is there, and stays used up: the servers held against what the clients were told."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import TypeVar

from tests.databases import COMMAND, COMMAND_SECONDS
from tests.ha.cluster import PATIENCE, Failed
from tests.ha.journal import UNAVAILABLE
from tests.ha.load import Load
from tests.ha.person import MOST_SPENT, NoAnswer, Person
from tests.running import RunningServer

# Codes that were shown so long before the kill, or later, are shown again after it.
BEFORE_SECONDS = 15.0
CONFIRMED = 3
AGAIN_SECONDS = 0.5
Result = TypeVar("Result")


class Findings:
    """What was lost, and which codes were accepted twice, each told once."""

    def __init__(self, server: RunningServer, load: Load) -> None:
        self._server = server
        self._load = load
        self.lost: set[str] = set()
        self.twice: set[str] = set()
        # Codes that were shown again after they had been accepted, or when nobody knew: by what was answered.
        self.again: Counter[int] = Counter()
        self.in_doubt: Counter[int] = Counter()

    def replay(self, killed_at: float) -> None:
        """Show again what was shown last, shortly before the kill or since, and was accepted, or got no answer."""
        for person in self._load.enrolled.copy():
            with person.busy:
                for backup in (False, True):
                    code = next(reversed(person.tried(backup=backup)), None)
                    if code and person.shown_at[code] > killed_at - BEFORE_SECONDS and person.still_counts(code):
                        self._show_again(person, code)

    def look(self, killed_at: float) -> None:
        """After a failover, while the load goes on: at everything."""
        self._confirm(killed_at)
        self._read()

    def look_at_the_end(self) -> None:
        """When the load has ended: at everything, and each spent backup code is shown once more."""
        for person in self._load.enrolled:
            # A right one first, lest the user be locked, in which case no answer tells anything.
            untouched = cycle(person.backup_codes[MOST_SPENT:])
            insist(partial(_shows_a_right_code, person, untouched, self._server.ports))
            for code in person.spent(backup=True):
                self._show_again(person, code)
        self._read()

    def _show_again(self, person: Person, code: str) -> None:
        was_accepted = person.accepted[code] > 0
        # An accepted one to one server, since each time counts as a wrong one, and five of those lock.
        ports = self._server.ports[:1] if was_accepted else self._server.ports
        (self.again if was_accepted else self.in_doubt).update(insist(partial(_answers, person, code, ports)))

    def _confirm(self, killed_at: float) -> None:
        """The last who were told before the kill that they have begun: their secrets are there."""
        begun = [person for person in self._load.begun.copy() if person.begun_at < killed_at][-CONFIRMED:]
        for person in begun:
            statuses: list[int] = []
            insist(partial(_confirms, person, self._server.port, statuses))
            if statuses[-1] == 200:
                self._load.enrolled.append(person)
            elif len(statuses) == 1:
                self.lost.add(f"totp.begun of {person.sub}")

    def _read(self) -> None:
        people = self._load.enrolled.copy()
        for person in people:
            with person.busy:
                self.lost.update(insist(partial(person.missing, self._server.port)))
        self.lost.update(self._load.missing)
        self._read_the_trail(people, self._load.begun.copy())
        for person in people:
            self.twice.update(f"{code} of {person.sub}" for code, count in person.accepted.items() if count > 1)

    def _read_the_trail(self, people: list[Person], begun: list[Person]) -> None:
        """The audit trail has an event for each acknowledged write, and no code twice."""
        told = {("totp.begun", person.sub): 1 for person in begun + people}
        for person in people:
            told["totp.enabled", person.sub] = 1
            told["totp.verified", person.sub] = len(person.spent(backup=False))
            told["backup_code.used", person.sub] = len(person.spent(backup=True))
        trail = Counter((event["type"], event["sub"]) for event in insist(self._trail))
        self.lost.update(f"{kind} of {sub}" for (kind, sub), count in told.items() if trail[kind, sub] < count)
        for person in people:
            for kind, backup in (("totp.verified", False), ("backup_code.used", True)):
                if trail[kind, person.sub] > len(person.tried(backup=backup)):
                    self.twice.add(f"a code of {person.sub} ({kind})")

    def _trail(self) -> list[dict[str, str]]:
        """What `mfa-server audit` prints. Raises NoAnswer."""
        done = subprocess.run(
            [*COMMAND, "audit"],
            cwd=self._server.folder,
            env=self._server.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            raise NoAnswer(done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]


def insist(ask: Callable[[], Result]) -> Result:
    """Ask until there is an answer. Raises Failed."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except NoAnswer as error:
            if time.monotonic() > deadline:
                raise Failed(f"In {PATIENCE:.0f} seconds there was no answer. {error}") from error
        time.sleep(AGAIN_SECONDS)


def _shows_a_right_code(person: Person, codes: Iterator[str], ports: list[int]) -> None:
    if 200 not in person.show(next(codes), ports):
        raise NoAnswer


def _confirms(person: Person, port: int, statuses: list[int]) -> None:
    statuses.append(person.confirm(port))
    if statuses[-1] in (0, UNAVAILABLE):
        raise NoAnswer


def _answers(person: Person, code: str, ports: list[int]) -> list[int]:
    answers = person.show(code, ports)
    if not answers or not set(answers) - {0, UNAVAILABLE}:
        raise NoAnswer
    return answers
