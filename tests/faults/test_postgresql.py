"""PostgreSQL stops, hangs, is full, read-only or hangs up: all is refused in time and nobody restarts it (REL-03)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tests.attacks.victim import World
from tests.faults.cluster import Cluster
from tests.faults.load import Load, check_enrolments, eventually
from tests.faults.questions import answered, ask, check_done, check_refused, questions
from tests.running import RunningServer

RECOVERY_SECONDS = 5.0
# Until a connection that was told to end has ended.
GOODBYE_SECONDS = 0.3


def begun(cluster: Cluster) -> set[uuid.UUID]:
    """Whose enrolments are in the database."""
    with cluster.client() as client:
        rows = client.execute("SELECT user_id FROM audit_event WHERE type = 'totp.begun'").fetchall()
    return {uuid.UUID(str(user)) for (user,) in rows}


FAULTS: dict[str, Callable[[Cluster], AbstractContextManager[None]]] = {
    "stopped": Cluster.stopped,
    "frozen": Cluster.frozen,
    "full": Cluster.full,
    "read-only": Cluster.read_only,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_rel_03_while_postgresql_is_away_all_is_refused_in_time_and_afterwards_done(
    cluster: Cluster, on_postgresql: RunningServer, fault: str
) -> None:
    server = on_postgresql
    with World.of(server) as world:
        asked = questions(world)
    with Load(server) as load:
        with FAULTS[fault](cluster):
            struck = time.monotonic()
            during = answered(server, asked)
        over = time.monotonic()
        assert load.wait_for(20, over) < RECOVERY_SECONDS
        eventually(lambda: ask(server, "/healthz/ready").status == 200, RECOVERY_SECONDS)
    # Where reading goes on, what only reads is answered rightly.
    check_refused(during, may_read=fault == "read-only")
    check_done(answered(server, asked))
    check_enrolments(load.enrolments, begun(cluster), struck=struck, over=over, settled=1.0)


def test_rel_03_connections_that_postgresql_ends_cost_those_that_are_using_them_and_nobody_else(
    cluster: Cluster, on_postgresql: RunningServer
) -> None:
    with Load(on_postgresql) as load:
        for _ in range(5):
            assert cluster.cut() > 0
            time.sleep(0.1)
        over = time.monotonic()
        load.wait_for(40, over)
    check_enrolments(load.enrolments, begun(cluster), struck=over, over=over)
    with World.of(on_postgresql) as world:
        first, second = questions(world), questions(world)
    check_done(answered(on_postgresql, first))
    # Each thread has a connection now, and nobody is using it.
    assert cluster.cut() > 5
    time.sleep(GOODBYE_SECONDS)
    check_done(answered(on_postgresql, second))
