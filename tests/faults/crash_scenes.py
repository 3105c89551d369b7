"""What is killed: servers on SQLite, servers on PostgreSQL, PostgreSQL itself."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.attacks.crashing import QuickCrashingServer
from tests.attacks.victim import World
from tests.faults.crash_cluster import Cluster
from tests.faults.crash_judge import judge
from tests.faults.crash_lives import Life
from tests.faults.crash_tally import Tally
from tests.running import free_port

READY_SECONDS = 30
LONGEST_OUTAGE = 0.3


class Scene:
    """Servers of one service, and how they die."""

    def __init__(self, servers: Sequence[QuickCrashingServer]) -> None:
        self.servers = servers
        self.ports = [server.port for server in servers]

    def crash(self, chance: random.Random) -> None:
        """Kill, and bring up again what was killed."""
        chosen = [server for server in self.servers if chance.random() < 0.5] or self.servers
        for server in chosen:
            server.kill()
        start(chosen)

    def settle(self) -> None:
        """Wait until nothing changes any more."""

    def examine(self, lives: Iterable[Life], tally: Tally) -> int:
        """Judge users, while nothing is asked of the servers; returns what `judge` does."""
        self.settle()
        with World.of(self.servers[0]):
            return judge(lives, tally)


class OnPostgresql(Scene):
    def __init__(self, servers: Sequence[QuickCrashingServer], cluster: Cluster) -> None:
        super().__init__(servers)
        self.cluster = cluster

    def settle(self) -> None:
        self.cluster.settle()


class OfPostgresql(OnPostgresql):
    """The servers stay up."""

    def crash(self, chance: random.Random) -> None:
        self.cluster.kill()
        time.sleep(chance.uniform(0, LONGEST_OUTAGE))
        self.cluster.start()
        for server in self.servers:
            wait_until_ready(server)
            assert server.alive


@contextmanager
def on_sqlite(folder: Path, _: Cluster) -> Iterator[Scene]:
    with servers_of(folder, 1) as servers:
        yield Scene(servers)


@contextmanager
def on_postgresql(folder: Path, cluster: Cluster) -> Iterator[Scene]:
    with servers_of(folder, 2, database_url=cluster.url(cluster.new())) as servers:
        yield OnPostgresql(servers, cluster)


@contextmanager
def of_postgresql(folder: Path, cluster: Cluster) -> Iterator[Scene]:
    assert cluster.setting("fsync") == "on"
    with servers_of(folder, 2, database_url=cluster.url(cluster.new())) as servers:
        yield OfPostgresql(servers, cluster)


SCENES = {"server on SQLite": on_sqlite, "servers on PostgreSQL": on_postgresql, "PostgreSQL": of_postgresql}


@contextmanager
def servers_of(folder: Path, count: int, **settings: str) -> Iterator[list[QuickCrashingServer]]:
    """Servers that share all but their port. Nobody takes their mail, so all of it can be counted."""
    shared = {
        "origins": "http://localhost",
        "public_url": "http://localhost",
        "smtp_url": f"smtp://127.0.0.1:{free_port()}",
    }
    servers = [QuickCrashingServer(folder, workers=1, **shared, **settings) for _ in range(count)]
    with contextlib.ExitStack() as stack:
        for server in servers:
            # The first one makes the keys.
            stack.enter_context(server)
        yield servers


def start(servers: Sequence[QuickCrashingServer]) -> None:
    with ThreadPoolExecutor(len(servers)) as pool:
        list(pool.map(QuickCrashingServer.start, servers))


def wait_until_ready(server: QuickCrashingServer) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not httpx.get(f"{server.url}/healthz/ready", timeout=READY_SECONDS).is_success:
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.02)
