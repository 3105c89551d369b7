"""What clients asked for and what they were told: the half of the truth that no crash can touch."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
# What works once: the kind of thing, whose or which, and for a code of an authenticator app its step.
Thing = tuple[str, str, int]
Effect = Callable[[Json | None], None]

DONE = 200
UNAVAILABLE = 503
LOCKED = 429


@dataclass
class Attempt:
    """One request. `status` is None when no answer came, or not all of one."""

    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    status: int | None = None
    body: Json | None = None

    @property
    def open(self) -> bool:
        """Whether it may have happened or not: nobody was told."""
        return self.status in (None, UNAVAILABLE)


@dataclass
class Use:
    """Something that a client does, with as many attempts as it takes to hear whether it is done.

    Args:
        effect: What the client knows from then on; called with the answer, or with None when an attempt happened of
            which there was no answer.
        events: What the audit trail says of it, in one transaction with it.
        things: What works once and is used up by it; nothing, for what may be done over and over.
        refusals: How it is refused once it has happened.
        looks_at_code: Whether an attempt at it counts among the wrong ones until it has turned out right.
        taken_first: Whether its challenge is used up before it is judged, so that a crash in between leaves neither.
        good_until: When its code is too old, in seconds since 1970.
        sign_count: The key that is used and its signature counter then.
        replay: Whether it has been done before, so that it must not be done again.
    """

    name: str
    method: str
    path: str
    body: Json | None
    effect: Effect
    events: tuple[str, ...] = ()
    things: tuple[Thing, ...] = ()
    refusals: frozenset[int] = frozenset()
    looks_at_code: bool = False
    taken_first: bool = False
    good_until: float = math.inf
    sign_count: tuple[str, int] | None = None
    replay: bool = False
    too_old: bool = False
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def done(self) -> Attempt | None:
        """The attempt that was answered well."""
        return next((attempt for attempt in self.attempts if attempt.status == DONE), None)

    @property
    def refused(self) -> bool:
        """Whether it is known that no attempt will be answered well any more."""
        return self.done is None and any(not attempt.open for attempt in self.attempts)

    @property
    def locked(self) -> bool:
        """Whether the client was told to wait, and so has not heard the end of it."""
        return self.done is None and any(attempt.status == LOCKED for attempt in self.attempts)
