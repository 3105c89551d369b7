"""Slow hashes stand back for everything else, but not for ever, and take no memory when there are none."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from factors import backup
from handlers import hashing

SALT = b"0123456789abcdef"
SET = [f"{n:016}" for n in range(10)]


@pytest.fixture
def niceness(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """That of the thread in which each hash was made."""
    seen: list[int] = []
    digest = backup.digest

    def look(code: str, salt: bytes) -> bytes:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return digest(code, salt)

    monkeypatch.setattr(backup, "digest", look)
    return seen


@pytest.mark.usefixtures("database")
def test_hashes_stand_back(niceness: list[int]) -> None:
    digests = hashing.digests(SET[:2], SALT)
    assert niceness == [hashing.NICENESS] * 2
    assert digests == [backup.digest(code, SALT) for code in SET[:2]]


@pytest.mark.usefixtures("database")
def test_hashes_that_have_waited_long_stand_back_no_more(niceness: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "PATIENCE_SECONDS", 0.0)
    hashing.digests(SET[:2], SALT)
    assert niceness == [os.getpriority(os.PRIO_PROCESS, 0)] * 2


@pytest.mark.usefixtures("database")
def test_the_memory_of_hashes_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "MEMORY_KIB", 19 * 1024)
    before = _resident_kib()
    with ThreadPoolExecutor(2) as callers:
        list(callers.map(lambda _: hashing.digests(SET[:3], SALT), range(2)))
    hashing._behind.submit(int).result()  # So what was handed in before has been done.
    assert _resident_kib() < before + backup.MEMORY_KIB / 2


def _resident_kib() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
