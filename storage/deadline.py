"""Until when a call is waited for: what it would change after that is undone, since its request has been told so."""

from __future__ import annotations

import math
import threading
import time
from contextvars import ContextVar

import peewee

# What a call may take from its last commit to its end.
END_SECONDS = 0.1


class Deadline:
    """When nobody waits any more for what a call does, in the seconds of `time.monotonic`; it may be drawn nearer.

    A call that has begun to commit in time is waited for, so that nobody hears of a failure where there is none.
    """

    def __init__(self, at: float = math.inf) -> None:
        self.at = at
        self._deciding = threading.Lock()
        self._kept_until = -math.inf

    def give_up(self) -> bool:
        """Draw it nearer, to now. False, and nothing is changed, while there is a commit to wait for."""
        now = time.monotonic()
        with self._deciding:
            if now < self._kept_until:
                return False
            self.at = min(self.at, now)
            return True

    def check(self) -> None:
        """Raises OperationalError when it is over."""
        if time.monotonic() > self.at:
            raise peewee.OperationalError("too late")

    def begin_commit(self) -> None:
        """Raises OperationalError when it is too late for that."""
        with self._deciding:
            self.check()
            self._kept_until = math.inf

    def end_commit(self) -> None:
        if self._kept_until == math.inf:
            self._kept_until = time.monotonic() + END_SECONDS


_NEVER = Deadline()
_deadline = ContextVar("deadline", default=_NEVER)


def end_by(deadline: Deadline) -> None:
    """From now on this call's transactions are undone when they end after `deadline`."""
    _deadline.set(deadline)


def deadline() -> Deadline:
    """That of the call that is under way."""
    return _deadline.get()
