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
from storage.statement import Change, Query
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
        digest = sealing.digest(code, *_context(caller.id, device_id, address))
        expires_at = now + CODE_LIFETIME
        kept = _begin(
            user=caller.id, device_id=device_id, address=address, digest=digest, now=now, expires_at=expires_at
        )
        if kept != 1:
            raise AlreadyEnabled
        return cls(user=caller.id, device_id=device_id, address=address, created_at=now, expires_at=expires_at)

    @classmethod
    def pending(cls, caller: Caller, now: datetime) -> EmailFactor:
        """The mailbox that waits for its code. Raises AlreadyEnabled or NoPendingEnrolment.

        A code is bound to the address it was sent to: a token that names another address finds nothing (EML-04).
        """
        row = _read.first(user=caller.id)
        if row is not None and row.confirmed_at is not None:
            raise AlreadyEnabled
        if row is None or row.expires_at <= now or caller.email not in (None, row.address):
            raise NoPendingEnrolment
        return row

    @classmethod
    def of(cls, caller: Caller) -> EmailFactor | None:
        """The mailbox in use."""
        row = _read.first(user=caller.id)
        return row if row is not None and row.confirmed_at is not None else None

    @classmethod
    def enabled(cls, caller: Caller) -> EmailFactor:
        """The mailbox in use. Raises NotEnabled."""
        row = cls.of(caller)
        if row is None:
            raise NotEnabled
        return row

    @classmethod
    def use(cls, caller: Caller, mailed_at: datetime, now: datetime) -> None:
        """Note that a code from the mailbox was right. Raises InvalidCode unless it has been on since `mailed_at`:
        a mailbox that was turned off proves nothing any more, nor does it stand in for the one after it (EML-04).
        """
        if _use(user=caller.id, mailed_at=mailed_at, now=now) != 1:
            raise InvalidCode(reason="not enabled")

    def check(self, code: str) -> None:
        """Raises InvalidCode unless `code` is the one that was mailed for this enrolment."""
        if self.code_digest is None or not sealing.digest_matches(
            self.code_digest, code, *_context(self.user_id, self.device_id, self.address)
        ):
            raise InvalidCode(reason="wrong")

    def activate(self, now: datetime) -> None:
        """Turn the mailbox on, once; its code is deleted with that. Raises InvalidCode."""
        turned_on = _activate(user=self.user_id, device_id=self.device_id, digest=self.code_digest, now=now)
        if turned_on != 1:
            raise InvalidCode(reason="spent")

    def remove(self) -> None:
        """Raises NotEnabled when another request has removed it."""
        if _remove(user=self.user_id, device_id=self.device_id) != 1:
            raise NotEnabled


def _context(user: uuid.UUID, device_id: uuid.UUID, address: str) -> tuple[str, ...]:
    return ("email enrolment", user.hex, device_id.hex, address)


def _is(user: Any, device_id: Any) -> Any:
    return (EmailFactor.user == user) & (EmailFactor.device_id == device_id)


_begin = Change(
    lambda user, device_id, address, digest, now, expires_at: (
        EmailFactor.insert(
            user=user, device_id=device_id, address=address, code_digest=digest, created_at=now, expires_at=expires_at
        )
        .on_conflict(
            conflict_target=[EmailFactor.user],
            preserve=[
                EmailFactor.device_id,
                EmailFactor.address,
                EmailFactor.code_digest,
                EmailFactor.created_at,
                EmailFactor.expires_at,
            ],
            where=EmailFactor.confirmed_at.is_null(),
        )
        .returning()
    )
)
_read = Query(lambda user: EmailFactor.select().where(EmailFactor.user == user), EmailFactor)
_use = Change(
    lambda user, mailed_at, now: EmailFactor.update(last_used_at=now).where(
        EmailFactor.user == user, EmailFactor.confirmed_at <= mailed_at
    )
)
_activate = Change(
    lambda user, device_id, digest, now: EmailFactor.update(
        confirmed_at=now, expires_at=None, code_digest=None, last_used_at=now
    ).where(_is(user, device_id), EmailFactor.code_digest == digest, EmailFactor.expires_at > now)
)
_remove = Change(lambda user, device_id: EmailFactor.delete().where(_is(user, device_id)))
