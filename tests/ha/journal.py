"""What the servers were asked, what they answered, and when: written down by all clients of the drill."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from tests.attacks.wire import Answer, Request, Volley

# What a request is told while there is no service has to come within this time, and a little for a busy machine (s).
PROMPT_SECONDS = 5.0 + 0.5
UNAVAILABLE = 503
# The answers that say that all is well, or that the user is wrong.
EXPECTED = {200, 403, 404, 409, 429}


@dataclass(frozen=True, slots=True)
class Entry:
    """One request and its answer. Times are those of `time.monotonic`; a status of 0 is a cut connection."""

    sent_at: float
    heard_at: float
    port: int
    writes: bool
    status: int
    retry_after: str | None

    @property
    def is_acknowledged_write(self) -> bool:
        return self.writes and self.status == 200

    @property
    def seconds(self) -> float:
        return self.heard_at - self.sent_at

    @property
    def is_refused_for_now(self) -> bool:
        """What is to be answered while the database is not there."""
        return self.status == UNAVAILABLE and self.retry_after is not None

    @property
    def is_unexpected(self) -> bool:
        return self.status not in EXPECTED and not (self.is_refused_for_now and self.seconds <= PROMPT_SECONDS)


class Journal:
    def __init__(self, ports: Iterable[int]) -> None:
        self.ports = tuple(ports)
        self._entries: list[Entry] = []
        self._writing = threading.Lock()

    def ask(self, port: int, request: Request) -> Answer | None:
        """Send a request and wait for its answer; None if the connection was cut."""
        [answer] = self.ask_all([port], [request])
        return answer

    def ask_all(self, ports: Iterable[int], requests: Iterable[Request]) -> list[Answer | None]:
        """Send each request to its port, all at one moment."""
        ports, requests = list(ports), list(requests)
        with Volley(ports, requests) as volley:
            sent_at = time.monotonic()
            volley.release()
            answers = []
            for port, request, answer in zip(ports, requests, volley.answers(), strict=True):
                self._write(sent_at, port, request, answer)
                answers.append(answer)
        return answers

    def since(self, moment: float) -> list[Entry]:
        """Those that were heard since then, in the order in which they were heard."""
        with self._writing:
            return self._entries[bisect_left(self._entries, moment, key=lambda entry: entry.heard_at) :]

    def first_write_after(self, moment: float, port: int) -> float | None:
        """When a server acknowledged a write that was sent after the moment."""
        heard = (
            e.heard_at for e in self.since(moment) if e.is_acknowledged_write and e.port == port and e.sent_at > moment
        )
        return next(heard, None)

    def longest_gap_since(self, moment: float) -> float:
        """The longest time in which no server acknowledged a write (seconds)."""
        heard = [entry.heard_at for entry in self.since(moment) if entry.is_acknowledged_write]
        return max(later - earlier for earlier, later in pairwise([moment, *heard]))

    def _write(self, sent_at: float, port: int, request: Request, answer: Answer | None) -> None:
        status, retry_after = (answer.status, answer.header("Retry-After")) if answer else (0, None)
        with self._writing:
            self._entries.append(Entry(sent_at, time.monotonic(), port, request.method != "GET", status, retry_after))
