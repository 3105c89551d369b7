"""Who a request speaks for, and the one row that every rule about the whole user hangs on."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self, cast
from uuid import UUID

import peewee

from factors.errors import TooManyAttempts
from storage.database import Model, UtcDateTimeField, atomic
from storage.statement import Change, Query

FREE_ATTEMPTS = 5
FIRST_LOCK = timedelta(seconds=30)
LONGEST_LOCK = timedelta(hours=1)
# The lock that each wrong answer from the fifth on brings: 30 s, doubled each time, at most an hour.
LOCKS = [min(FIRST_LOCK * 2**n, LONGEST_LOCK) for n in range(8)]
HANDLE_BYTES = 32
# Where a user's epoch begins is random, so that no assertion outlives a user who is deleted and begins again.
FIRST_EPOCHS = 2**48


@dataclass(frozen=True, slots=True)
class Caller:
    """The user a request speaks for, as its access token names them, and the request itself as the audit names it.

    `id` is derived from tenant and `sub`, so no look-up stands between a token and its user's rows, and two users
    of one `sub` in two tenants are strangers (TOK-05).
    """

    id: UUID
    tenant: str
    sub: str
    email: str | None = None
    account: str = ""
    name: str = ""
    amr: tuple[str, ...] = ()
    auth_time: datetime | None = None
    session: str = ""
    purpose: str = "user"
    operation: str = ""
    request_id: str = ""
    address: str = ""

    @classmethod
    def of(cls, sub: str, tenant: str = "", **more: Any) -> Self:
        name = f"{len(tenant)}:{tenant}:{sub}".encode()
        return cls(UUID(bytes=hashlib.sha256(name).digest()[:16]), tenant, sub, **more)

    def on_behalf_of(self, sub: str) -> Self:
        """The user `sub` of the same tenant, when the caller is an app's backend that has no token of theirs."""
        return self.of(
            sub,
            self.tenant,
            account=sub,
            purpose="service",
            operation=self.operation,
            request_id=self.request_id,
            address=self.address,
        )


class User(Model):
    """A user of the identity provider, from the first factor they set up.

    `handle` is the WebAuthn user handle (random, no personal data: W3C 14.6.1). `failures` and `locked_until` are the
    one budget of wrong codes. `epoch` counts changes of the user's factors.
    """

    id = peewee.UUIDField(primary_key=True)
    tenant = peewee.TextField()
    sub = peewee.TextField()
    handle = peewee.BlobField()
    epoch = peewee.BigIntegerField(default=0)
    failures = peewee.IntegerField(default=0)
    locked_until = UtcDateTimeField(null=True)
    created_at = UtcDateTimeField()

    class Meta:
        table_name = "mfa_user"

    @classmethod
    def ensure(cls, caller: Caller, now: datetime) -> None:
        """Make the row if this is the user's first enrolment."""
        handle, epoch = secrets.token_bytes(HANDLE_BYTES), secrets.randbelow(FIRST_EPOCHS)
        _ensure(user=caller.id, tenant=caller.tenant, sub=caller.sub, handle=handle, epoch=epoch, now=now)

    @classmethod
    def handle_of(cls, caller: Caller) -> bytes:
        """The WebAuthn user handle of a user who has a row."""
        return bytes(_read.all(user=caller.id)[0].handle)

    @classmethod
    def epoch_of(cls, caller: Caller) -> int | None:
        user = _read.first(user=caller.id)
        return None if user is None else user.epoch

    @classmethod
    def count_attempt(cls, caller: Caller, now: datetime) -> datetime | None:
        """Count one attempt at a code, committed before the code is looked at (THR-03).

        Returns the lock it brought, if it was the fifth or a later one. Raises TooManyAttempts while locked.
        """
        with atomic():
            # Nearly always it is one of the first four.
            if _count_free_attempt(user=caller.id) == 1:
                return None
            locks = {f"lock_{n}": now + length for n, length in enumerate(LOCKS)}
            counted = _count_attempt.first(user=caller.id, now=now, **locks)
        if counted is not None:
            return cast(datetime | None, counted.locked_until)
        # A right answer may have cleared the lock since; then one second is wait enough.
        user = _read.first(user=caller.id)
        locked_until = (user and user.locked_until) or now
        raise TooManyAttempts(retry_after=max(1, math.ceil((locked_until - now).total_seconds())))

    @classmethod
    def give_back_attempt(cls, caller: Caller, lock: datetime | None) -> None:
        """Undo `count_attempt`: the attempt came to nothing by no fault of the user's (THR-07)."""
        with atomic(however_late=True):
            _give_back_attempt(user=caller.id, lock=lock)

    @classmethod
    def clear_attempts(cls, caller: Caller) -> int:
        """A right answer: the budget is whole again. In the answer's own transaction; it also holds the user's row.

        Returns the user's epoch.
        """
        return _clear_attempts.all(user=caller.id)[0].epoch

    @classmethod
    def change_factors(cls, caller: Caller, expected_epoch: int | None = None) -> bool:
        """Hold the user's row for the rest of the transaction and note that their factors change.

        Every change of factors begins with it, so two changes for one user never interleave (ATM-03). Where the
        change stands on an assertion, `expected_epoch` is the one in it; False when factors have changed since.
        """
        if expected_epoch is None:
            return _change_factors(user=caller.id) == 1
        return _change_factors_of(user=caller.id, epoch=expected_epoch) == 1


def _lock_after(now: Any, locks: Sequence[Any]) -> peewee.Case:
    """What the attempt that is being counted brings: nothing for the first four, then ever longer locks."""
    nothing = [(User.failures < FREE_ATTEMPTS - 1, None)]
    longer = [(User.failures == FREE_ATTEMPTS - 1 + n, lock) for n, lock in enumerate(locks)]
    return peewee.Case(None, nothing + longer, locks[-1])


_ensure = Change(
    lambda user, tenant, sub, handle, epoch, now: (
        User.insert(id=user, tenant=tenant, sub=sub, handle=handle, epoch=epoch, created_at=now)
        .on_conflict_ignore()
        .returning()
    )
)
_read = Query(lambda user: User.select().where(User.id == user), User)
_count_free_attempt = Change(
    lambda user: User.update(failures=User.failures + 1).where(
        User.id == user, User.failures < FREE_ATTEMPTS - 1, User.locked_until.is_null()
    )
)
_count_attempt = Query(
    lambda user, now, lock_0, lock_1, lock_2, lock_3, lock_4, lock_5, lock_6, lock_7: (
        User.update(
            failures=User.failures + 1,
            locked_until=_lock_after(now, (lock_0, lock_1, lock_2, lock_3, lock_4, lock_5, lock_6, lock_7)),
        )
        .where(User.id == user, User.locked_until.is_null() | (User.locked_until <= now))
        .returning(User.locked_until)
    ),
    User,
)
_give_back_attempt = Change(
    lambda user, lock: User.update(
        failures=User.failures - 1,
        locked_until=peewee.Case(None, [(User.locked_until == lock, None)], User.locked_until),
    ).where(User.id == user, User.failures > 0)
)
_clear_attempts = Query(
    lambda user: User.update(failures=0, locked_until=None).where(User.id == user).returning(User.epoch), User
)
_change_factors = Change(lambda user: User.update(epoch=User.epoch + 1).where(User.id == user))
_change_factors_of = Change(
    lambda user, epoch: User.update(epoch=User.epoch + 1).where(User.id == user, User.epoch == epoch)
)
