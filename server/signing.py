"""The keys that sign assertions: a PEM file with one or more P-256 private keys, the first of which signs.

All of them are served as JWKS and verify, so a key is replaced without a moment's refusal: add the new one at the end;
once resource servers have had time to see it (five minutes), move it to the front; remove the old one after another
five. The file is looked at again every few seconds, in every worker.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from factors.assertion import SigningKey

LOOK_AGAIN_SECONDS = 5.0
_PEM = re.compile(rb"-----BEGIN [A-Z ]+-----.+?-----END [A-Z ]+-----", re.DOTALL)

log = structlog.get_logger()


class SigningKeys:
    """The keys of a file. Raises ValueError at first when there is none in it, or one that is no P-256 private key."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._seen = self._state()
        self._keys = read(file)
        self._look_at = clock() + LOOK_AGAIN_SECONDS

    def __call__(self) -> Sequence[SigningKey]:
        if self._clock() >= self._look_at:
            self._look_at = self._clock() + LOOK_AGAIN_SECONDS
            self._reload()
        return self._keys

    def _reload(self) -> None:
        """A file that is gone or broken changes nothing: the keys that were good go on, and the log says so."""
        try:
            state = self._state()
            if state != self._seen:
                self._keys = read(self._file)
                self._seen = state
                log.info("signing_keys.read", kids=[key.kid for key in self._keys])
        except (OSError, ValueError) as error:
            log.error("signing_keys.unreadable", reason=type(error).__name__)

    def _state(self) -> tuple[int, int, int]:
        stat = self._file.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


def read(file: Path) -> Sequence[SigningKey]:
    """The keys of a PEM file. Raises OSError, ValueError."""
    keys = [SigningKey.from_pem(pem) for pem in _PEM.findall(file.read_bytes())]
    if not keys:
        raise ValueError("there is no private key in it")
    return keys
