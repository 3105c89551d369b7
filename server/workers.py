"""The threads in which handlers run, each with a database connection of its own that stays open.

A general thread pool takes longer to hand a call over than SQLite to answer it, so this one does no more than it must:
a queue, and one call back into the event loop. On SQLite, which has one writer, it is one thread, in which calls go
together: several threads would spend more time on fighting for the interpreter than on their work.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import peewee
import structlog
from greenlet import greenlet

from storage.database import database, is_sqlite, keep_connection, run_together
from storage.deadline import Deadline, end_by
from storage.hanging import Grip
from storage.together import Together

# A database that hangs is given up after so long, so that the answer is out within five seconds. Ten slow hashes take
# their time, and on a busy machine have to wait for it: while there are any under way, calls that may hash may take
# longer.
ANSWER_SECONDS = 4.5
SLOW_ANSWER_SECONDS = 20.0
# A commit that was begun in time is waited for. If the database hangs in it, nobody can tell what will have happened.
COMMIT_SECONDS = 0.3
LOOK_SECONDS = 0.05
# A thread that is still not back so long after that is cut off from its connection. A database that works refuses a
# statement sooner than that.
HANG_SECONDS = 10.0
STOP_SECONDS = 5.0

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Job:
    """A call, and whoever waits for it until the deadline."""

    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    future: asyncio.Future[Any]
    deadline: Deadline
    grip: Grip = field(default_factory=Grip)
    is_done: bool = False
    overdue_at: float = math.inf

    def call(self) -> Any:
        connection = keep_connection()
        # Whoever waits is told then that nothing has happened, so nothing may.
        end_by(self.deadline)
        with self.grip.on(connection):
            result = self.function(**self.arguments)
        self.is_done = True
        return result


Jobs = queue.SimpleQueue[Job | greenlet | None]
# How a call has ended.
Done = tuple[Job, BaseException | None, Any]


class Workers:
    """What runs handlers, from `start` to `stop`; calls that it cannot take on at once wait in line.

    Args:
        threads: How many there are on PostgreSQL. Calls that may take long have a line and threads of their own there,
            a third of all, and never hold up the others.
    """

    def __init__(self, threads: int) -> None:
        self._quick: Jobs = queue.SimpleQueue()
        self._slow: Jobs = queue.SimpleQueue()
        slow = max(1, threads // 3)
        work: Sequence[Callable[[], None]]
        work = [partial(self._work, self._slow)] * slow + [partial(self._work, self._quick)] * max(1, threads - slow)
        if is_sqlite():
            self._slow = self._quick
            work = [self._work_together]
        self._threads = [threading.Thread(target=each, name="handlers", daemon=True) for each in work]
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        """Begin to work for the event loop that runs."""
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let what is at work end. A call that hangs is left behind: its thread ends with the process."""
        for line in (self._quick, self._slow):
            line.put(None)
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    async def run(self, function: Callable[..., Any], arguments: Mapping[str, Any], *, slow: bool) -> Any:
        """Call in a thread, with a database connection. Raises what the call raises, or TimeoutError."""
        future: asyncio.Future[Any] = self._loop.create_future()
        seconds = SLOW_ANSWER_SECONDS if slow else ANSWER_SECONDS
        job = Job(function, arguments, future, Deadline(time.monotonic() + seconds))
        look = self._loop.call_later(ANSWER_SECONDS, self._look_after, job)
        (self._slow if slow else self._quick).put(job)
        try:
            return await future
        finally:
            look.cancel()

    def _work(self, jobs: Jobs) -> None:
        while isinstance(job := jobs.get(), Job):
            self._loop.call_soon_threadsafe(_tell, [_call(job)])
        jobs.put(None)  # For the next thread of this line.
        database.close()

    def _work_together(self) -> None:
        jobs = self._quick
        calls = Together(go_on=jobs.put)
        ahead: list[Job | greenlet] = []
        done: list[Done] = []

        def next_call() -> Callable[[], None] | greenlet | None:
            if done:
                self._loop.call_soon_threadsafe(_tell, done.copy())
                done.clear()
            job = ahead.pop() if ahead else _next(jobs)
            return partial(_call_into, done, job) if isinstance(job, Job) else job

        while (job := jobs.get()) is not None:
            ahead.append(job)
            try:
                run_together(calls, next_call)
            except Exception as error:
                # There is no writer, as where the file may not be written: nothing was begun.
                for each in ahead:
                    if isinstance(each, Job):
                        self._loop.call_soon_threadsafe(_tell, [(each, error, None)])
                    else:
                        jobs.put(each)
                ahead.clear()
        database.close()

    def _look_after(self, job: Job) -> None:
        """Give up a call that has taken too long."""
        if job.future.done() or job.is_done:
            return
        now = time.monotonic()
        is_busy = getattr(job.function, "is_busy", None)
        if now < job.deadline.at and is_busy is not None and is_busy():
            self._loop.call_later(LOOK_SECONDS, self._look_after, job)
        elif job.deadline.give_up() or now > job.overdue_at:
            job.future.set_exception(TimeoutError())
            self._loop.call_later(HANG_SECONDS, job.grip.cut)
        else:
            job.overdue_at = min(job.overdue_at, now + COMMIT_SECONDS)
            self._loop.call_later(LOOK_SECONDS, self._look_after, job)


def _next(jobs: Jobs) -> Job | greenlet | None:
    """The next in line, if there is one at the moment."""
    try:
        job = jobs.get_nowait()
    except queue.Empty:
        return None
    if job is None:
        jobs.put(None)  # For whoever waits for it.
    return job


def _call_into(done: list[Done], job: Job) -> None:
    done.append(_call(job))


def _call(job: Job) -> Done:
    # Nobody waits any more: it is not begun.
    if job.future.done():
        return job, None, None
    try:
        return job, None, job.call()
    except BaseException as error:
        if isinstance(error, peewee.DatabaseError):
            # The connection may be at fault, so the next call gets another.
            database.close()
        return job, error, None


def _tell(calls: Iterable[Done]) -> None:
    for job, error, result in calls:
        if job.future.done():
            if error is not None:
                log.error("handler.failed_late", kind=type(error).__name__)
        elif error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)
