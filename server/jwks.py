"""The identity provider's keys, from its JWKS URL. Its outage must not become ours.

Keys are fetched when a token needs them, by one request at a time for the whole process. A set serves five minutes, and
up to an hour while the identity provider cannot be reached. Failures are remembered as well as answers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import structlog
from pydantic import SecretStr

from factors.errors import KeysUnavailable
from server.keyset import ASYMMETRIC, FixedKeys, KeySet, KeySource, read_jwks

if TYPE_CHECKING:
    from server.settings import Settings

FETCH_TIMEOUT = 3.0  # Seconds for the whole exchange, from the name lookup to the last byte.
MAX_DOCUMENT_BYTES = 256 * 1024
FRESH_FOR = 300.0  # Seconds that a set serves unasked; a key that is removed dies within them (TOK-08).
COOL_DOWN = 10.0  # Seconds from one request to the identity provider to the next, whatever came of it (TOK-07).
UNREACHABLE_FOR = 60.0  # Seconds after a failure in which no one waits for the next try while old keys serve.
GRACE = 3600.0  # Seconds that the last good set serves while the identity provider is unreachable (TOK-09).

log = structlog.get_logger()


class RemoteKeys:
    """A `KeySource` behind a JWKS URL.

    Args:
        url: https, or http for a loopback host.
        algorithms: Those that keys are read for.
        clock: Seconds that never go back.

    Raises:
        ValueError: The URL is of another kind.
    """

    def __init__(self, url: str, algorithms: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = _jwks_url(url)
        self._algorithms = tuple(algorithms)
        self._clock = clock
        self._tls = httpx.create_ssl_context()  # Made once: it takes 30 ms, too long for the event loop.
        self._keys: KeySet | None = None
        self._fetch: asyncio.Task[None] | None = None
        self._asked_at = self._fetched_at = self._failed_at = -math.inf

    async def current(self) -> KeySet:
        now = self._clock()
        if now - self._fetched_at >= FRESH_FOR:
            fetch = self._fetching()
            # In a known outage the old keys serve at once, and the fetch goes on by itself.
            if fetch and not (self._usable() and now - self._failed_at < UNREACHABLE_FOR):
                await asyncio.shield(fetch)
        return self._good()

    async def newer(self) -> KeySet:
        if fetch := self._fetching():
            await asyncio.shield(fetch)
        if self._failed_at > self._fetched_at:
            # The key may be a new one that could not be fetched. The token is not known to be bad.
            raise self._unavailable()
        return self._good()

    async def ready(self) -> bool:
        try:
            return bool((await self.current()).keys)
        except KeysUnavailable:
            return False

    def _usable(self) -> bool:
        return self._clock() - self._fetched_at < GRACE

    def _good(self) -> KeySet:
        if self._keys is None or not self._usable():
            raise self._unavailable()
        return self._keys

    def _unavailable(self) -> KeysUnavailable:
        pause = self._asked_at + COOL_DOWN - self._clock()
        return KeysUnavailable(retry_after=max(1, math.ceil(pause)), reason="unreachable")

    def _fetching(self) -> asyncio.Task[None] | None:
        """The fetch under way, else a new one if the cool-down is over. Shield it: a caller may go, others wait."""
        if self._fetch is not None and not self._fetch.done():
            return self._fetch
        now = self._clock()
        if now - self._asked_at < COOL_DOWN:
            return None
        self._asked_at = now
        self._fetch = asyncio.create_task(self._ask(now))
        return self._fetch

    async def _ask(self, now: float) -> None:
        try:
            keys = read_jwks(await self._download(), self._algorithms)
        except Exception as error:
            # Out there anything can go wrong (name lookup, proxy, TLS, hostile JSON), and a task has no caller to tell.
            # The failure is remembered and logged; those who wait get the last good keys or 503.
            self._failed_at = self._clock()
            log.warning("keys.unreachable", error=type(error).__name__, message=str(error))
            return
        self._fetched_at, self._failed_at = now, -math.inf
        if keys != self._keys:
            self._keys = keys
            log.info("keys.changed", keys=len(keys.keys))

    async def _download(self) -> bytes:
        body = bytearray()
        async with (
            asyncio.timeout(FETCH_TIMEOUT),
            httpx.AsyncClient(
                verify=self._tls,
                trust_env=self._url.scheme == "https",  # No proxy stands between us and a loopback host.
                follow_redirects=False,
                timeout=FETCH_TIMEOUT,
            ) as client,
            # A few bytes of gzip unfold to megabytes before they can be counted. None is asked for, the body is read
            # as it comes, and compressed all the same it is no JSON.
            client.stream("GET", self._url, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"The JWKS URL answers with status {response.status_code}.")
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_DOCUMENT_BYTES:
                    raise ValueError("The JWK set is larger than 256 KiB.")
        return bytes(body)


def key_source(settings: Settings, algorithms: Sequence[str]) -> KeySource:
    """The one source of keys that the settings name. Raises ValueError where there is not one, or no use in it."""
    if settings.jwt_secret is None and set(algorithms) - set(ASYMMETRIC):
        raise ValueError(f"MFA_JWT_ALGORITHMS are of {', '.join(ASYMMETRIC)}. HS256 comes with MFA_JWT_SECRET.")
    match (settings.jwt_jwks_url, settings.jwt_key_file, settings.jwt_secret):
        case (None, None, SecretStr() as secret):
            return FixedKeys.from_secret(secret.get_secret_value())
        case (str() as url, None, None):
            return RemoteKeys(url, algorithms)
        case (None, Path() as file, None):
            return FixedKeys.from_text(_text(file), algorithms)
    raise ValueError("Set one of MFA_JWT_JWKS_URL, MFA_JWT_KEY_FILE and MFA_JWT_SECRET, and only one.")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"MFA_JWT_KEY_FILE cannot be read: {error.strerror}.") from error


def _jwks_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError("The JWKS URL is not a URL.") from error
    if not url.host or not (url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.host))):
        raise ValueError("The JWKS URL is not https. Plain http is for loopback hosts only.")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
