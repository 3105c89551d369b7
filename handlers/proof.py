"""The one place where a code is judged: every operation that looks at one goes through here, and shares one budget.

An attempt is counted, and that is committed, before the code is looked at. The look is slow work and outside of any
transaction. Then, in one transaction, the budget is whole again, the code is spent, and what it was shown for happens;
or none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Literal, TypeVar

from factors import totp
from factors.assertion import SigningKey
from factors.errors import InvalidCode
from handlers import notice, step_up
from handlers.hashing import digests
from handlers.settings import Settings
from storage import audit
from storage.backup import BackupCode, BackupCodeSet
from storage.challenge import Challenge
from storage.database import atomic
from storage.email import EmailFactor
from storage.totp import TotpSecret
from storage.user import Caller, User

SIX = 6

Kind = Literal["totp", "email", "backup_code"]
Spend = Callable[[], None]
Accepted = Callable[[], AbstractContextManager[int]]
Prepared = TypeVar("Prepared")


def _nothing() -> None:
    """There is nothing to prepare."""


@contextmanager
def attempt(caller: Caller, now: datetime) -> Iterator[Accepted]:
    """Count an attempt, commit that, and let the code be looked at (THR-03).

    Yields what opens the transaction once the code is right; that yields the user's epoch. A wrong code leaves the
    attempt counted and an audit event behind; anything else that goes wrong gives the attempt back.
    Raises TooManyAttempts before anything is looked at, the same for right and wrong codes (THR-08).
    """
    lock = User.count_attempt(caller, now)

    @contextmanager
    def accepted() -> Iterator[int]:
        with atomic():
            yield User.clear_attempts(caller)

    try:
        yield accepted
    except InvalidCode as refusal:
        with atomic(however_late=True):
            audit.record(caller, "proof.refused", now, reason=refusal.reason)
            if lock is not None:
                audit.record(caller, "proof.locked", now)
                notice.send(caller, "locked", now)
        raise
    except BaseException:
        User.give_back_attempt(caller, lock)
        raise


@contextmanager
def shown(
    caller: Caller,
    code: str,
    kinds: Collection[str],
    assertions_by: Collection[str],
    now: datetime,
    settings: Settings,
    signing_keys: Sequence[SigningKey],
    # Without it, Prepared is None; a default cannot tell mypy so.
    prepare: Callable[[], Prepared] = _nothing,  # type: ignore[assignment]
) -> Iterator[Prepared]:
    """Judge the `code` that a change of factors stands on, and run the block in the transaction that spends it.

    Args:
        kinds: What the code may be, besides an assertion.
        assertions_by: The methods whose live assertion will do as well. One cannot be guessed: it is not counted,
            and works while codes are locked.
        prepare: Slow work for the block, done once the code is right and before the transaction; the block gets it.

    Raises:
        InvalidCode, TooManyAttempts
    """
    if is_assertion(code):
        try:
            claims = step_up.live(caller, code, now, settings, signing_keys)
            method = step_up.BY_ACR[claims["acr"]]
            if method not in assertions_by:
                raise InvalidCode(reason="too weak")
            prepared = prepare()
            with atomic():
                permit = step_up.Permit(method, claims["epoch"], InvalidCode(reason="factors changed"))
                permit.change_factors(caller, now)
                yield prepared
        except InvalidCode as refusal:
            with atomic(however_late=True):
                audit.record(caller, "proof.refused", now, reason=refusal.reason)
            raise
        return
    with attempt(caller, now) as accepted:
        _, spend = look(caller, code, kinds, now, settings, Challenge.mailed(caller, now))
        prepared = prepare()
        with accepted():
            User.change_factors(caller)
            spend()
            yield prepared


def look(
    caller: Caller,
    code: str,
    kinds: Collection[str],
    now: datetime,
    settings: Settings,
    mailed: Challenge | None,
) -> tuple[Kind, Spend]:
    """Look at a code that is one of `kinds`.

    Returns which it is, and what spends it within a transaction. Raises InvalidCode, as that does when it is too late.
    """
    if len(code) != SIX:
        if "backup_code" in kinds:
            return "backup_code", _backup_code(caller, code, now)
    elif "totp" in kinds:
        return "totp", _totp(caller, code, now, settings)
    elif "email" in kinds and mailed is not None:
        return "email", _mailed_code(caller, code, now, mailed)
    raise InvalidCode(reason="wrong kind")


def _totp(caller: Caller, code: str, now: datetime, settings: Settings) -> Spend:
    """A code of the authenticator app that is on."""
    device = TotpSecret.of(caller)
    if device is None:
        raise InvalidCode(reason="not enabled")
    step = totp.matching_step(device.secret(), code, now, settings.totp_window)
    return lambda: device.spend(step, now)


def _mailed_code(caller: Caller, code: str, now: datetime, challenge: Challenge) -> Spend:
    """The code that was mailed for a challenge, which it uses up."""
    challenge.check(code)

    def spend() -> None:
        if not challenge.take():
            raise InvalidCode(reason="spent")
        EmailFactor.use(caller, challenge.created_at, now)

    return spend


def _backup_code(caller: Caller, code: str, now: datetime) -> Spend:
    """An unused backup code. Its owner hears of its use (BCK-06)."""
    code_set = BackupCodeSet.of(caller)
    if code_set is None:
        raise InvalidCode(reason="not enabled")
    [digest] = digests([code], bytes(code_set.salt))

    def spend() -> None:
        BackupCode.spend(caller, digest, now)
        audit.record(caller, "backup_code.used", now)
        notice.send(caller, "backup_code.used", now, remaining=BackupCode.remaining(caller))

    return spend


def is_assertion(code: str) -> bool:
    """Whether the contract means an assertion: no code has a dot in it."""
    return "." in code
