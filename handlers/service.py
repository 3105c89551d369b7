"""Verification for an app's backend that has no token of its user: same rules, same budget."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from factors.assertion import SigningKey
from handlers import verification
from handlers.settings import Settings
from storage.user import Caller


def challenge(caller: Caller, sub: str, body: dict[str, Any], now: datetime, settings: Settings) -> dict[str, Any]:
    """Ask a user of the caller's tenant."""
    return verification.challenge(caller.on_behalf_of(sub), body, now, settings)


def verify(
    caller: Caller,
    sub: str,
    body: dict[str, Any],
    now: datetime,
    settings: Settings,
    signing_keys: Sequence[SigningKey],
) -> dict[str, Any]:
    """Judge the answer of a user of the caller's tenant."""
    return verification.verify(caller.on_behalf_of(sub), body, now, settings, signing_keys)
