"""What can happen to the file of an SQLite database under a running server."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.faults.load import eventually
from tests.faults.questions import ask
from tests.running import START_SECONDS, RunningServer

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1


def file(server: RunningServer) -> Path:
    return server.data / "mfa.db"


def begun(server: RunningServer) -> set[uuid.UUID]:
    """Whose enrolments are in the database."""
    with closing(sqlite3.connect(file(server))) as connection:
        rows = connection.execute("SELECT user_id FROM audit_event WHERE type = 'totp.begun'").fetchall()
    return {uuid.UUID(user) for (user,) in rows}


@contextlib.contextmanager
def locked(server: RunningServer) -> Iterator[None]:
    """Another process writes, and does not come to an end."""
    with closing(sqlite3.connect(file(server), isolation_level=None, timeout=5)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextlib.contextmanager
def full(server: RunningServer) -> Iterator[None]:
    """There is no room left for the server's files to grow."""
    with closing(sqlite3.connect(file(server), isolation_level=None)) as reader:
        # What is read here must stay as it is, so what is written goes to the end of the log.
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM mfa_user").fetchone()
        room = file(server).with_name("mfa.db-wal").stat().st_size
        before = {worker: resource.prlimit(worker, resource.RLIMIT_FSIZE) for worker in workers(server)}
        for worker, (_, most) in before.items():
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (room, most))
        try:
            yield
        finally:
            for worker, limits in before.items():
                resource.prlimit(worker, resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def read_only(server: RunningServer) -> Iterator[None]:
    """The files may no longer be written, and the workers begin anew, as they do when they have died."""
    files = list(server.data.glob("mfa.db*"))
    for each in files:
        each.chmod(0o400)
    try:
        kill_workers(server)
        yield
    finally:
        for each in files:
            each.chmod(0o600)


def kill_workers(server: RunningServer) -> None:
    killed = workers(server)
    for worker in killed:
        os.kill(worker, signal.SIGKILL)
    eventually(lambda: len(workers(server) - killed) == server.workers, START_SECONDS)
    eventually(lambda: is_alive(server), START_SECONDS)


def is_alive(server: RunningServer) -> bool:
    with contextlib.suppress(OSError):
        return ask(server, "/healthz/live").status == 200
    return False


def workers(server: RunningServer) -> set[int]:
    """The processes that a server of several has started to serve."""
    assert server.process is not None
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()}


def start_bound_by_permissions(server: RunningServer) -> RunningServer:
    """Start a server that permissions bind, also where the tests run as root."""

    def start() -> None:
        if os.geteuid() == 0 and ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "the capability cannot be dropped")
        server.start()

    # A capability is dropped by one thread, for itself and for what it starts.
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    return server
