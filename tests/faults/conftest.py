"""The servers that faults befall."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import memory
from tests.faults.cluster import Cluster
from tests.running import RunningServer


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    with memory.folder() as folder:
        cluster = Cluster(folder)
        try:
            yield cluster
        finally:
            cluster.close()


@pytest.fixture(scope="package")
def on_postgresql(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[RunningServer]:
    """One server that outlives each fault of its database."""
    with RunningServer(tmp_path_factory.mktemp("postgresql"), database_url=cluster.url) as server:
        yield server
