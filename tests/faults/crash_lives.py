"""Users' whole lives: whatever a user may do next, one thing after the other, as chance will have it.

A life knows what its user was told. Where that makes a request right, anything but 200 shows that something is lost.
"""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from tests.authenticator import Authenticator, base64url
from tests.authenticator_app import STEP_SECONDS, code_at_step
from tests.faults.crash_journal import DONE, Json, Thing, Use
from tests.running import API

USES = 30
# A request takes less, so a code that is good for so many seconds is good when it is looked at.
SURELY = 10
# Of the five wrong codes that lock a user, this many may be spent on codes that have been used.
REPLAYS = 1

Choice = tuple[int, Callable[[], Use]]


class Life:
    """One user, what they hold in their hands, and the journal of what they did."""

    def __init__(self, sub: str, token: str, origin: str, chance: random.Random) -> None:
        self.sub = sub
        self.token = token
        self.origin = origin
        self.chance = chance
        self.journal: list[Use] = []
        self.over = False
        # The methods that the server lists; asked for after a refusal, which leaves it open what was done.
        self.listed: Json = {}
        self.secret = b""
        self.totp_on = False
        self.last_step = 0
        self.codes: list[str] = []
        self.has_codes = False
        self.keys: dict[str, Authenticator] = {}
        self.email = ""
        self.mailed_code = ""
        self.challenge: Json = {}
        self.registration: Json = {}
        self.wrong = 0

    # What comes next.

    def next(self) -> Use | None:
        """What the user does next; nothing any more when their life is over."""
        choices = list(self._choices())
        if self.over or len(self.journal) >= USES or not choices:
            self.over = True
            return None
        [choose] = self.chance.choices([each for _, each in choices], [weight for weight, _ in choices])
        return choose()

    @property
    def _enabled(self) -> bool:
        return bool(self.totp_on or self.keys or self.email == "on")

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
        last = self.journal[-1] if self.journal else None
        if last and last.things and not last.replay and not last.locked and self.wrong < REPLAYS:
            yield 3, lambda: replace(last, replay=True, attempts=[], effect=self._nothing_new)

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

    def _offered(self) -> list[str]:
        """The keys that were there when the challenge was given, and still are."""
        offered = {descriptor["id"] for descriptor in self.challenge["options"]["allowCredentials"]}
        return [each for each, key in self.keys.items() if base64url(key.credentials[0].id) in offered]

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

    # Codes, with what they are.

    def _step(self) -> int:
        """The first step whose code was not used, and is good for as long as a request takes; 0 for none."""
        now = time.time()
        current, into = divmod(now, STEP_SECONDS)
        first = int(current) - (into < STEP_SECONDS - SURELY)
        return next((step for step in range(first, int(current) + 2) if step > self.last_step), 0)

    def _totp(self) -> tuple[str, Thing]:
        step = self._step()
        return code_at_step(self.secret, step), ("totp", self.secret.hex(), step)

    def _backup_code(self) -> tuple[str, Thing]:
        return self.codes[-1], ("backup code", self.codes[-1], 0)

    # What can be done.

    def _post(self, name: str, path: str, body: Json | None, effect: Callable[[Json | None], None], **of: Any) -> Use:
        code = of.pop("code", None)
        if code is not None:
            shown, thing = code
            body = {**(body or {}), "code": shown}
            of["things"] = (thing, *of.get("things", ()))
            of["looks_at_code"] = True
            if thing[0] == "totp":
                of["good_until"] = (thing[2] + 2) * STEP_SECONDS

        def known(answer: Json | None) -> None:
            if code is not None:
                self._used(code[1])
            effect(answer)

        return Use(name, of.pop("method", "POST"), f"{API}/{path}", body, known, **of)

    def _begin_totp(self) -> Use:
        def begun(answer: Json | None) -> None:
            assert answer is not None
            self.secret, self.last_step = base64.b32decode(answer["secret"]), 0

        return self._post("totp.enable", "totp/enable", None, begun, events=("totp.begun",))

    def _confirm_totp(self) -> Use:
        def confirmed(answer: Json | None) -> None:
            self.totp_on = True
            self._codes_made(answer)

        return self._post(
            "totp.confirm",
            "totp/confirm",
            None,
            confirmed,
            code=self._totp(),
            events=("totp.enabled",),
            refusals=frozenset({403, 409}),
        )

    def _disable_totp(self, code: tuple[str, Thing]) -> Use:
        def disabled(_: Json | None) -> None:
            self.secret, self.totp_on, self.last_step = b"", False, 0
            self._removed()

        return self._change("totp.disabled", "totp/disable", disabled, code)

    def _regenerate(self) -> Use:
        def regenerated(answer: Json | None) -> None:
            self.codes = answer["backup_codes"] if answer else []

        return self._change("backup_codes.regenerated", "backup-codes/regenerate", regenerated, self._totp())

    def _change(self, event: str, path: str, effect: Callable[[Json | None], None], code: tuple[str, Thing]) -> Use:
        events = (event, *(["backup_code.used"] if code[1][0] == "backup code" else []))
        return self._post(event, path, None, effect, code=code, events=events, refusals=frozenset({403, 409}))

    def _open_challenge(self, method: str) -> Use:
        def opened(answer: Json | None) -> None:
            assert answer is not None
            self.challenge = answer

        return self._post("challenge", "challenge", {"method": method}, opened)

    def _verify(self, method: str, **shown: Any) -> Use:
        challenge_id = self.challenge["challenge_id"]
        events = (f"{method}.verified", *(["backup_code.used"] if method == "backup_code" else []))
        return self._post(
            f"verify.{method}",
            "verify",
            {"challenge_id": challenge_id, **shown.pop("body", {})},
            self._verified,
            events=events,
            things=(("challenge", challenge_id, 0),),
            refusals=frozenset({403, 404}),
            **shown,
        )

    def _verify_key(self) -> Use:
        options = self.challenge["options"]
        device_id = self.chance.choice(self._offered())
        key = self.keys[device_id]
        credential = key.authenticate(options, origin=self.origin)
        return self._verify(
            "webauthn",
            body={"credential": credential},
            taken_first=True,
            sign_count=(device_id, key.credentials[0].sign_count),
        )

    def _verified(self, _: Json | None) -> None:
        self.challenge = {}

    def _begin_key(self) -> Use:
        def begun(answer: Json | None) -> None:
            assert answer is not None
            self.registration = answer

        return self._post("webauthn.begin", "webauthn/register/begin", None, begun)

    def _complete(self) -> Use:
        opened, key = self.registration, Authenticator()
        device_id = opened["device_id"]

        def completed(answer: Json | None) -> None:
            self.registration = {}
            if answer is None and all(device_id != method["device_id"] for method in self.listed["methods"]):
                # The crash came between the challenge and the key.
                return
            self.keys[device_id] = key
            self._codes_made(answer)

        body = {
            "device_id": device_id,
            "challenge_id": opened["challenge_id"],
            "credential": key.register(opened["options"], origin=self.origin),
        }
        return self._post(
            "webauthn.complete",
            "webauthn/register/complete",
            body,
            completed,
            events=("webauthn.enabled",),
            things=(("registration", opened["challenge_id"], 0),),
            refusals=frozenset({404}),
            taken_first=True,
        )

    def _remove_key(self, device_id: str) -> Use:
        def removed(_: Json | None) -> None:
            del self.keys[device_id]
            self._removed()

        return self._post(
            "webauthn.remove",
            f"webauthn/{device_id}",
            None,
            removed,
            method="DELETE",
            events=("webauthn.disabled",),
            things=(("key", device_id, 0),),
            refusals=frozenset({404}),
        )

    def _begin_email(self) -> Use:
        def begun(_: Json | None) -> None:
            self.email = "pending"

        # One mail a minute: whoever asks again is told to wait.
        return self._post(
            "email.enable", "email/enable", None, begun, events=("email.begun",), refusals=frozenset({429})
        )

    def _confirm_email(self) -> Use:
        def confirmed(answer: Json | None) -> None:
            self.email = "on"
            self._codes_made(answer)

        return self._post(
            "email.confirm",
            "email/confirm",
            None,
            confirmed,
            code=(self.mailed_code, ("mailed code", f"{self.sub} {self.mailed_code}", 0)),
            events=("email.enabled",),
            refusals=frozenset({403, 409}),
        )

    def _disable_email(self, code: tuple[str, Thing]) -> Use:
        def disabled(_: Json | None) -> None:
            # One mail a minute, so there is no other in this life.
            self.email = "gone"
            self._removed()

        return self._change("email.disabled", "email/disable", disabled, code)

    # What follows.

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

    def _used(self, thing: Thing) -> None:
        kind, of, step = thing
        if kind == "totp":
            self.last_step = step
        elif kind == "backup code":
            self.codes.remove(of)

    def _codes_made(self, answer: Json | None) -> None:
        """With the first method come backup codes, which are told once."""
        if not self.has_codes:
            self.codes = answer.get("backup_codes", []) if answer else []
        self.has_codes = True

    def _removed(self) -> None:
        """With the last method all goes."""
        if not self._enabled:
            self.codes, self.has_codes, self.challenge, self.registration = [], False, {}, {}
