"""What the tests of this room run on: databases, and one server that runs for all that only ask it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.databases import operated, quick_hashes
from tests.running import RunningServer

__all__ = ["api", "operated", "quick_hashes"]


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A running server with nobody in it; its answers are held against the contract."""
    with RunningServer(tmp_path_factory.mktemp("api")) as server:
        yield server
