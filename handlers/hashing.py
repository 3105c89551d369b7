"""Slow hashes, few at a time and behind everything else, so that they cannot starve the requests that need none."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from factors import backup
from storage.database import result

# Argon2id keeps a core busy and its memory full: half of the cores are enough, and the other half stays free.
AT_ONCE = max(1, (os.cpu_count() or 1) // 2)
# The last there is. Where all cores are busy it leaves a hash a sixtieth of one: less than what others notice, and so
# little that those who have waited for half of their time get an ordinary share.
NICENESS = 19
PATIENCE_SECONDS = 10.0
MIB = 1024 * 1024
M_TRIM_THRESHOLD = -1  # As mallopt(3) has it.

Handler = TypeVar("Handler", bound=Callable[..., object])


def digests(codes: Iterable[str], salt: bytes) -> list[bytes]:
    """The digests of backup codes, when it is their turn."""
    waiting = object()
    _waiting.add(waiting)
    # A thread is as nice as the one that starts it, so it is not left to those that stand back.
    _ahead.submit(int)
    since = time.monotonic()
    hashing = [_behind.submit(_digest, code, salt, since) for code in codes]
    try:
        return [result(each) for each in hashing]
    finally:
        for each in hashing:
            each.cancel()
        _waiting.discard(waiting)
        _behind.submit(_give_memory_back)


def may_hash(handler: Handler) -> Handler:
    """Mark a handler that may hash a whole set, so that the server lets only some of its threads wait for that, and
    waits longer for it while hashes are made, which `is_busy` tells.
    """
    # The server imports no handlers: it finds the mark on the function, where mypy knows of no attributes.
    handler.is_busy = lambda: bool(_waiting)  # type: ignore[attr-defined]
    return handler


def _digest(code: str, salt: bytes, since: float) -> bytes:
    if time.monotonic() < since + PATIENCE_SECONDS:
        return backup.digest(code, salt)
    # A thread that stands back may not come forward again.
    return _ahead.submit(backup.digest, code, salt).result()


def _stand_back() -> None:
    # On Linux a thread has a niceness of its own.
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _give_memory_back() -> None:
    """Called after a hash, in its thread. glibc keeps the 19 MiB that it took, so that the next one is a fifth sooner
    done, until something is freed while more than the threshold is kept.
    """
    if not _waiting and hasattr(_libc, "mallopt"):
        _libc.mallopt(M_TRIM_THRESHOLD, MIB)
        _libc.free(_libc.malloc(MIB))
        _libc.mallopt(M_TRIM_THRESHOLD, 64 * MIB)


_libc = ctypes.CDLL(None)
_libc.malloc.restype = ctypes.c_void_p
_libc.malloc.argtypes = [ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]

# Those who wait for hashes now.
_waiting: set[object] = set()
_behind = ThreadPoolExecutor(AT_ONCE, "hashing", initializer=_stand_back)
_ahead = ThreadPoolExecutor(1, "hashing-ahead")
