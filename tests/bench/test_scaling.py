"""What `python -m bench.scaling` prints: it counts what is there, and its arithmetic is that of the document."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bench import costs, projection, scaling, sizes
from bench.people import Visitors
from bench.projection import Measured
from bench.stage import set_up
from bench.statements import Statement
from tests import operations
from tests.databases import Postgresql

FEW = 3
USERS = 200


def test_a_login_is_a_challenge_and_its_answer() -> None:
    with set_up(FEW) as stage:
        site = stage.site(stage.ours())
        assert scaling.log_in(site.server, Visitors(stage.people), FEW)().sent == FEW


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_bytes_are_those_of_the_rows(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """No row is smaller than what is in it, and pages that are part empty do not double it."""
    url = f"sqlite:///{tmp_path / 'sizes.db'}" if kind == "sqlite" else request.getfixturevalue("postgresql").new()
    sized = sizes.measure(kind, tmp_path, url, USERS)
    assert 800 < sized.app < 5000
    assert sized.app < sized.average + 500
    assert 200 < sized.event < 1000


def test_an_operations_rows_and_commits_are_counted(postgresql: Postgresql, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("list methods", *costs.LOGIN, "totp/enable")
    monkeypatch.setattr(operations, "ALL", {name: operations.ALL[name] for name in names})
    # PostgreSQL itself writes a few bytes now and then, which are no operation's: the median of three goes without.
    monkeypatch.setattr(costs, "TIMES", 3)
    measured = costs.measure(postgresql.new())
    # A challenge, and an audit event; the attempt counted and cleared, and the step; the challenge taken.
    assert {name: (cost.commits, cost.rows) for name, cost in measured.items()} == {
        "list methods": (0, (0, 0, 0)),
        "challenge": (1, (1, 0, 0)),
        "verify, authenticator app": (2, (1, 3, 1)),
        "totp/enable": (1, (3, 0, 0)),
    }
    for cost in measured.values():
        assert cost.log or not cost.commits
        assert cost.log_with_pages >= cost.log


def test_a_statement_has_one_shape_whatever_its_values() -> None:
    shapes = {
        Statement(sql).shape
        for sql in (
            'UPDATE "t1" SET "a" = \'it\'\'s\', "b" = 3 WHERE "id" = X\'00FF\'',
            'UPDATE "t1" SET "a" = \'\', "b" = 2.5 WHERE "id" = \'x\'',
            'UPDATE "t1" SET "a" = %s, "b" = %s WHERE "id" = %s',
        )
    }
    assert shapes == {'UPDATE "t1" SET "a" = ?, "b" = ? WHERE "id" = ?'}


def test_what_many_take_is_what_each_takes_many_times() -> None:
    measured = Measured(
        user=2000, event=300, log=1000, log_with_pages=30_000, commits=3, server_cpu=0.003, database_cpu=0.002
    )
    need = projection.of(864_000_000, measured)
    assert need.peak_logins == 50_000
    assert need.user_bytes == 864e6 * 2000
    assert need.audit_bytes == 864e6 * 300 * 400
    assert need.log_a_day == 864e9
    assert need.server_cores == pytest.approx(50_000 * 0.003 / 0.6)
    assert need.database_cores == pytest.approx(50_000 * 0.002 / 0.6)
    assert need.shards == math.ceil((864e6 * 2000 + 864e6 * 300 * 400) / 4e12)
    assert need.transactions_a_day == 3 * 864e6 / need.shards
    assert need.connections == 250 * 14
    # Where little is kept, it is cores that decide.
    assert projection.of(864_000_000, measured._replace(user=1, event=0)).shards == math.ceil(need.database_cores / 16)


@pytest.mark.parametrize(
    ("number", "shown"), [(999, "999 B"), (1000, "1 kB"), (2.42e12, "2.42 TB"), (117e12, "117 TB")]
)
def test_bytes_are_shown_in_the_unit_that_fits(number: float, shown: str) -> None:
    assert projection.shown(number) == shown
