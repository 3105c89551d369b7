"""SQLite's one writer, shared: the transactions that have gathered are made durable by one commit.

Threads take turns on one connection. Each does its statements inside a savepoint; the one behind whom nobody waits
commits for all, and only then does any of them go on. So nothing is acknowledged before it is on disk, a transaction
that fails is undone by itself, and ten transactions at once cost one fsync.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from sqlite3 import SQLITE_BUSY, Connection, Cursor, DatabaseError, OperationalError
from typing import Any

MOST_AT_ONCE = 64
# How often to ask for the file while another process has it. SQLite itself would ask ever less often, down to ten times
# a second, and so lose again and again to a process that is busier.
ASK_SECONDS = 0.001
# How long a transaction waits for its commit before it looks whether anyone is left to do it.
LOOK_SECONDS = 0.1


class _Batch:
    """Transactions that share a commit."""

    def __init__(self) -> None:
        self.transactions = 0
        self.error: BaseException | None = None
        self.over = threading.Event()


class GroupCommit:
    """Write transactions on one connection.

    Args:
        connection: In autocommit mode, without a timeout of its own, and nobody else's.
        busy_seconds: How long a transaction waits for its turn.
    """

    def __init__(self, connection: Connection, busy_seconds: float) -> None:
        self._connection = connection
        self._busy_seconds = busy_seconds
        self._turn = threading.Lock()
        self._counting = threading.Lock()
        self._waiting = 0
        self._batch: _Batch | None = None

    @contextmanager
    def transaction(self, use: Callable[[Connection | None], Any]) -> Iterator[None]:
        """A turn; when the block ends, its statements are durable.

        Args:
            use: Called with the connection once it is this thread's, and again with None when it no longer is.

        Raises:
            OperationalError: The turn, the file's lock or the commit could not be had; nothing has happened.
        """
        batch = self._take_turn()
        # The first in a batch has all of it to itself, and is undone with all of it.
        alone = batch.transactions == 0
        use(self._connection)
        try:
            try:
                if not alone:
                    self._execute("SAVEPOINT one")
                yield
                if not alone:
                    self._execute("RELEASE one")
            except BaseException:
                self._undo(batch, alone)
                raise
            batch.transactions += 1
        finally:
            use(None)
            self._pass_turn(batch)
        self._await(batch)

    def close(self) -> None:
        """Close the connection, with the transactions that wait for their commit made durable.

        One whose thread hangs in the middle of it keeps the connection; it ends with the process.
        """
        if not self._turn.acquire(timeout=self._busy_seconds):
            return
        try:
            if self._batch is not None:
                self._commit(self._batch)
            self._connection.close()
        finally:
            self._turn.release()

    def _take_turn(self) -> _Batch:
        with self._counting:
            self._waiting += 1
        taken = self._turn.acquire(timeout=self._busy_seconds)
        with self._counting:
            self._waiting -= 1
        if not taken:
            raise OperationalError("the writer did not come free")
        if self._batch is None:
            try:
                self._begin()
            except BaseException:
                self._turn.release()
                raise
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

    def _pass_turn(self, batch: _Batch) -> None:
        try:
            if batch is self._batch and (self._waiting == 0 or batch.transactions >= MOST_AT_ONCE):
                self._commit(batch)
        finally:
            self._turn.release()

    def _commit(self, batch: _Batch) -> None:
        try:
            self._execute("COMMIT")
        except DatabaseError as error:
            self._abandon(batch, error)
        else:
            self._end(batch, None)

    def _end(self, batch: _Batch, error: BaseException | None) -> None:
        self._batch = None
        batch.error = error
        batch.over.set()

    def _await(self, batch: _Batch) -> None:
        while not batch.over.wait(LOOK_SECONDS):
            # Whoever was waiting when the turn was passed on may have given up.
            if self._turn.acquire(timeout=LOOK_SECONDS):
                self._pass_turn(batch)
        if batch.error is not None:
            raise OperationalError("the commit failed") from batch.error

    def _execute(self, sql: str) -> Cursor:
        return self._connection.execute(sql)
