"""Who a request speaks for, and the one row that every rule about the whole user hangs on."""

from __future__ import annotations

import hashlib
import math
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

import peewee

from factors.errors import TooManyAttempts
from storage.database import Model, UtcDateTimeField, atomic

FREE_ATTEMPTS = 5
FIRST_LOCK = timedelta(seconds=30)
LONGEST_LOCK = timedelta(hours=1)
# The lock that each wrong answer from the fifth on brings: 30 s, doubled each time, at most an hour.
LOCKS = [min(FIRST_LOCK * 2**n, LONGEST_LOCK) for n in range(8)]
HANDLE_BYTES = 32


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
        cls.insert(
            id=caller.id,
            tenant=caller.tenant,
            sub=caller.sub,
            handle=secrets.token_bytes(HANDLE_BYTES),
            created_at=now,
        ).on_conflict_ignore().execute()

    @classmethod
    def handle_of(cls, caller: Caller) -> bytes:
        return bytes(cls.get_by_id(caller.id).handle)

    @classmethod
    def count_attempt(cls, caller: Caller, now: datetime) -> datetime | None:
        """Count one attempt at a code, committed before the code is looked at (THR-03).

        Returns the lock it brought, if it was the fifth or a later one. Raises TooManyAttempts while locked.
        """
        lock = peewee.Case(
            None,
            [(cls.failures < FREE_ATTEMPTS - 1, None)]
            + [(cls.failures == FREE_ATTEMPTS - 1 + n, _time(now + length)) for n, length in enumerate(LOCKS)],
            _time(now + LONGEST_LOCK),
        )
        with atomic():
            counted = (
                cls.update(failures=cls.failures + 1, locked_until=lock)
                .where(cls.id == caller.id, cls.locked_until.is_null() | (cls.locked_until <= now))
                .returning(cls.locked_until)
                .execute()
            )
            rows = list(counted)
        if rows:
            brought: datetime | None = rows[0].locked_until
            return brought
        # A right answer may have cleared the lock since; then one second is wait enough.
        locked_until = cls.get_by_id(caller.id).locked_until or now
        raise TooManyAttempts(retry_after=max(1, math.ceil((locked_until - now).total_seconds())))

    @classmethod
    def give_back_attempt(cls, caller: Caller, lock: datetime | None) -> None:
        """Undo `count_attempt`: the attempt came to nothing by no fault of the user's (THR-07)."""
        kept = peewee.Case(None, [(cls.locked_until == lock, None)], cls.locked_until)
        with atomic():
            cls.update(failures=cls.failures - 1, locked_until=kept).where(
                cls.id == caller.id, cls.failures > 0
            ).execute()

    @classmethod
    def clear_attempts(cls, caller: Caller) -> int:
        """A right answer: the budget is whole again. In the answer's own transaction; it also holds the user's row.

        Returns the user's epoch.
        """
        cleared = list(
            cls.update(failures=0, locked_until=None).where(cls.id == caller.id).returning(cls.epoch).execute()
        )
        return int(cleared[0].epoch)

    @classmethod
    def epoch_of(cls, caller: Caller) -> int | None:
        row = cls.get_or_none(cls.id == caller.id)
        return None if row is None else int(row.epoch)

    @classmethod
    def change_factors(cls, caller: Caller, expected_epoch: int | None = None) -> bool:
        """Hold the user's row for the rest of the transaction and note that their factors change.

        Every change of factors begins with it, so two changes for one user never interleave (ATM-03). Where the
        change stands on an assertion, `expected_epoch` is the one in it; False when factors have changed since.
        """
        current = cls.id == caller.id
        if expected_epoch is not None:
            current &= cls.epoch == expected_epoch
        return int(cls.update(epoch=cls.epoch + 1).where(current).execute()) == 1


def _time(value: datetime) -> peewee.Value:
    return peewee.Value(value, converter=User.locked_until.db_value)
