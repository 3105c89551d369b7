"""A connection that breaks between a commit and its answer: what was done is done once, whoever asks again (ATM-05)."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from storage.user import Caller, User
from tests.attacks.victim import World
from tests.faults import crash_scenes
from tests.faults.crash_clients import Client
from tests.faults.crash_cluster import Cluster, cluster
from tests.faults.crash_journal import UNAVAILABLE, Attempt, Use
from tests.faults.crash_lives import Life
from tests.faults.crash_proxy import Line, When, line_to
from tests.faults.crash_scenes import OnPostgresql, Scene
from tests.faults.crash_tally import Tally

__all__ = ["cluster"]

LOG_SECONDS = 20
LOG_BYTES = 20_000
# Seconds after which a client hangs up: before its request is read, in the middle of it, after its answer.
HANGS_UP_AFTER = (0.0, 0.001, 0.003, 0.01, 0.03)


@contextmanager
def behind_a_line(folder: Path, cluster: Cluster) -> Iterator[tuple[OnPostgresql, Line]]:
    """A server whose connections to the database can be cut."""
    with contextlib.ExitStack() as stack:
        line = stack.enter_context(line_to(cluster.socket))
        url = f"postgresql://postgres@127.0.0.1:{line.port}/{cluster.new()}?sslmode=disable&gssencmode=disable"
        servers = stack.enter_context(crash_scenes.servers_of(folder, 1, database_url=url))
        yield OnPostgresql(servers, cluster), line


def live(
    number: int, scene: Scene, chance: random.Random, carry_out: Callable[[Client, Life, Use], None]
) -> list[Life]:
    """Some lives, one after the other; each use is carried out in the way that is given."""
    lives: list[Life] = []
    with closing(Client(scene.ports, chance)) as client:
        for sub in map("user-{}".format, range(number)):
            life = Life(sub, scene.servers[0].token(sub), "http://localhost", chance)
            lives.append(life)
            while use := life.next():
                life.journal.append(use)
                carry_out(client, life, use)
    return lives


def wrong_codes(scene: Scene, life: Life) -> int:
    """Those that are counted."""
    with World.of(scene.servers[0]):
        user = User.get_or_none(User.id == Caller.of(life.sub).id)
    return 0 if user is None else int(user.failures)


@pytest.mark.parametrize("kind", ["server on SQLite", "servers on PostgreSQL"])
def test_a_client_that_hangs_up_finds_its_request_done_once_or_not_at_all(
    kind: str, cluster: Cluster, tmp_path: Path
) -> None:
    chance = random.Random(3)  # noqa: S311 - it decides what users do
    tally = Tally(3)
    with crash_scenes.SCENES[kind](tmp_path, cluster) as scene:

        def hang_up(client: Client, life: Life, use: Use) -> None:
            attempt = client.leave(life, use, chance.choice(HANGS_UP_AFTER))
            wait_until_over(scene, attempt)
            client.carry_out(life, use)

        lives = live(1, scene, chance, hang_up)
        unheard = scene.examine(lives, tally)
    assert not tally.wrong
    assert unheard > 3


def wait_until_over(scene: Scene, attempt: Attempt) -> None:
    """Until the server has written of the request, as it does when the request is over."""
    deadline = time.monotonic() + LOG_SECONDS
    while attempt.request_id.encode() not in latest(scene.servers[0].log):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def latest(log: Path) -> bytes:
    """The end of a log."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
        return file.read()


@pytest.mark.parametrize("when", ["before it arrives", "before its answer arrives"])
def test_a_commit_whose_answer_is_lost_is_never_acknowledged_and_never_done_again(
    when: When, cluster: Cluster, tmp_path: Path
) -> None:
    chance = random.Random(4)  # noqa: S311 - it decides what users do
    tally = Tally(4)
    with behind_a_line(tmp_path, cluster) as (scene, line):

        def cut(client: Client, life: Life, use: Use) -> None:
            transactions = 1 + (use.looks_at_code or use.taken_first)
            if use.replay:
                client.carry_out(life, use)
                return
            number = chance.randint(1, transactions)
            wrong = wrong_codes(scene, life)
            line.cut(number, when)
            attempt = Attempt()
            use.attempts.append(attempt)
            client.send(life, use, [attempt])
            assert line.was_cut(), use
            assert attempt.status == UNAVAILABLE
            if number == 2:
                # What was counted first is given back: it was no fault of the user's (THR-07).
                assert wrong_codes(scene, life) <= wrong
            client.carry_out(life, use)
            committed = number - (when == "before it arrives")
            # Then all that is left is to say so.
            is_over = committed == transactions or (use.taken_first and committed == 1)
            assert use.refused == (is_over and bool(use.refusals))

        lives = live(2, scene, chance, cut)
        unheard = scene.examine(lives, tally)
    assert not tally.wrong
    assert (unheard > 0) == (when == "before its answer arrives")
