"""All of a user's methods at once, in two statements."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import peewee

from storage.backup import BackupCode, BackupCodeSet, Counts
from storage.challenge import Challenge
from storage.email import EmailFactor
from storage.statement import Query
from storage.totp import TotpSecret
from storage.user import Caller, User
from storage.webauthn import WebAuthnCredential, WebAuthnRegistration

NO_CODES = Counts()


@dataclass(frozen=True, slots=True)
class Enabled:
    """A method that is on."""

    device_id: UUID
    since: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Mailbox(Enabled):
    """The mailbox that codes go to."""

    address: str


@dataclass(frozen=True, slots=True)
class Methods:
    """What a user has confirmed, and how many backup codes are left."""

    totp: Enabled | None = None
    email: Mailbox | None = None
    credentials: list[WebAuthnCredential] = field(default_factory=list)
    backup_codes: Counts = NO_CODES

    @property
    def enabled(self) -> bool:
        """Backup codes alone never count (AUZ-05)."""
        return bool(self.totp or self.email or self.credentials)

    def names(self) -> list[str]:
        """What the user can be asked for, best first; e-mail last, since asking sends a mail."""
        has = {
            "webauthn": self.credentials,
            "totp": self.totp,
            "backup_code": self.backup_codes.remaining,
            "email": self.email,
        }
        return [name for name, there in has.items() if there]

    @classmethod
    def of(cls, caller: Caller) -> Methods:
        found = _read.first(user=caller.id)
        return NOTHING if found is None else cls._read(found, WebAuthnCredential.of(caller))

    @classmethod
    def _read(cls, found: _Found, credentials: list[WebAuthnCredential]) -> Methods:
        return cls(
            Enabled(found.totp_id, found.totp_since, found.totp_used_at) if found.totp_id else None,
            Mailbox(found.email_id, found.email_since, found.email_used_at, found.address) if found.email_id else None,
            credentials,
            Counts(found.made, found.left, found.generated_at) if found.generated_at else NO_CODES,
        )


NOTHING = Methods()


class _Found(NamedTuple):
    totp_id: UUID | None
    totp_since: datetime
    totp_used_at: datetime | None
    email_id: UUID | None
    email_since: datetime
    email_used_at: datetime | None
    address: str
    generated_at: datetime | None
    made: int
    left: int


def _codes(user: Any, *condition: Any) -> Any:
    return BackupCode.select(peewee.fn.COUNT(BackupCode.digest)).where(BackupCode.user == user, *condition)


_read = Query(
    lambda user: (
        User.select(
            TotpSecret.device_id,
            TotpSecret.confirmed_at,
            TotpSecret.last_used_at,
            EmailFactor.device_id,
            EmailFactor.confirmed_at,
            EmailFactor.last_used_at,
            EmailFactor.address,
            BackupCodeSet.generated_at,
            _codes(user),
            _codes(user, BackupCode.used_at.is_null()),
        )
        .left_outer_join(TotpSecret, on=(TotpSecret.user == User.id) & TotpSecret.confirmed_at.is_null(False))
        .switch(User)
        .left_outer_join(EmailFactor, on=(EmailFactor.user == User.id) & EmailFactor.confirmed_at.is_null(False))
        .switch(User)
        .left_outer_join(BackupCodeSet, on=BackupCodeSet.user == User.id)
        .where(User.id == user)
    ),
    _Found,
)


def forget_the_rest(caller: Caller) -> bool:
    """After a method was removed: whether any is left. With the last one, backup codes and all that is open go."""
    if Methods.of(caller).enabled:
        return True
    BackupCodeSet.forget(caller)
    for table in (WebAuthnRegistration, Challenge):
        table.delete().where(table.user == caller.id).execute()
    return False
