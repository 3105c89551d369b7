"""PostgreSQL that hangs, and how one gets away from it."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Grip:
    """The connection that a thread works with, for as long as it does, so that another thread can cut it off."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._connection: Any = None

    @contextmanager
    def on(self, connection: Any) -> Iterator[None]:
        """For the thread that works with it."""
        self._connection = connection
        try:
            yield
        finally:
            with self._changing:
                self._connection = None

    def cut(self) -> None:
        """Let the server's silence end with an error in the thread that waits. A thread that has come back keeps its
        connection. On SQLite nothing happens: there, each wait has an end of its own.
        """
        with self._changing:
            if self._connection is None or isinstance(self._connection, sqlite3.Connection):
                return
            if not self._connection.closed:
                with socket.socket(fileno=os.dup(self._connection.fileno())) as line:
                    line.shutdown(socket.SHUT_RDWR)
