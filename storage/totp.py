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
        row = cls(
            user=caller.id,
            device_id=device_id,
            sealed=sealing.seal(secret, table="totp_secret", user=caller.id, row=device_id),
            created_at=now,
            expires_at=now + PENDING,
        )
        kept = (
            cls.insert(row.__data__)
            .on_conflict(
                conflict_target=[cls.user],
                preserve=[cls.device_id, cls.sealed, cls.last_step, cls.created_at, cls.expires_at],
                where=cls.confirmed_at.is_null(),
            )
            .as_rowcount()
            .execute()
        )
        if kept != 1:
            raise AlreadyEnabled
        return row

    @classmethod
    def pending(cls, caller: Caller, now: datetime) -> Self:
        """The secret that waits for its first code. Raises AlreadyEnabled or NoPendingEnrolment."""
        row: Self | None = cls.get_or_none(cls.user == caller.id)
        if row is not None and row.confirmed_at is not None:
            raise AlreadyEnabled
        if row is None or row.expires_at <= now:
            raise NoPendingEnrolment
        return row

    @classmethod
    def of(cls, caller: Caller) -> Self | None:
        """The secret in use."""
        row: Self | None = cls.get_or_none(cls.user == caller.id, cls.confirmed_at.is_null(False))
        return row

    @classmethod
    def enabled(cls, caller: Caller) -> Self:
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
        cls = type(self)
        turned_on = (
            cls.update(confirmed_at=now, expires_at=None, last_step=step, last_used_at=now)
            .where(self._is_this, cls.confirmed_at.is_null(), cls.expires_at > now, cls.last_step < step)
            .execute()
        )
        if turned_on != 1:
            raise InvalidCode(reason="spent")

    def spend(self, step: int, now: datetime) -> None:
        """Shut this step and all earlier ones, everywhere (OTP-03). Raises InvalidCode when that has happened."""
        cls = type(self)
        spent = (
            cls.update(last_step=step, last_used_at=now)
            .where(self._is_this, cls.confirmed_at.is_null(False), cls.last_step < step)
            .execute()
        )
        if spent != 1:
            raise InvalidCode(reason="spent")

    def remove(self) -> None:
        """Destroy the secret (OTP-10). Raises NotEnabled when another request has."""
        if type(self).delete().where(self._is_this).execute() != 1:
            raise NotEnabled

    @property
    def _is_this(self) -> Any:
        cls = type(self)
        return (cls.user == self.user_id) & (cls.device_id == self.device_id)
