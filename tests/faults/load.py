"""Enrolments without a pause, what was heard of each, and what the database says of them."""

from __future__ import annotations

import http.client
import json
import threading
import time
import uuid
from collections.abc import Callable, Collection
from typing import NamedTuple, Self

from storage.user import Caller
from tests.faults.questions import Heard
from tests.running import API, RunningServer

PATIENCE = 60.0
# By which a request that is on its way may be late to be counted as one.
MOMENT = 0.05


class Enrolment(NamedTuple):
    """A user who wants an authenticator app, and what they heard; None where the connection broke."""

    user: uuid.UUID
    begun: float
    heard: Heard | None


class Load:
    """Clients with connections that they keep, each with one new user after the other."""

    def __init__(self, server: RunningServer, clients: int = 4) -> None:
        self._server = server
        self.enrolments: list[Enrolment] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.wait_for(20, time.monotonic())
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=PATIENCE)
        while not self._stopping.is_set():
            sub = f"user-{uuid.uuid4().hex}"
            headers = {"Authorization": f"Bearer {self._server.token(sub)}"}
            begun = time.monotonic()
            try:
                connection.request("POST", f"{API}/totp/enable", headers=headers)
                response = connection.getresponse()
                body = json.loads(response.read())
            except (OSError, http.client.HTTPException):
                connection.close()
                heard = None
            else:
                named = {name.lower(): value for name, value in response.getheaders()}
                heard = Heard(response.status, named, body, time.monotonic() - begun)
            self.enrolments.append(Enrolment(Caller.of(sub).id, begun, heard))
            self._stopping.wait(0.02)
        connection.close()

    def wait_for(self, count: int, since: float) -> float:
        """Until so many that began since then have been done. Returns how many seconds after that it is."""
        deadline = time.monotonic() + PATIENCE
        while sum(each.begun >= since and status(each) == 200 for each in list(self.enrolments)) < count:
            assert time.monotonic() < deadline, "nobody is served"
            time.sleep(0.02)
        return time.monotonic() - since


def status(enrolment: Enrolment) -> int:
    return enrolment.heard.status if enrolment.heard else 0


class Fault:
    """The time of a fault. `struck` is when it was complete, `over` when it was over."""

    struck = over = 0.0


def check_enrolments(
    enrolments: Collection[Enrolment], written: Collection[uuid.UUID], *, struck: float, over: float, settled: float = 0
) -> None:
    """That every request had an answer in time, that what was acknowledged is written, and what was refused is not.

    Args:
        written: The users whose enrolment is in the database.
        struck: When the fault was there. Whoever was in the middle of it may have been heard and not answered.
        over: When it was over.
        settled: How many seconds later nobody is refused any more.
    """
    assert [each for each in enrolments if status(each) != 200 and not (each.heard and each.heard.is_refusal)] == []
    done = {each.user for each in enrolments if status(each) == 200}
    assert done <= set(written)
    refused = [each for each in enrolments if status(each) == 503]
    assert {each.user for each in refused if each.begun > struck} & set(written) == set()
    assert [each for each in refused if each.begun > over + settled] == []


def eventually(condition: Callable[[], object], seconds: float) -> float:
    """Returns the seconds until it came to pass."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() < begun + seconds, "it did not come to pass"
        time.sleep(0.02)
    return time.monotonic() - begun
