"""Runs the real command several times at one moment, each time in a process that has imported it already."""

from __future__ import annotations

import os
import signal
import sys

from server import app, command

ALREADY_IMPORTED = (app, command)


def main(*commands: str) -> int:
    """Fork once for each command, pass on SIGTERM, and wait for all. The highest of their exit statuses."""
    children = []
    for arguments in commands:
        pid = os.fork()
        if pid == 0:
            command.main(arguments.split())
        children.append(pid)

    def pass_on(number: int, _: object) -> None:
        for pid in children:
            os.kill(pid, number)

    signal.signal(signal.SIGTERM, pass_on)
    return max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
