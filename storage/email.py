"""The mailbox of a user: one row, pending until the code that was mailed to it is shown."""

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

CODE_LIFETIME = timedelta(minutes=10)


class EmailFactor(Model):
    """A mailbox, and while it is pending the keyed digest of the code that was sent there."""

    user = peewee.ForeignKeyField(User, primary_key=True, on_delete="CASCADE")
    user_id: UUID
    device_id = peewee.UUIDField()
    address = peewee.TextField()
    code_digest = peewee.TextField(null=True)
    created_at = UtcDateTimeField()
    expires_at = UtcDateTimeField(null=True)
    confirmed_at = UtcDateTimeField(null=True)
    last_used_at = UtcDateTimeField(null=True)

    class Meta:
        table_name = "email_factor"

    @classmethod
    def begin(cls, caller: Caller, address: str, code: str, now: datetime) -> Self:
        """Keep a pending mailbox; the code of an earlier one is dead (EML-03). Raises AlreadyEnabled."""
        device_id = uuid.uuid4()
        row = cls(
            user=caller.id,
            device_id=device_id,
            address=address,
            code_digest=sealing.digest(code, *_context(caller.id, device_id, address)),
            created_at=now,
            expires_at=now + CODE_LIFETIME,
        )
        kept = (
            cls.insert(row.__data__)
            .on_conflict(
                conflict_target=[cls.user],
                preserve=[cls.device_id, cls.address, cls.code_digest, cls.created_at, cls.expires_at],
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
        """The mailbox that waits for its code. Raises AlreadyEnabled or NoPendingEnrolment.

        A code is bound to the address it was sent to: a token that names another address finds nothing (EML-04).
        """
        row: Self | None = cls.get_or_none(cls.user == caller.id)
        if row is not None and row.confirmed_at is not None:
            raise AlreadyEnabled
        if row is None or row.expires_at <= now or caller.email not in (None, row.address):
            raise NoPendingEnrolment
        return row

    @classmethod
    def of(cls, caller: Caller) -> Self | None:
        """The mailbox in use."""
        row: Self | None = cls.get_or_none(cls.user == caller.id, cls.confirmed_at.is_null(False))
        return row

    @classmethod
    def enabled(cls, caller: Caller) -> Self:
        """The mailbox in use. Raises NotEnabled."""
        row = cls.of(caller)
        if row is None:
            raise NotEnabled
        return row

    @classmethod
    def used(cls, caller: Caller, now: datetime) -> None:
        """Note that a code from the mailbox was right."""
        cls.update(last_used_at=now).where(cls.user == caller.id).execute()

    def check(self, code: str) -> None:
        """Raises InvalidCode unless `code` is the one that was mailed for this enrolment."""
        if self.code_digest is None or not sealing.digest_matches(
            self.code_digest, code, *_context(self.user_id, self.device_id, self.address)
        ):
            raise InvalidCode(reason="wrong")

    def activate(self, now: datetime) -> None:
        """Turn the mailbox on, once; its code is deleted with that. Raises InvalidCode."""
        cls = type(self)
        turned_on = (
            cls.update(confirmed_at=now, expires_at=None, code_digest=None, last_used_at=now)
            .where(self._is_this, cls.code_digest == self.code_digest, cls.expires_at > now)
            .execute()
        )
        if turned_on != 1:
            raise InvalidCode(reason="spent")

    def remove(self) -> None:
        """Raises NotEnabled when another request has removed it."""
        if type(self).delete().where(self._is_this).execute() != 1:
            raise NotEnabled

    @property
    def _is_this(self) -> Any:
        cls = type(self)
        return (cls.user == self.user_id) & (cls.device_id == self.device_id)


def _context(user: uuid.UUID, device_id: uuid.UUID, address: str) -> tuple[str, ...]:
    return ("email enrolment", user.hex, device_id.hex, address)
