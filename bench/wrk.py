"""Prepared requests, sent by Debian's `wrk`."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

CONNECTIONS = 8
MOST_SECONDS = 120
SCRIPT = Path(__file__).parent / "prepared.lua"


class Unexpected(Exception):
    """A server did not answer as it should, so that its numbers mean nothing."""


class Load(NamedTuple):
    """How the requests went: how many were sent, in how many seconds; milliseconds to an answer."""

    sent: int
    seconds: float
    p50: float
    p99: float


def send(port: int, requests: Sequence[bytes], file: Path, status: int, connections: int = CONNECTIONS) -> Load:
    """Send each request once, over connections that are kept.

    Args:
        file: Where the requests may be written down.
        status: What all answers must have.

    Raises:
        Unexpected: They had not.
    """
    file.write_bytes(b"".join(b"%d\n%s" % (len(request), request) for request in requests))
    threads = ["--threads", "1", "--connections", str(connections), "--duration", str(MOST_SECONDS), "--timeout", "30"]
    script = ["--script", str(SCRIPT), f"http://127.0.0.1:{port}/", "--", str(file), str(connections), str(status)]
    ended = subprocess.run(
        ["wrk", *threads, *script], capture_output=True, text=True, timeout=MOST_SECONDS * 1.5, check=True
    )
    said = next(line for line in ended.stdout.splitlines() if line.startswith("prepared:")).split()[1:]
    answered, unexpected, other, took, p50, p99 = (float(word) for word in said)
    if unexpected or not answered or "Socket errors" in ended.stdout:
        raise Unexpected(f"{int(unexpected)} of {int(answered)} answers had another status, such as {int(other)}")
    return Load(len(requests), took * len(requests) / answered, p50 / 1000, p99 / 1000)
