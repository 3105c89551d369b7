"""Rules that several operations share: what proves a factor, the budget of wrong codes, what a change stands on."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Hashable
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from tests.authenticator_app import code_at_step, step_at
from tests.model.state import Answer, App, Assertion, Life, Opened, Refused, Request

# An operation in steps: what it has seen, where others may come before it goes on; its answer in the end.
Steps = Generator[Hashable, None, Answer]

# An assertion; the epoch in which there was no method yet; or "any", where the policy asks for nothing.
Permit = Assertion | int | None | Literal["any"]

FREE = 5
LOCKS = [timedelta(seconds=min(30 * 2**n, 3600)) for n in range(8)]
MAILS = ((1, timedelta(minutes=1)), (5, timedelta(hours=1)), (20, timedelta(days=1)))
MOST_OPEN = 5


def wait(until: datetime, now: datetime) -> int:
    return math.ceil((until - now).total_seconds())


def attempt(life: Life, request: Request, judge: Callable[[], Answer]) -> Steps:
    """Counted first, for all to see; then judged, all or nothing. One that was no guess is given back."""
    now, lock = request.now, None
    if life.locked_until and life.locked_until > now:
        yield "locked"
        # Whom somebody else's right code has unlocked meanwhile is told to come again at once.
        raise Refused("too_many_attempts", max(1, wait(life.locked_until or now, now)))
    life.failures += 1
    if life.failures >= FREE:
        lock = now + LOCKS[min(life.failures - FREE, len(LOCKS) - 1)]
    life.locked_until = lock
    yield lock
    try:
        with life.transaction():
            life.failures, life.locked_until = 0, None
            return judge()
    except Refused as refused:
        refusal = refused
    if refusal.code == "invalid_code":
        life.record("proof.refused")
        if lock:
            life.record("proof.locked")
            life.notify("locked")
    else:
        yield refusal.answer
        life.failures = max(0, life.failures - 1)
        life.locked_until = None if life.locked_until == lock else life.locked_until
    raise refusal


def spend(life: Life, request: Request, kinds: Collection[str], mailed: Opened | None) -> str:
    """Use a code up: which kind it was."""
    code, six = request.given["code"], len(request.given["code"]) == 6
    if not six and "backup_code" in kinds and code in (life.codes or ()):
        assert life.codes is not None
        life.codes -= {code}
        life.record("backup_code.used")
        life.notify("backup_code.used")
        return "backup_code"
    if six and "totp" in kinds and life.app and life.app_on:
        life.app = replace(life.app, last_step=new_step(life.app, code, request.now))
        return "totp"
    if six and "email" in kinds and mailed in life.challenges and mailed.code == code:
        since = life.mailbox.since if life.mailbox else None
        if since and since <= mailed.created_at:
            life.challenges = without((mailed,), life.challenges)
            return "email"
    raise Refused("invalid_code")


def new_step(app: App, code: str, now: datetime) -> int:
    """The latest step, from the previous to the next, whose code this is, unless it or a later one was used."""
    now_step = step_at(now)
    steps = [step for step in range(now_step - 1, now_step + 2) if code_at_step(app.secret, step) == code]
    if not steps or steps[-1] <= app.last_step:
        raise Refused("invalid_code")
    return steps[-1]


def mailed(life: Life, now: datetime) -> Opened | None:
    return next((each for each in life.challenges if each.code and each.expires_at > now), None)


def oldest(opened: tuple[Opened, ...]) -> tuple[Opened, ...]:
    """Those that are too many."""
    return tuple(sorted(opened, key=lambda each: each.created_at)[:-MOST_OPEN])


def without(some: Collection[Opened], opened: tuple[Opened, ...]) -> tuple[Opened, ...]:
    return tuple(each for each in opened if each not in some)


def spend_mail(life: Life, now: datetime) -> None:
    waits = [0]
    for most, length in MAILS:
        recent = [at for at in life.mailed_at if at > now - length]
        if len(recent) >= most:
            waits.append(wait(recent[-most] + length, now))
    if max(waits):
        raise Refused("too_many_emails", max(waits))
    life.mailed_at = (*(at for at in life.mailed_at if at > now - MAILS[-1][1]), now)


# What a change of factors stands on.


def accepted_for(life: Life, changed: str) -> frozenset[str]:
    """The methods whose assertion may change this one."""
    weak_will_do = changed == "email" or not (life.app_on or life.keys)
    return frozenset({"webauthn", "totp", "backup_code"} | ({"email"} if weak_will_do else set()))


def live(life: Life, token: str, now: datetime, accepted: Collection[str]) -> Assertion | None:
    known = next((each for each in life.assertions if each.token == token), None)
    alive = known and known.epoch == life.epoch and known.expires_at > now and known.method in accepted
    return known if alive else None


def look_around(life: Life) -> Generator[Hashable, None, Life]:
    """The life as a request sees it, which reads the keys last; its change may be over by then."""
    seen = copy(life)
    yield seen.app_on, seen.mailbox, seen.codes, seen.challenges
    seen.keys = life.keys
    return seen


def permit(life: Life, request: Request, changed: str) -> Generator[Hashable, None, Permit]:
    """What a change may stand on."""
    if request.step_up == "off":
        return "any"
    epoch = life.epoch
    seen = yield from look_around(life)
    yield epoch, tuple(seen.methods)
    if not seen.methods:
        if not request.fresh_login:
            raise Refused("step_up_required")
        return epoch
    shown = live(life, request.header, request.now, accepted_for(seen, changed)) if request.header else None
    if shown is None:
        if request.header:
            life.record("step_up.refused")
        raise Refused("step_up_required")
    return shown


def change(life: Life, stands_on: Permit, refusal: str = "step_up_required") -> None:
    """Begin a change: all earlier assertions are dead. Raises `refusal` when factors have changed since `permit`."""
    epoch = stands_on.epoch if isinstance(stands_on, Assertion) else stands_on
    if epoch not in ("any", life.epoch):
        raise Refused(refusal)
    life.epoch = None if life.epoch is None else life.epoch + 1
    if isinstance(stands_on, Assertion) and stands_on.method == "backup_code":
        life.notify("backup_code.recovery")


def shown(
    life: Life, request: Request, kinds: Collection[str], accepted: Collection[str], what: Callable[[], Answer]
) -> Steps:
    """A code or an assertion, and the change that it is shown for."""
    code = request.given["code"]
    if "." not in code:

        def judge() -> Answer:
            change(life, "any")
            spend(life, request, kinds, mailed(life, request.now))
            return what()

        return (yield from attempt(life, request, judge))
    assertion = live(life, code, request.now, accepted)
    if assertion is None:
        life.record("proof.refused")
        raise Refused("invalid_code")
    with life.transaction():
        change(life, assertion)
        return what()


def first_codes(life: Life, request: Request) -> bool:
    """Every user with a method has backup codes: made with the first one."""
    made = life.codes is None
    if made:
        life.codes = frozenset(request.chosen.get("backup_codes", ()))
    return made


def forget_the_rest(life: Life) -> bool:
    """With the last method go the backup codes and all that is open."""
    if not life.methods:
        life.codes, life.registrations, life.challenges = None, (), ()
    return bool(life.methods)
