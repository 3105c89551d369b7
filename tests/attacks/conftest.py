"""The servers that are attacked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.victim import World
from tests.running import RunningServer


@pytest.fixture(scope="session")
def database_url() -> str | None:
    """The database that the attacked servers share; None is the server's own default, SQLite in its data folder."""
    return None


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory, database_url: str | None) -> Iterator[RunningServer]:
    """One server with two worker processes, which says all that it ever says."""
    settings = {"log_level": "debug"} | ({"database_url": database_url} if database_url else {})
    with RunningServer(tmp_path_factory.mktemp("attacked"), workers=2, **settings) as server:
        yield server


@pytest.fixture
def world(attacked: RunningServer) -> Iterator[World]:
    with World.of(attacked) as world:
        yield world
