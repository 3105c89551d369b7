"""Three PostgreSQL servers of which Patroni makes one the primary, etcd for Patroni, and HAProxy before them all."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from tests.ha import processes
from tests.ha.node import LOOPBACK, SCOPE, Node
from tests.running import free_port

NODES = ("one", "two", "three")
PATIENCE = 180.0
# So much may a standby lag behind by what Patroni knows, which is some seconds old (bytes).
LAG = 1024 * 1024
HAPROXY = """\
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
    timeout check 2s
listen primary
    bind {address}
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
"""


class Failed(Exception):
    """What should come about does not."""


def wait_until(what: str, condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"In {seconds:.0f} seconds it did not come about that {what}.")
        time.sleep(0.1)


class Cluster:
    """Everything of it works in folders of `folder`, and has to be ended by whoever owns that.

    `url` is where a server finds the primary, whichever node that is.
    """

    def __init__(self, folder: Path, *, synchronous: bool, haproxy: bool) -> None:
        self._folder = folder
        self._synchronous = synchronous
        self._passwords = {role: secrets.token_hex(16) for role in ("superuser", "replication", "rewind")}
        processes.let_postgresql_be_found()
        etcd = self._start_etcd()
        self.nodes = [Node(folder / name, etcd, self._passwords, synchronous=synchronous) for name in NODES]
        for node in self.nodes:
            node.start()
        wait_until("all nodes are healthy", self.is_healthy)
        address = self._start_haproxy() if haproxy else ",".join(node.address for node in self.nodes)
        self.url = self._make_database(address)

    def primary(self) -> Node:
        wait_until("there is a primary", lambda: any(node.is_primary() for node in self.nodes))
        return next(node for node in self.nodes if node.is_primary())

    def is_healthy(self) -> bool:
        """Whether there is a primary and all others follow it, one of them synchronously."""
        primary = next((node for node in self.nodes if node.is_primary()), None)
        members = primary.members() if primary else []
        followers = [member for member in members if member["role"] != "leader"]
        return (
            len(followers) == len(self.nodes) - 1
            and len({member.get("timeline") for member in members}) == 1
            and all(member["state"] in ("running", "streaming") for member in followers)
            and all(isinstance(member["lag"], int) and member["lag"] < LAG for member in followers)
            and any(member["role"] == "sync_standby" for member in followers) is self._synchronous
        )

    def _start_etcd(self) -> str:
        folder = processes.own_folder(self._folder / "etcd")
        clients, peers = (f"http://{LOOPBACK}:{free_port()}" for _ in range(2))
        command = [processes.program("etcd", package="etcd-server"), "--name=etcd", "--data-dir=data"]
        command += [f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}"]
        command += [f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}"]
        processes.start([*command, f"--initial-cluster=etcd={peers}"], folder)
        return clients.removeprefix("http://")

    def _start_haproxy(self) -> str:
        folder = processes.own_folder(self._folder / "haproxy")
        address = f"{LOOPBACK}:{free_port()}"
        servers = [f"    server {node.name} {node.address} check addr {node.api}\n" for node in self.nodes]
        (folder / "haproxy.cfg").write_text(HAPROXY.format(address=address) + "".join(servers))
        processes.start([processes.program("haproxy", package="haproxy"), "-db", "-f", "haproxy.cfg"], folder)
        return address

    def _make_database(self, address: str) -> str:
        """A database for the server, and its role; returns its URL."""
        password = secrets.token_hex(16)
        superuser = f"postgresql://superuser:{self._passwords['superuser']}@{address}/postgres"
        opened: list[psycopg.Connection] = []

        def is_open() -> bool:
            # HAProxy takes each node for the primary until it has asked.
            with suppress(psycopg.OperationalError):
                opened.append(
                    psycopg.connect(superuser, autocommit=True, connect_timeout=3, target_session_attrs="read-write")
                )
            return bool(opened)

        wait_until("the primary can be reached", is_open)
        with opened[0] as connection:
            connection.execute(SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(Identifier(SCOPE), Literal(password)))
            connection.execute(SQL("CREATE DATABASE {} OWNER {}").format(Identifier(SCOPE), Identifier(SCOPE)))
        return f"postgresql://{SCOPE}:{password}@{address}/{SCOPE}"
