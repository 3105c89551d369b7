"""A place for databases of which nobody asks that they outlive the power."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IN_MEMORY = Path("/dev/shm")  # noqa: S108


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that is gone afterwards; in memory where the system has such a place, since most of a small test's time
    goes into waiting for the disk."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as name:
        yield Path(name)
