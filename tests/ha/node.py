"""One machine of the cluster: a PostgreSQL server, and the Patroni that starts and stops it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.databases import PROGRAMS
from tests.ha import processes
from tests.running import free_port

SCOPE = "mfa"
# Patroni's least. So long after its last sign of life is the place of a primary free (seconds).
LEASE_SECONDS = 20
LOOPBACK = "127.0.0.1"


class Node:
    def __init__(self, folder: Path, etcd: str, passwords: Mapping[str, str], *, synchronous: bool) -> None:
        self.name = folder.name
        self.folder = processes.own_folder(folder)
        self.data = folder / "data"
        self.address = f"{LOOPBACK}:{free_port()}"
        self.api = f"{LOOPBACK}:{free_port()}"
        self._client = httpx.Client(base_url=f"http://{self.api}", timeout=3)
        self._configuration = folder / "patroni.yml"
        # JSON is YAML.
        self._configuration.write_text(json.dumps(self._settings(etcd, passwords, synchronous), indent=2))
        self._patroni: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [processes.program("patroni", package="patroni"), str(self._configuration)]
        self._patroni = processes.start(command, self.folder)

    def kill(self) -> None:
        """All that runs on it, as when a machine dies."""
        assert self._patroni is not None
        # First, lest it bring up again what is killed next.
        self._patroni.kill()
        self._patroni.wait()
        processes.kill_all_in(self.folder)

    def kill_postgresql(self) -> None:
        """The postmaster and all its children, of which Patroni then finds out."""
        processes.kill_all_in(self.data)

    def freeze(self) -> None:
        """It answers nobody any more, yet its connections stay open."""
        processes.send(signal.SIGSTOP, processes.working_in(self.folder))

    def freeze_replication(self) -> None:
        """What it writes from now on reaches no standby."""
        senders = [pid for pid in processes.working_in(self.data) if "walsender" in processes.command_line(pid)]
        processes.send(signal.SIGSTOP, senders)

    def is_primary(self) -> bool:
        return self._ask("/primary") is not None

    def members(self) -> list[dict[str, Any]]:
        """What Patroni knows of all nodes."""
        return list((self._ask("/cluster") or {}).get("members", []))

    def _ask(self, path: str) -> dict[str, Any] | None:
        """Its Patroni's answer; None if that is an error, or there is none."""
        try:
            answer = self._client.get(path)
        except httpx.TransportError:
            return None
        return dict(answer.json()) if answer.is_success else None

    def _settings(self, etcd: str, passwords: Mapping[str, str], synchronous: bool) -> dict[str, Any]:
        return {
            "scope": SCOPE,
            "name": self.name,
            "restapi": {"listen": self.api, "connect_address": self.api},
            "etcd3": {"hosts": [etcd]},
            "bootstrap": {
                "dcs": {
                    "ttl": LEASE_SECONDS,
                    "loop_wait": 2,
                    "retry_timeout": 5,
                    # A primary that has crashed is not waited for.
                    "primary_start_timeout": 0,
                    "synchronous_mode": synchronous,
                    # Where no standby is left nothing is acknowledged, rather than kept in one place only.
                    "synchronous_mode_strict": synchronous,
                    "postgresql": {"use_pg_rewind": True, "parameters": {"synchronous_commit": "on"}},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums", {"set": "io_method=sync"}],
                "pg_hba": [f"host {what} all {LOOPBACK}/32 scram-sha-256" for what in ("all", "replication")],
            },
            "postgresql": {
                "listen": self.address,
                "connect_address": self.address,
                "data_dir": str(self.data),
                "bin_dir": str(PROGRAMS),
                "pgpass": str(self.folder / "pgpass"),
                "authentication": {
                    role: {"username": role, "password": password} for role, password in passwords.items()
                },
                "parameters": {"unix_socket_directories": str(self.folder), "shared_buffers": "32MB"},
                "remove_data_directory_on_rewind_failure": True,
                "remove_data_directory_on_diverged_timelines": True,
            },
        }
