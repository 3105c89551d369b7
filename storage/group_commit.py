"""SQLite's one writer, shared: the transactions that have gathered are made durable by one commit.

Threads take turns on one connection. Each does its statements inside a savepoint; the one behind whom nobody waits
commits for all, and only then does any of them go on. So nothing is acknowledged before it is on disk, a transaction
that fails is undone by itself, and ten transactions at once cost one fsync.

Calls that do little but change something go together: all in one thread, which has the turn, and gather by themselves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from sqlite3 import SQLITE_BUSY, Connection, Cursor, DatabaseError, OperationalError
from typing import Any

from storage.together import MOST_AT_ONCE, NextCall, Together
from storage.turns import Turns

# How often to ask for the file while another process has it. SQLite itself would ask ever less often, down to ten times
# a second, and so lose again and again to a process that is busier.
ASK_SECONDS = 0.0002
# How long a transaction waits for its commit before it looks whether anyone is left to do it.
LOOK_SECONDS = 0.1
FOREVER = -1.0


class _Batch:
    """Transactions that share a commit."""

    def __init__(self) -> None:
        self.transactions = 0
        self.error: BaseException | None = None
        # A locked lock of each thread that waits for the end.
        self.waiting: list[threading.Lock] = []


class _Mine(threading.local):
    """What this thread has: the turn, and calls that go together in it."""

    turn = False
    calls: Together | None = None
    transaction = False


class GroupCommit:
    """Write transactions on one connection.

    Args:
        connection: In autocommit mode, without a timeout of its own, and nobody else's.
        busy_seconds: How long a transaction waits for its turn.
    """

    def __init__(self, connection: Connection, busy_seconds: float) -> None:
        self._connection = connection
        self._busy_seconds = busy_seconds
        self._turns = Turns()
        self._mine = _Mine()
        self._batch: _Batch | None = None

    def run_together(self, calls: Together, next_call: NextCall) -> None:
        """Run calls that share their commits in this thread; see `Together.run`."""
        self._take_turn()
        self._mine.calls = calls
        try:
            calls.run(next_call, self._commit_all)
        finally:
            self._mine.calls = None
            self._pass_turn()

    def calls(self) -> Together | None:
        """The calls that go together in this thread, of which this is one; none of them in the middle of a transaction,
        which is to end before another begins.
        """
        return None if self._mine.transaction else self._mine.calls

    def _commit_all(self) -> None:
        with suppress(DatabaseError):  # What fails here, each call hears from its batch.
            self._commit_batch()
        if self._turns.waiting:
            self._pass_turn()
            self._take_turn()

    @contextmanager
    def transaction(self, use: Callable[[Connection | None], Any]) -> Iterator[None]:
        """A turn; when the block ends, its statements are durable.

        Args:
            use: Called with the connection once it is this thread's, and again with None when it no longer is.

        Raises:
            OperationalError: The turn, the file's lock or the commit could not be had; nothing has happened.
        """
        calls = self._mine.calls
        if calls is None:
            self._take_turn(self._busy_seconds)
        else:
            calls.begin()
        try:
            batch = self._open_batch()
            # The first in a batch has all of it to itself, and is undone with all of it.
            alone = batch.transactions == 0
            use(self._connection)
            self._mine.transaction = True
            try:
                if not alone:
                    self._execute("SAVEPOINT one")
                yield
                if not alone:
                    self._execute("RELEASE one")
            except BaseException:
                self._undo(batch, alone)
                raise
            finally:
                self._mine.transaction = False
                use(None)
            batch.transactions += 1
            if calls is not None:
                calls.end()
            elif self._turns.waiting and batch.transactions < MOST_AT_ONCE:
                self._let_others(batch)
            else:
                self._commit_batch()
        finally:
            if calls is None:
                self._pass_turn()
        if batch.error is not None:
            raise OperationalError("the commit failed") from batch.error

    def close(self) -> None:
        """Close the connection, with the transactions that wait for their commit made durable.

        One whose thread hangs in the middle of it keeps the connection; it ends with the process.
        """
        if not self._turns.take(self._busy_seconds):
            return
        try:
            self._commit_batch()
            self._connection.close()
        finally:
            self._turns.pass_on()

    def _take_turn(self, seconds: float = FOREVER) -> None:
        if not self._turns.take(seconds):
            raise OperationalError("the writer did not come free")
        self._mine.turn = True

    def _pass_turn(self) -> None:
        """Give the turn to the next; where there is none, whoever waits for a commit has waited long enough."""
        if not self._mine.turn:
            return
        try:
            if not self._turns.waiting:
                self._commit_batch()
        finally:
            self._mine.turn = False
            self._turns.pass_on()

    def _open_batch(self) -> _Batch:
        if self._batch is None:
            self._begin()
            self._batch = _Batch()
        return self._batch

    def _begin(self) -> None:
        if self._connection.in_transaction:
            # A batch that could not even be taken back.
            self._execute("ROLLBACK")
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                self._execute("BEGIN IMMEDIATE")
                return
            except OperationalError as error:
                if error.sqlite_errorcode & 0xFF != SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
            time.sleep(ASK_SECONDS)

    def _undo(self, batch: _Batch, alone: bool) -> None:
        """Take one transaction back. Where SQLite has taken all of them back, as on a full disk, so it is for all."""
        if not alone:
            with suppress(DatabaseError):
                self._execute("ROLLBACK TO one")
                self._execute("RELEASE one")
                return
        self._abandon(batch, None if alone else OperationalError("the transaction was rolled back"))

    def _abandon(self, batch: _Batch, error: BaseException | None) -> None:
        """None of a batch has happened."""
        try:
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
        finally:
            self._end(batch, error)

    def _let_others(self, batch: _Batch) -> None:
        """Pass the turn on, until one of those who wait for it has committed for all."""
        over = threading.Lock()
        over.acquire()
        batch.waiting.append(over)
        self._pass_turn()
        while not over.acquire(timeout=LOOK_SECONDS):
            # Whoever was waiting when the turn was passed on may have given up.
            if self._turns.take(LOOK_SECONDS):
                self._mine.turn = True
                self._pass_turn()

    def _commit_batch(self) -> None:
        batch = self._batch
        if batch is None:
            return
        try:
            self._execute("COMMIT")
        except DatabaseError as error:
            self._abandon(batch, error)
        else:
            self._end(batch, None)

    def _end(self, batch: _Batch, error: BaseException | None) -> None:
        self._batch = None
        batch.error = error
        for over in batch.waiting:
            over.release()

    def _execute(self, sql: str) -> Cursor:
        return self._connection.execute(sql)
