"""SQLite's disk is full, its file read-only or another's: all is refused in time and nobody restarts it (REL-03)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.attacks.victim import World
from tests.faults import disk
from tests.faults.load import Load, check_enrolments, eventually
from tests.faults.questions import answered, ask, check_done, check_refused, questions
from tests.running import RunningServer

RECOVERY_SECONDS = 5.0


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server, of two workers, that outlives each fault of its disk."""
    server = RunningServer(tmp_path_factory.mktemp("sqlite"), workers=2)
    disk.start_bound_by_permissions(server)
    try:
        yield server
        assert server.stop() == 0
    finally:
        server.kill()


@pytest.mark.parametrize("fault", [disk.full, disk.locked])
def test_rel_03_while_sqlite_cannot_write_all_is_refused_in_time_and_afterwards_done(
    on_sqlite: RunningServer, fault: Callable[[RunningServer], AbstractContextManager[None]]
) -> None:
    with World.of(on_sqlite) as world:
        asked = questions(world)
    with Load(on_sqlite) as load:
        with fault(on_sqlite):
            struck = time.monotonic()
            during = answered(on_sqlite, asked)
        over = time.monotonic()
        recovers(on_sqlite, load)
    # A file that cannot be written can still be read.
    check_refused(during, may_read=True)
    check_done(answered(on_sqlite, asked))
    check_enrolments(load.enrolments, disk.begun(on_sqlite), struck=struck, over=over, settled=1.0)


def test_rel_03_workers_that_started_on_read_only_files_write_them_once_they_may(on_sqlite: RunningServer) -> None:
    with World.of(on_sqlite) as world:
        asked = questions(world)
    with disk.read_only(on_sqlite):
        struck = time.monotonic()
        during = answered(on_sqlite, asked)
    over = time.monotonic()
    with Load(on_sqlite) as load:
        recovers(on_sqlite, load)
    check_refused(during)
    check_done(answered(on_sqlite, asked))
    check_enrolments(load.enrolments, disk.begun(on_sqlite), struck=struck, over=over, settled=1.0)


def recovers(server: RunningServer, load: Load) -> None:
    assert load.wait_for(20, time.monotonic()) < RECOVERY_SECONDS
    eventually(lambda: ask(server, "/healthz/ready").status == 200, RECOVERY_SECONDS)
