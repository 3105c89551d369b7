"""Calls that go together in one thread: each until it has to wait, and then the next.

They fight for nothing, neither for the interpreter nor for a lock. When all want a transaction, each has its own, and
one commit will do for all: so another process waits for their statements alone, and for nothing else that they do.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import NoReturn, TypeVar

from greenlet import getcurrent, greenlet

MOST_AT_ONCE = 64

Call = Callable[[], object]
NextCall = Callable[[], Call | greenlet | None]
Value = TypeVar("Value")


class Together:
    """The calls of one thread.

    Args:
        go_on: Called in any thread with what `run` has to be given as the next call: one that can go on.
    """

    def __init__(self, go_on: Callable[[greenlet], object]) -> None:
        self._go_on = go_on
        self._to_begin: list[greenlet] = []
        self._to_be_committed: list[greenlet] = []
        # A greenlet that has ended a call is good for another.
        self._idle: list[greenlet] = []

    def run(self, next_call: NextCall, commit: Call) -> None:
        """Run calls until there are none but those that wait for work elsewhere.

        Args:
            next_call: The next one, which handles its own errors, or None when there is none at the moment.
            commit: Called when all transactions that were to begin have ended.
        """
        while True:
            while len(self._to_begin) < MOST_AT_ONCE and (call := next_call()):
                if isinstance(call, greenlet):
                    call.switch()
                else:
                    (self._idle.pop() if self._idle else greenlet(self._work)).switch(call)
            if not self._to_begin:
                return
            waiting, self._to_begin = self._to_begin, []
            for each in waiting:
                each.switch()
            commit()
            waiting, self._to_be_committed = self._to_be_committed, []
            for each in waiting:
                each.switch()

    def begin(self) -> None:
        """For a call that wants a transaction: let the others go on until all of them do."""
        self._wait_among(self._to_begin)

    def end(self) -> None:
        """For a call whose transaction is to be committed: let the others go on until it is."""
        self._wait_among(self._to_be_committed)

    def _wait_among(self, waiting: list[greenlet]) -> None:
        current = getcurrent()
        waiting.append(current)
        _back_from(current)

    def result(self, work: Future[Value]) -> Value:
        """For a call: let the others go on until this is done in another thread. Raises what it raises."""
        current = getcurrent()
        if not work.done():
            work.add_done_callback(lambda _: self._go_on(current))
            _back_from(current)
        return work.result()

    def _work(self, call: Call) -> NoReturn:
        current = getcurrent()
        while True:
            call()
            self._idle.append(current)
            call = _back_from(current)


def _back_from(current: greenlet) -> Call:
    """Go back to `run`, until that goes on here; returns the next call, if it is for that."""
    if current.parent is None:
        raise RuntimeError("only a call of `run` can wait")
    call: Call = current.parent.switch()
    return call
