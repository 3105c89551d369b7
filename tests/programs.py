"""Programs that tests run: those of Debian's packages, which agree with the world, and examples that serve."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

START_SECONDS = 20


def needs(program: str, *, package: str) -> str:
    """The path of a program. Without it the test is skipped, but where `CI` is set it fails: `.ci/run` installs it."""
    path = shutil.which(program)
    if path is None:
        message = f"{program} is missing. `apt-get install {package}` brings it."
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


def oathtool(secret: str, later: int = 0) -> str:
    """The code that an authenticator app shows so many seconds from now, or, below zero, showed."""
    # Its own `now` is a coarse clock, which at the turn of a step still says the one before.
    now = f"@{int(time.time()) + later}"
    command = [needs("oathtool", package="oathtool"), "--totp", "--base32", "--now", now, secret]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def read_qr_code(picture: Path) -> str:
    """What a telephone's camera reads in a picture."""
    command = [needs("zbarimg", package="zbar-tools"), "--quiet", "--raw", "--nodbus", str(picture)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def serving(command: Sequence[str], port: int, folder: Path, **environment: str) -> Iterator[httpx.Client]:
    """Run a program that serves HTTP for the length of a `with` block; a client of it, once it answers."""
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            deadline = time.monotonic() + START_SECONDS
            while True:
                with contextlib.suppress(httpx.TransportError):
                    client.get("/")
                    break
                assert process.poll() is None, f"{command} has ended"
                assert time.monotonic() < deadline, f"{command} does not answer"
                time.sleep(0.05)
            yield client
    finally:
        process.terminate()
        process.wait(START_SECONDS)
