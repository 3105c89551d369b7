"""A lock that is handed to whoever has waited longest."""

from __future__ import annotations

import threading
from collections import deque


class Turns:
    """One thread at a time, in the order in which they came: one that comes back at once does not overtake."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._taken = False
        # A locked lock of each thread that waits; to release it is to hand the turn over.
        self._line: deque[threading.Lock] = deque()

    def take(self, seconds: float) -> bool:
        """Wait for a turn, at most so many seconds: whether it was had."""
        with self._changing:
            if not self._taken:
                self._taken = True
                return True
            mine = threading.Lock()
            mine.acquire()
            self._line.append(mine)
        if mine.acquire(timeout=seconds):
            return True
        with self._changing:
            if mine in self._line:
                self._line.remove(mine)
                return False
        # It was handed over in the very last moment.
        return True

    def pass_on(self) -> None:
        """Give the turn to the next in line."""
        with self._changing:
            if self._line:
                self._line.popleft().release()
            else:
                self._taken = False

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)
