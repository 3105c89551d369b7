"""Clients that keep servers busy without a pause, whatever happens to these."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from tests.faults.crash_journal import DONE, Attempt, Json, Use
from tests.faults.crash_lives import Life
from tests.running import API

# Longer than the server takes for its slowest answer.
PATIENCE = 30.0
PARK_SECONDS = 90.0
# Before a request that came to nothing is sent again.
PAUSE = 0.05
# How often a thing that works once is asked for twice at the same moment.
TWICE = 0.2


class Client:
    """Connections to each of the servers' ports, made anew when they break."""

    def __init__(self, ports: Sequence[int], chance: random.Random) -> None:
        self._ports = ports
        self._chance = chance
        self._idle: dict[int, list[http.client.HTTPConnection]] = {port: [] for port in ports}

    def send(self, life: Life, use: Use, attempts: Sequence[Attempt]) -> None:
        """Send attempts at one moment, and write down what is answered."""
        sent = [(attempt, self._request(life, use, attempt)) for attempt in attempts]
        for attempt, connection in sent:
            if connection is not None:
                self._answer(attempt, connection)

    def carry_out(
        self, life: Life, use: Use, *, twice: float = 0.0, gives_up: Callable[[], bool] = lambda: False
    ) -> None:
        """Ask until it is known how it ended, by answer or by refusal.

        Args:
            twice: How often what works once is asked for twice at the same moment.
            gives_up: Whether to leave it at what is known by now.
        """
        while not (use.done or use.refused):
            if use.attempts:
                if gives_up():
                    return
                time.sleep(PAUSE)
            both = bool(use.things) and self._chance.random() < twice
            attempts = [Attempt() for _ in range(1 + both)]
            use.attempts += attempts
            self.send(life, use, attempts)
        if use.refused:
            use.too_old = time.time() > use.good_until
            listed = self._list(life, gives_up)
            if listed is None:
                return
            life.listed = listed
        life.settle(use)

    def leave(self, life: Life, use: Use, after: float) -> Attempt:
        """Send one attempt and hang up after so many seconds, without a look at the answer."""
        attempt = Attempt()
        use.attempts.append(attempt)
        connection = self._request(life, use, attempt)
        assert connection is not None
        time.sleep(after)
        connection.close()
        return attempt

    def close(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.close()

    def _request(self, life: Life, use: Use, attempt: Attempt) -> http.client.HTTPConnection | None:
        port = self._chance.choice(self._ports)
        idle = self._idle[port]
        connection = idle.pop() if idle else http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        head = {"Authorization": f"Bearer {life.token}", "X-Request-Id": attempt.request_id}
        body = None
        if use.body is not None:
            body = json.dumps(use.body)
            head["Content-Type"] = "application/json"
        try:
            connection.request(use.method, use.path, body, head)
        except OSError:
            connection.close()
            return None
        return connection

    def _answer(self, attempt: Attempt, connection: http.client.HTTPConnection) -> None:
        try:
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return
        attempt.body = json.loads(content)
        attempt.status = response.status
        if response.status in (429, 503):
            assert response.headers["Retry-After"]
        if response.will_close:
            connection.close()
        else:
            self._idle[connection.port].append(connection)

    def _list(self, life: Life, gives_up: Callable[[], bool]) -> Json | None:
        """The user's methods; None when it is given up before they are known."""
        use = Use("list", "GET", API, None, lambda _: None)
        while not gives_up():
            attempt = Attempt()
            self.send(life, use, [attempt])
            if attempt.status == DONE:
                return attempt.body
            assert attempt.open, attempt
            time.sleep(PAUSE)
        return None


class Load:
    """Threads that live lives. They can be paused: each comes to rest once it has heard how its last use ended.

    Args:
        begin: Makes the next user.
    """

    def __init__(self, ports: Sequence[int], threads: int, begin: Callable[[], Life], chance: random.Random) -> None:
        self.lives: list[Life] = []
        self._ports = ports
        self._begin = begin
        self._chance = chance
        self._threads = threads
        self._running: list[Future[None]] = []
        self._changed = threading.Condition()
        self._paused = True
        self._ended = False
        self._parked = 0

    @contextmanager
    def on(self) -> Iterator[None]:
        """Run the threads, paused at first, and end them."""
        with ThreadPoolExecutor(self._threads, "client") as pool:
            self._running = [
                pool.submit(self._live, random.Random(self._chance.random()))  # noqa: S311
                for _ in range(self._threads)
            ]
            try:
                yield
            finally:
                with self._changed:
                    self._ended, self._paused = True, False
                    self._changed.notify_all()

    def go_on(self) -> None:
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def pause(self) -> None:
        """Return once no request is under way. Raises what has gone wrong in a thread."""
        deadline = time.monotonic() + PARK_SECONDS
        with self._changed:
            self._paused = True
            while self._parked < self._threads:
                self._changed.wait(0.5)
                for thread in self._running:
                    if thread.done():
                        thread.result()
                assert time.monotonic() < deadline, "clients hear nothing any more"

    def _park(self) -> None:
        with self._changed:
            self._parked += 1
            self._changed.notify_all()
            while self._paused:
                self._changed.wait()
            self._parked -= 1

    def _live(self, chance: random.Random) -> None:
        with contextlib.closing(Client(self._ports, chance)) as client:
            lives = [self._new_life(), self._new_life()]
            while not self._ended:
                if self._paused:
                    self._park()
                    continue
                at = chance.randrange(len(lives))
                use = lives[at].next()
                if use is None:
                    lives[at] = self._new_life()
                else:
                    lives[at].journal.append(use)
                    client.carry_out(lives[at], use, twice=TWICE, gives_up=lambda: self._ended)

    def _new_life(self) -> Life:
        life = self._begin()
        self.lives.append(life)
        return life
