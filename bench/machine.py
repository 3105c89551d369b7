"""What the kernel says of processes: their cores, the CPU time they took, the memory they hold."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MIB = 1024 * 1024
# A clock of the CPU time, user and system, that all threads of a process took, those that have ended too
# (`clock_getcpuclockid`, as Linux numbers it). /proc/PID/stat counts it in hundredths of a second, too coarse here.
_CPU_CLOCK = 2


def cores() -> tuple[set[int], set[int]]:
    """A core for the server, and those that are left for what makes the requests. The same ones if there is but one."""
    all_cores = sorted(os.sched_getaffinity(0))
    return {all_cores[0]}, set(all_cores[1:]) or {all_cores[0]}


@contextmanager
def pinned_to(chosen: set[int]) -> Iterator[None]:
    """Run on these cores, and let what is started meanwhile stay there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        with suppress(OSError):  # It has ended meanwhile.
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                found += [int(child) for child in children.read_text().split()]
    return found


def cpu_times(pids: list[int]) -> dict[int, float]:
    """Seconds of CPU time, user and system, of each of the processes that are there."""
    times = {}
    for pid in pids:
        with suppress(OSError):  # It has ended meanwhile.
            times[pid] = time.clock_gettime_ns((~pid << 3) | _CPU_CLOCK) / 1e9
    return times


def cpu_spent(before: dict[int, float], after: dict[int, float]) -> float:
    """The seconds between two looks, of all processes that are there at the second one."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


def memory_mib(pids: list[int]) -> tuple[float, float]:
    """Resident memory, and how much of it is pages of files, such as libraries: processes share these, but they count
    in each of them.
    """
    pages = [Path(f"/proc/{pid}/statm").read_text().split() for pid in pids]
    resident, files = (sum(int(counts[n]) for counts in pages) for n in (1, 2))
    return resident * os.sysconf("SC_PAGE_SIZE") / MIB, files * os.sysconf("SC_PAGE_SIZE") / MIB


def proportional_memory_mib(pid: int) -> float:
    """Resident memory, in which a page that n processes share counts as an nth ("proportional set size")."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
