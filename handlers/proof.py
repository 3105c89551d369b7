"""The one place where a code is judged: every operation that looks at one goes through here, and shares one budget.

with proof.attempt(caller, now) as accepted:      # counted and committed before the code is looked at
    spend = proof.look(...)                       # slow work, outside any transaction
    with accepted():                              # one transaction: the budget is whole again, the code is spent,
        spend()                                   # and what it was shown for happens, or none of it
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime

from factors import backup, totp
from factors.errors import InvalidCode
from handlers import notice
from handlers.settings import Settings
from storage import audit
from storage.backup import BackupCode, BackupCodeSet
from storage.database import atomic
from storage.totp import TotpSecret
from storage.user import Caller, User

SIX = 6

Spend = Callable[[], None]
Accepted = Callable[[], AbstractContextManager[None]]


@contextmanager
def attempt(caller: Caller, now: datetime) -> Iterator[Accepted]:
    """Count an attempt, commit that, and let the code be looked at (THR-03).

    A wrong code leaves the attempt counted and an audit event behind; anything else that goes wrong gives it back.
    Raises TooManyAttempts before anything is looked at, the same for right and wrong codes (THR-08).
    """
    lock = User.count_attempt(caller, now)

    @contextmanager
    def accepted() -> Iterator[None]:
        with atomic():
            User.clear_attempts(caller)
            yield

    try:
        yield accepted
    except InvalidCode as refusal:
        with atomic():
            audit.record(caller, "proof.refused", now, reason=refusal.reason)
            if lock is not None:
                audit.record(caller, "proof.locked", now)
                notice.send(caller, "locked", now)
        raise
    except BaseException:
        User.give_back_attempt(caller, lock)
        raise


def by_totp(caller: Caller, code: str, now: datetime, settings: Settings) -> Spend:
    """A code of the authenticator app that is on. Raises InvalidCode, NotEnabled."""
    device = TotpSecret.enabled(caller)
    step = totp.matching_step(device.secret(), code, now, settings.totp_window)
    return lambda: device.spend(step, now)


def by_backup_code(caller: Caller, code: str, now: datetime) -> Spend:
    """An unused backup code. Its owner hears of its use (BCK-06). Raises InvalidCode."""
    code_set = BackupCodeSet.of(caller)
    if code_set is None:
        raise InvalidCode(reason="no backup codes")
    digest = backup.digest(code, bytes(code_set.salt))

    def spend() -> None:
        BackupCode.spend(caller, digest, now)
        audit.record(caller, "backup_code.used", now)
        notice.send(caller, "backup_code.used", now, remaining=BackupCode.remaining(caller))

    return spend


def is_six_digits(code: str) -> bool:
    """Whether this is an authenticator's or a mailed code; the contract leaves nothing else but a backup code."""
    return len(code) == SIX
