"""Servers and databases are killed at random points under load, and lose nothing that they acknowledged (REL-05)."""

from __future__ import annotations

import random
import time
import uuid
from pathlib import Path

import pytest

from tests.faults.crash_clients import Load
from tests.faults.crash_cluster import Cluster, cluster
from tests.faults.crash_judge import count
from tests.faults.crash_lives import Life
from tests.faults.crash_scenes import SCENES
from tests.faults.crash_tally import Tally, TallyReport

__all__ = ["cluster"]

CLIENTS = 6
# Seconds of load between two crashes.
SHORTEST, LONGEST = 0.1, 0.5
# What is pending expires after ten minutes. Whoever began before that has been judged long since.
YOUNG_SECONDS = 8 * 60


@pytest.fixture(scope="module")
def tally(request: pytest.FixtureRequest) -> Tally:
    seed = request.config.getoption("--crash-seed")
    tally = Tally(random.SystemRandom().randrange(10**6) if seed is None else seed)
    request.config.pluginmanager.register(TallyReport(tally))
    return tally


@pytest.mark.parametrize("kind", SCENES)
def test_what_was_acknowledged_outlives_every_crash_and_nothing_happens_twice_or_half(
    kind: str, tally: Tally, cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = list(SCENES).index(kind)
    points = (request.config.getoption("--crash-points") + len(SCENES) - 1 - place) // len(SCENES)
    chance = random.Random(f"{tally.seed} {kind}")  # noqa: S311 - it decides when the crash comes
    tally.points[kind] = 0
    with SCENES[kind](tmp_path, cluster) as scene:
        began: dict[str, float] = {}

        def begin() -> Life:
            sub = f"user-{uuid.uuid4().hex}"
            began[sub] = time.monotonic()
            server = scene.servers[0]
            return Life(sub, server.token(sub), "http://localhost", random.Random(chance.random()))  # noqa: S311

        load = Load(scene.ports, CLIENTS, begin, chance)
        alive: list[Life] = []
        with load.on():
            for _ in range(points):
                alive = [life for life in alive if not life.over]
                known = len(load.lives)
                load.go_on()
                time.sleep(chance.uniform(SHORTEST, LONGEST))
                scene.crash(chance)
                load.pause()
                alive += load.lives[known:]
                scene.examine(alive, tally)
                tally.points[kind] += 1
        young = [life for life in load.lives if time.monotonic() - began[life.sub] < YOUNG_SECONDS]
        tally.unheard += scene.examine(young, tally)
        count(load.lives, tally)
    assert not tally.wrong
    assert sum(use.done is not None for life in load.lives for use in life.journal) > 5 * points
