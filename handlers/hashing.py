"""Slow hashes, few at a time and behind everything else, so that they cannot starve the requests that need none."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from factors import backup
from storage.database import result

# Argon2id keeps a core busy and its memory full: half of the cores are enough, and the other half stays free.
AT_ONCE = max(1, (os.cpu_count() or 1) // 2)
NICENESS = 10

Handler = TypeVar("Handler", bound=Callable[..., object])


def digests(codes: Iterable[str], salt: bytes) -> list[bytes]:
    """The digests of backup codes, when it is their turn."""
    waiting = object()
    hashing = [_threads.submit(backup.digest, code, salt) for code in codes]
    _waiting.add(waiting)
    try:
        return [result(each) for each in hashing]
    finally:
        for each in hashing:
            each.cancel()
        _waiting.discard(waiting)


def may_hash(handler: Handler) -> Handler:
    """Mark a handler that may hash a whole set, so that the server lets only some of its threads wait for that, and
    waits longer for it while hashes are made, which `is_busy` tells.
    """
    # The server imports no handlers: it finds the mark on the function, where mypy knows of no attributes.
    handler.is_busy = lambda: bool(_waiting)  # type: ignore[attr-defined]
    return handler


def _stand_back() -> None:
    # On Linux a thread has a niceness of its own.
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


# Those who wait for hashes now.
_waiting: set[object] = set()
_threads = ThreadPoolExecutor(AT_ONCE, "hashing", initializer=_stand_back)
