"""A server that dies and is up again at once: `forker` has imported it once and for all."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.running import START_SECONDS, RunningServer

FORKER = "tests.attacks.forker"


class CrashingServer(RunningServer):
    """`kill` and `stop` end the server, `start` brings the next one up; the port and the data folder stay."""

    pid = 0
    # Of the forker.
    options: tuple[str, ...] = ()

    def start(self) -> CrashingServer:
        if self.process is None:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", FORKER, str(self.port), *self.options],
                    cwd=self.folder,
                    env=self.environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                )
        assert self.process.stdin is not None
        self.process.stdin.write(b"start\n")
        self.process.stdin.flush()
        self.pid = self._told()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/healthz/ready", timeout=5).is_success:
                    return self
            time.sleep(0.02)
        # Nobody else would end it.
        self.__exit__()
        raise AssertionError(f"the server did not start:\n{self.log.read_text()}")

    @property
    def alive(self) -> bool:
        """Whether the process that `start` began still runs; one that has ended is waited for at once."""
        return Path(f"/proc/{self.pid}").exists()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.stopped()

    def stop(self) -> int:
        os.kill(self.pid, signal.SIGTERM)
        return self.stopped()

    def stopped(self) -> int:
        """Wait for the end; returns the exit status."""
        return os.waitstatus_to_exitcode(self._told())

    def _told(self) -> int:
        process = self._running()
        assert process.stdout is not None
        return int(process.stdout.readline())

    def __exit__(self, *_: object) -> None:
        process = self._running()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


class QuickCrashingServer(CrashingServer):
    """One whose backup codes cost little, so that more happens between two crashes."""

    options = ("--quick-hashes",)
