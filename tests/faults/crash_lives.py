"""Users' whole lives: whatever a user may do next, one thing after the other, as chance will have it.

A life knows what its user was told. Where that makes a request right, anything but 200 shows that something is lost.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from tests.faults.crash_journal import DONE, Json, Use
from tests.faults.crash_uses import Uses

USES = 30
# Of the five wrong codes that lock a user, this many may be spent on codes that have been used.
REPLAYS = 1

# How much is to be said for it, and what makes it.
Choice = tuple[int, Callable[[], Use]]


class Life(Uses):
    """One user, and the journal of what they did."""

    def __init__(self, sub: str, token: str, origin: str, chance: random.Random) -> None:
        super().__init__(sub, token, origin, chance)
        self.journal: list[Use] = []
        self.over = False
        self.wrong = 0

    def next(self) -> Use | None:
        """What the user does next; nothing any more when their life is over."""
        choices = list(self._choices())
        if self.over or len(self.journal) >= USES or not choices:
            self.over = True
            return None
        [choose] = self.chance.choices([each for _, each in choices], [weight for weight, _ in choices])
        return choose()

    def _choices(self) -> Iterator[Choice]:
        if not self.secret:
            yield 4, self._begin_totp
        elif not self.totp_on:
            yield 1, self._begin_totp
            if self._step():
                yield 8, self._confirm_totp
        if self.totp_on and self._step():
            yield 2, self._regenerate
            yield 1, lambda: self._disable_totp(self._totp())
        if self.totp_on and self.codes:
            yield 1, lambda: self._disable_totp(self._backup_code())
        yield from self._verification()
        yield from self._keys()
        yield from self._email()
        if self.wrong < REPLAYS:
            for weight, again in self._replays():
                yield weight, partial(self._replay, again)

    def _verification(self) -> Iterator[Choice]:
        if self._enabled and not self.challenge:
            offered = {"totp": self.totp_on and self._step(), "backup_code": self.codes, "webauthn": self.keys}
            for method in (method for method, there in offered.items() if there):
                yield 4 if method == "totp" else 2, partial(self._open_challenge, method)
        match self.challenge.get("methods"):
            case ["totp"] if self.totp_on and self._step():
                yield 12, lambda: self._verify("totp", code=self._totp())
            case ["backup_code"] if self.codes:
                yield 12, lambda: self._verify("backup_code", code=self._backup_code())
            case ["webauthn"] if self._offered():
                yield 12, self._verify_key
            case [_]:
                # What would answer it is gone since.
                self.challenge = {}

    def _keys(self) -> Iterator[Choice]:
        if self.registration:
            yield 8, self._complete
        elif len(self.keys) < 3:
            yield 3, self._begin_key
        for device_id in self.keys:
            yield 1, partial(self._remove_key, device_id)

    def _email(self) -> Iterator[Choice]:
        if not self.email:
            yield 2, self._begin_email
        elif self.email == "pending" and self.mailed_code:
            yield 8, self._confirm_email
        elif self.email == "on" and self.totp_on and self._step():
            yield 1, lambda: self._disable_email(self._totp())
        elif self.email == "on" and not self.totp_on and self.codes:
            yield 1, lambda: self._disable_email(self._backup_code())

    def _replay(self, use: Callable[[], Use]) -> Use:
        return replace(use(), replay=True, attempts=[], effect=self._nothing_new)

    def _replays(self) -> Iterator[Choice]:
        """What has been done, once more; and a code that was used for one thing, for another."""
        last = self.journal[-1] if self.journal else None
        if last and last.things and not last.replay and not last.locked:
            yield 3, lambda: last
        if self.totp_on and self.spent:
            yield 2, lambda: self._disable_totp(self.chance.choice(self.spent))
        codes = [code for code in self.spent if code[1][0] == "backup code"]
        if codes and self.challenge.get("methods") == ["backup_code"]:
            yield 4, lambda: self._verify("backup_code", code=self.chance.choice(codes))

    def settle(self, use: Use) -> None:
        """Take note of how something ended."""
        self.wrong = 0 if use.done and use.looks_at_code else self.wrong + len(use.attempts)
        if use.replay:
            return
        told = {attempt.status for attempt in use.attempts if not attempt.open}
        if use.too_old or not told <= use.refusals | {DONE}:
            # Too old a code, a lock, or what the judge will see: how it stands with this user is not known.
            self.over = True
        else:
            use.effect(use.done.body if use.done else None)

    def _nothing_new(self, _: Json | None) -> None:
        """It has been done before."""
