"""The drill: under load the primary is killed, in one way after the other, and what comes of it is measured."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from tests.databases import COMMAND, COMMAND_SECONDS
from tests.ha.cluster import Cluster, wait_until
from tests.ha.findings import Findings
from tests.ha.journal import Entry, Journal
from tests.ha.load import Load
from tests.ha.node import Node
from tests.running import TwoServers


class Kind(StrEnum):
    """How a primary is killed."""

    POSTGRESQL = "postgresql"
    MACHINE = "machine"
    LAGGING = "lagging"
    REBOOT = "reboot"
    FROZEN = "frozen"


MEANT = {
    Kind.POSTGRESQL: "PostgreSQL dies, and Patroni on the same machine finds out",
    Kind.MACHINE: "all that runs on the machine dies, and is back when another one has taken over",
    Kind.LAGGING: "as machine, and for a second before, nothing has reached the standbys",
    Kind.REBOOT: "all that runs on the machine dies, and is back after five seconds",
    Kind.FROZEN: "the machine answers nobody, its connections stay open, and it dies when another one has taken over",
}
# The load runs evenly for so long before the next kill.
CALM_SECONDS = 5.0
LAG_SECONDS = 1.0
REBOOT_SECONDS = 5.0


@dataclass(frozen=True)
class Kill:
    """One kill and what came of it. Times are seconds from the kill, but for the gap, which may begin before."""

    kind: Kind
    node: str
    first_write: float
    both_servers: float
    gap: float
    entries: list[Entry]
    lost: int
    twice: int


class Drill:
    """A cluster and two servers on it, until the block ends; whoever owns the folder ends the cluster."""

    def __init__(self, folder: Path, *, synchronous: bool = True, haproxy: bool = True) -> None:
        self._cluster = Cluster(folder, synchronous=synchronous, haproxy=haproxy)
        self._folder = folder / "servers"
        self._folder.mkdir()
        self._server = TwoServers(self._folder, database_url=self._cluster.url)
        _migrate(self._server)
        self.journal = Journal(self._server.ports)
        self.load = Load(self._server, self.journal)
        self.findings = Findings(self._server, self.load)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()

    def kill(self, kinds: list[Kind]) -> Iterator[Kill]:
        """Kill the primary in each of these ways, under load, and look at everything that was acknowledged."""
        with self.load:
            for kind in kinds:
                time.sleep(CALM_SECONDS)
                yield self._kill(kind, self._cluster.primary())
        self.findings.look_at_the_end()

    def _kill(self, kind: Kind, node: Node) -> Kill:
        killed_at = _strike(kind, node)
        first_writes: dict[int, float] = {}

        def is_served() -> bool:
            self.load.check()
            found = {port: self.journal.first_write_after(killed_at, port) for port in self._server.ports}
            first_writes.update({port: heard_at for port, heard_at in found.items() if heard_at is not None})
            return len(first_writes) == len(self._server.ports)

        wait_until("both servers acknowledge writes again", is_served)
        lost, twice = len(self.findings.lost), len(self.findings.twice)
        _bring_back(kind, node)
        self.findings.replay(killed_at)
        wait_until("all nodes are healthy again", self._cluster.is_healthy)
        self.findings.look(killed_at)
        self.load.check()
        return Kill(
            kind,
            node.name,
            first_write=min(first_writes.values()) - killed_at,
            both_servers=max(first_writes.values()) - killed_at,
            gap=self.journal.longest_gap_since(killed_at - LAG_SECONDS - 1),
            entries=self.journal.since(killed_at),
            lost=len(self.findings.lost) - lost,
            twice=len(self.findings.twice) - twice,
        )


def _strike(kind: Kind, node: Node) -> float:
    """Returns the moment (`time.monotonic`) from which on the node does nothing."""
    match kind:
        case Kind.POSTGRESQL:
            node.kill_postgresql()
        case Kind.FROZEN:
            node.freeze()
        case _:
            if kind is Kind.LAGGING:
                node.freeze_replication()
                time.sleep(LAG_SECONDS)
            node.kill()
    struck_at = time.monotonic()
    if kind is Kind.REBOOT:
        time.sleep(REBOOT_SECONDS)
        node.start()
    return struck_at


def _bring_back(kind: Kind, node: Node) -> None:
    if kind is Kind.FROZEN:
        node.kill()
    if kind in (Kind.FROZEN, Kind.MACHINE, Kind.LAGGING):
        node.start()


def _migrate(server: TwoServers) -> None:
    command = [*COMMAND, "migrate"]
    with (server.folder / "migrate.log").open("wb") as log:
        subprocess.run(
            command, cwd=server.folder, env=server.environment, stdout=log, timeout=COMMAND_SECONDS, check=True
        )
