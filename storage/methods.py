"""All of a user's methods at once, in two statements."""

from __future__ import annotations

from dataclasses import dataclass, field

import peewee

from storage.backup import BackupCode, BackupCodeSet, Counts
from storage.challenge import Challenge
from storage.email import EmailFactor
from storage.totp import TotpSecret
from storage.user import Caller, User
from storage.webauthn import WebAuthnCredential, WebAuthnRegistration

NO_CODES = Counts()


@dataclass(frozen=True, slots=True)
class Methods:
    """What a user has confirmed, and how many backup codes are left."""

    totp: TotpSecret | None = None
    email: EmailFactor | None = None
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
        remaining = BackupCode.select(peewee.fn.COUNT(BackupCode.digest)).where(
            BackupCode.user == caller.id, BackupCode.used_at.is_null()
        )
        total = BackupCode.select(peewee.fn.COUNT(BackupCode.digest)).where(BackupCode.user == caller.id)
        row = (
            User.select(User.id, TotpSecret, EmailFactor, BackupCodeSet, remaining.alias("left"), total.alias("made"))
            .left_outer_join(
                TotpSecret, on=(TotpSecret.user == User.id) & TotpSecret.confirmed_at.is_null(False), attr="totp"
            )
            .switch(User)
            .left_outer_join(
                EmailFactor, on=(EmailFactor.user == User.id) & EmailFactor.confirmed_at.is_null(False), attr="email"
            )
            .switch(User)
            .left_outer_join(BackupCodeSet, on=BackupCodeSet.user == User.id, attr="code_set")
            .where(User.id == caller.id)
            .first()
        )
        if row is None:
            return cls()
        code_set = getattr(row, "code_set", None)
        return cls(
            getattr(row, "totp", None),
            getattr(row, "email", None),
            WebAuthnCredential.of(caller),
            Counts(row.made, row.left, code_set.generated_at) if code_set else NO_CODES,
        )


def forget_the_rest(caller: Caller) -> bool:
    """After a method was removed: whether any is left. With the last one, backup codes and all that is open go."""
    if any(
        table.select().where(table.user == caller.id, condition).exists()
        for table, condition in (
            (TotpSecret, TotpSecret.confirmed_at.is_null(False)),
            (EmailFactor, EmailFactor.confirmed_at.is_null(False)),
            (WebAuthnCredential, True),
        )
    ):
        return True
    BackupCodeSet.forget(caller)
    for table in (WebAuthnRegistration, Challenge):
        table.delete().where(table.user == caller.id).execute()
    return False
