"""The authenticator app of a user: one row, pending until a code of its secret is shown."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

import peewee

from factors.errors import AlreadyEnabled, InvalidCode, NoPendingEnrolment, NotEnabled
from storage import sealing
from storage.database import Model, UtcDateTimeField
from storage.statement import Change, Query
from storage.user import Caller, User

PENDING = timedelta(minutes=10)


class TotpSecret(Model):
    """A TOTP secret, sealed, and the last time step that was accepted for it (RFC 6238 section 5.2)."""

    user = peewee.ForeignKeyField(User, primary_key=True, on_delete="CASCADE")
    user_id: UUID
    device_id = peewee.UUIDField()
    sealed = peewee.TextField()
    last_step = peewee.BigIntegerField(default=0)
    created_at = UtcDateTimeField()
    expires_at = UtcDateTimeField(null=True)
    confirmed_at = UtcDateTimeField(null=True)
    last_used_at = UtcDateTimeField(null=True)

    class Meta:
        table_name = "totp_secret"

    @classmethod
    def begin(cls, caller: Caller, secret: bytes, now: datetime) -> Self:
        """Keep a new pending secret; one that was pending is dead. Raises AlreadyEnabled, and then changes nothing."""
        device_id = uuid.uuid4()
        sealed = sealing.seal(secret, table="totp_secret", user=caller.id, row=device_id)
        row = cls(user=caller.id, device_id=device_id, sealed=sealed, created_at=now, expires_at=now + PENDING)
        kept = _begin(user=caller.id, device_id=device_id, sealed=sealed, now=now, expires_at=row.expires_at)
        if kept != 1:
            raise AlreadyEnabled
        return row

    @classmethod
    def pending(cls, caller: Caller, now: datetime) -> TotpSecret:
        """The secret that waits for its first code. Raises AlreadyEnabled or NoPendingEnrolment."""
        row = _read.first(user=caller.id)
        if row is not None and row.confirmed_at is not None:
            raise AlreadyEnabled
        if row is None or row.expires_at <= now:
            raise NoPendingEnrolment
        return row

    @classmethod
    def of(cls, caller: Caller) -> TotpSecret | None:
        """The secret in use."""
        row = _read.first(user=caller.id)
        return row if row is not None and row.confirmed_at is not None else None

    @classmethod
    def enabled(cls, caller: Caller) -> TotpSecret:
        """The secret in use. Raises NotEnabled."""
        row = cls.of(caller)
        if row is None:
            raise NotEnabled
        return row

    def secret(self) -> bytes:
        """Raises InvalidCode when it cannot be opened: this factor is unusable, and nothing else (SEC-03)."""
        try:
            return sealing.unseal(self.sealed, table="totp_secret", user=self.user_id, row=self.device_id)
        except sealing.Unsealable as error:
            raise InvalidCode(reason="unsealable") from error

    def activate(self, step: int, now: datetime) -> None:
        """Turn the pending secret on and spend the step that proved it, once. Raises InvalidCode."""
        if _activate(user=self.user_id, device_id=self.device_id, step=step, now=now) != 1:
            raise InvalidCode(reason="spent")

    def spend(self, step: int, now: datetime) -> None:
        """Shut this step and all earlier ones, everywhere (OTP-03). Raises InvalidCode when that has happened."""
        if _spend(user=self.user_id, device_id=self.device_id, step=step, now=now) != 1:
            raise InvalidCode(reason="spent")

    def remove(self) -> None:
        """Destroy the secret (OTP-10). Raises NotEnabled when another request has."""
        if _remove(user=self.user_id, device_id=self.device_id) != 1:
            raise NotEnabled


def _is(user: Any, device_id: Any) -> Any:
    return (TotpSecret.user == user) & (TotpSecret.device_id == device_id)


_begin = Change(
    lambda user, device_id, sealed, now, expires_at: (
        TotpSecret.insert(user=user, device_id=device_id, sealed=sealed, created_at=now, expires_at=expires_at)
        .on_conflict(
            conflict_target=[TotpSecret.user],
            preserve=[
                TotpSecret.device_id,
                TotpSecret.sealed,
                TotpSecret.last_step,
                TotpSecret.created_at,
                TotpSecret.expires_at,
            ],
            where=TotpSecret.confirmed_at.is_null(),
        )
        .returning()
    )
)
_read = Query(lambda user: TotpSecret.select().where(TotpSecret.user == user), TotpSecret)
_activate = Change(
    lambda user, device_id, step, now: TotpSecret.update(
        confirmed_at=now, expires_at=None, last_step=step, last_used_at=now
    ).where(
        _is(user, device_id),
        TotpSecret.confirmed_at.is_null(),
        TotpSecret.expires_at > now,
        TotpSecret.last_step < step,
    )
)
_spend = Change(
    lambda user, device_id, step, now: TotpSecret.update(last_step=step, last_used_at=now).where(
        _is(user, device_id), TotpSecret.confirmed_at.is_null(False), TotpSecret.last_step < step
    )
)
_remove = Change(lambda user, device_id: TotpSecret.delete().where(_is(user, device_id)))
