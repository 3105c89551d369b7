"""The server as its user runs it: the real command, in a process of its own, on a port and a data folder of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import jwt

TOP = Path(__file__).parent.parent
START_SECONDS = 20
STOP_SECONDS = 35
API = "/api/v1/me/mfa"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class RunningServer:
    """`with RunningServer(tmp_path) as server:` — settings are given as `step_up="required"`, and so on."""

    def __init__(self, folder: Path, *, workers: int = 1, **settings: str) -> None:
        self.folder = folder
        self.data = folder / "mfa-data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.origin = f"http://localhost:{self.port}"
        self.workers = workers
        # Where requests may be sent.
        self.ports = [self.port]
        self.log = folder / "server.log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MFA_")},
            "PYTHONPATH": str(TOP),
            "MFA_VALIDATE_RESPONSES": "true",
            **{f"MFA_{name.upper()}": value for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> RunningServer:
        command = [sys.executable, "-m", "server", "serve", "--port", str(self.port), "--workers", str(self.workers)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                # A group of its own, so that `kill` reaches the workers and nobody else.
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/healthz/ready", timeout=5).is_success:
                    return self
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the server did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        return process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL to the server and all its workers."""
        process = self._running()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise AssertionError("the server was not started")
        return self.process

    def __enter__(self) -> RunningServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._running().poll() is None:
            self.stop()

    def token(self, sub: str, *, seconds: int = 3600, **claims: Any) -> str:
        """An access token signed with the development key of the data folder; a claim of None is left out."""
        now = int(time.time())
        payload = {
            "iss": "mfa-server-dev",
            "aud": "mfa-server",
            "sub": sub,
            "email": f"{sub}@example.com",
            "iat": now,
            "exp": now + seconds,
            **claims,
        }
        payload = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(payload, (self.data / "jwt-key.pem").read_bytes(), "ES256")

    def client(self, sub: str | None = None, **claims: Any) -> httpx.Client:
        """A client of the API for a user, by default one that nobody has met."""
        token = self.token(sub or f"user-{uuid.uuid4().hex}", **claims)
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=30)


class TwoServers(RunningServer):
    """Two servers of one service: they share database, keys and public address, and each takes half of the requests."""

    def __init__(self, folder: Path, *, workers: int = 1, **settings: str) -> None:
        super().__init__(folder, workers=workers, **settings)
        self.environment = {"MFA_ORIGINS": self.origin, "MFA_PUBLIC_URL": self.origin} | self.environment
        self.other = RunningServer(folder, workers=workers)
        self.other.environment = self.environment
        self.ports = [self.port, self.other.port]

    def start(self) -> TwoServers:
        super().start()
        self.other.start()
        return self

    def stop(self) -> int:
        """SIGTERM to both; returns the exit status, which is 0 if both are."""
        return super().stop() or self.other.stop()

    def kill(self) -> None:
        super().kill()
        self.other.kill()
