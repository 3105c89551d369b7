"""States of the world that tests of every room begin with, and the choice of the database that they run on."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import storage.database
from storage import sealing
from tests import memory
from tests.databases import KINDS, migrate, postgresql

__all__ = ["postgresql"]

# Threads that a test lets loose on the database at once have a connection each.
MOST_THREADS = 40


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=[*KINDS, "both"],
        default="both",
        help="Leave out the tests that run on the other database. (Default: both)",
    )
    parser.addoption(
        "--crash-points",
        type=int,
        default=10,
        help="How often servers and databases are killed under load, in all. (Default: 10)",
    )
    parser.addoption("--crash-seed", type=int, help="What decides when they are, and what users do. (Default: random)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test says by a parameter which database it runs on."""
    wanted = config.getoption("--database")
    if wanted == "both":
        return
    [other] = set(KINDS) - {wanted}
    left_out = [item for item in items if _kind(item) == other]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def _kind(item: pytest.Item) -> str | None:
    given = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return next((value for value in given if isinstance(value, str) and value in KINDS), None)


@pytest.fixture(scope="session")
def folder_in_memory() -> Iterator[Path]:
    with memory.folder() as folder:
        yield folder


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, folder_in_memory: Path) -> Iterator[str]:
    """A migrated database with nothing in it, to which the test's thread is connected; its URL."""
    if request.param == "sqlite":
        url = f"sqlite:///{folder_in_memory / uuid.uuid4().hex}.db"
        migrate(url)
    else:
        url = request.getfixturevalue("postgresql").emptied()
    sealing.use({"test": secrets.token_bytes(sealing.KEY_BYTES)})
    storage.database.connect(url, MOST_THREADS)
    with storage.database.connection():
        yield url
    storage.database.close()
