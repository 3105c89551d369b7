"""States of the world that tests of every room begin with."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

import storage.database
from storage import sealing


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    """A fresh, migrated SQLite database to which the test's thread is connected; the path of its file."""
    path = tmp_path / "mfa.db"
    sealing.use({"test": secrets.token_bytes(sealing.KEY_BYTES)})
    storage.database.connect(f"sqlite:///{path}")
    storage.database.migrate()
    with storage.database.connection():
        yield path
    storage.database.close()
