"""What a part of the run stands on: a folder, users, and servers that know them and run until the part is over."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import machine, postgresql
from bench.measure import Site
from bench.people import Issuer, People, Visitors
from bench.postgresql import Cluster
from bench.servers import SETTING, Floor, Ours, Server

USERS = 2000


class Stage:
    """Users of one issuer. Everything that runs on it ends with `set_up`."""

    def __init__(self, folder: Path, ending: ExitStack, users: int, cluster: Cluster | None) -> None:
        self.folder = folder
        self.cluster = cluster
        self.issuer = Issuer(folder / "issuer")
        self.people = People.of(self.issuer, users)
        self._ending = ending
        self._servers = 0

    def ours(self, kind: type[Ours] = Ours, *, workers: int = 1, cores: set[int] | None = None) -> Ours:
        """Our server, not yet started, with a database of the kind that was asked for."""
        return kind(self._next_folder(), self.issuer.key, cores, workers=workers, cluster=self.cluster)

    def floor(self, kind: type[Floor]) -> Floor:
        return kind(self._next_folder(), self.issuer.key)

    def site(self, server: Server) -> Site:
        """Start a server and let it know the users."""
        server.start()
        self._ending.callback(server.stop)
        # While it runs: with the last connection SQLite deletes its log, and the first commits would pay for a new one.
        server.seed(self.people)
        return Site(server, Visitors(self.people))

    def _next_folder(self) -> Path:
        self._servers += 1
        return self.folder / f"server-{self._servers}"


@contextmanager
def set_up(users: int = USERS, *, on_postgresql: bool = False) -> Iterator[Stage]:
    """A stage on which what makes the requests, and PostgreSQL, are kept off the servers' core."""
    for name in [name for name in os.environ if name.startswith(SETTING)]:
        del os.environ[name]
    folder = Path(tempfile.mkdtemp(prefix="mfa-bench-"))
    try:
        with ExitStack() as ending, machine.pinned_to(machine.cores()[1]):
            cluster = ending.enter_context(postgresql.running(folder / "postgresql")) if on_postgresql else None
            yield Stage(folder, ending, users, cluster)
    finally:
        shutil.rmtree(folder)
