"""PostgreSQL that goes away: connections that it has closed are not used, and from those that hang one gets away."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from playhouse.postgres_ext import PooledPsycopg3Database


class PostgresqlPool(PooledPsycopg3Database):  # type: ignore[misc]
    """Connections that are looked at before they are handed out, without a question to the server.

    Peewee would ask, with the pool locked: a server that hangs would hold up everyone who wants another connection.
    """

    def _is_closed(self, connection: Any) -> bool:
        if not has_hung_up(connection):
            return False
        self._close_raw(connection)
        return True

    def _can_reuse(self, connection: Any) -> bool:
        return not has_hung_up(connection) and bool(super()._can_reuse(connection))


def has_hung_up(connection: Any) -> bool:
    """Whether the server has closed a connection on which nothing is under way."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    # Unasked, a server says nothing but goodbye.
    return bool(poll.poll(0))


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
            if isinstance(self._connection, psycopg.Connection) and not self._connection.closed:
                with socket.socket(fileno=os.dup(self._connection.fileno())) as line:
                    line.shutdown(socket.SHUT_RDWR)
