"""Runs the real `serve` command, again and again, each time in a process that has imported it already.

Importing the server takes longer than all else it does at start.
"""

from __future__ import annotations

import os
import sys

from factors import backup
from server import app, command

ALREADY_IMPORTED = (app, command)
QUICK_HASHES = "--quick-hashes"


def main(port: str, *options: str) -> None:
    """For each line read, fork a server, tell its process id, and once it has ended, how."""
    if QUICK_HASHES in options:
        # Argon2id at its cheapest.
        backup.MEMORY_KIB, backup.PASSES = 8, 1
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.dup2(2, 1)  # What it says goes to the log.
            command.main(["serve", "--port", port])
        tell(pid)
        tell(os.waitpid(pid, 0)[1])


def tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
