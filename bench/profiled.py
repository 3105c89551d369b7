"""`mfa-server` with every thread profiled, for `bench.profile`: SIGUSR1 begins anew, SIGUSR2 writes what has been seen.

    python -m bench.profiled FILE serve --port 8080

Time is the CPU time of each thread, so that waiting costs nothing.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import signal
import sys
import threading
import time
from typing import Any

from server.command import main


class Profile(cProfile.Profile):
    """The profile of one thread, which is looked at from another one while it goes on."""

    def create_stats(self) -> None:
        # The inherited one ends the calls that are under way, by the clock of the thread that looks.
        self.snapshot_stats()


_profiles: list[Profile] = []


def _profile_this_thread(*_: Any) -> None:
    profile = Profile(time.thread_time)
    _profiles.append(profile)
    profile.enable()


def _begin(*_: Any) -> None:
    for profile in _profiles:
        profile.clear()


def _write(*_: Any) -> None:
    draft = f"{sys.argv[0]}.draft"
    pstats.Stats(*(profile for profile in _profiles if profile.getstats())).dump_stats(draft)
    os.replace(draft, sys.argv[0])


if __name__ == "__main__":
    del sys.argv[0]
    signal.signal(signal.SIGUSR1, _begin)
    signal.signal(signal.SIGUSR2, _write)
    threading.setprofile(_profile_this_thread)
    _profile_this_thread()
    main(sys.argv[1:])
