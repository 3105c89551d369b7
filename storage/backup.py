"""Backup codes: a set of ten, of which each works once. Only Argon2id digests are kept, under one salt per set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import peewee

from factors.errors import InvalidCode
from storage.database import Model, UtcDateTimeField
from storage.user import Caller, User


class BackupCodeSet(Model):
    """The salt of a user's set and when it was made."""

    user = peewee.ForeignKeyField(User, primary_key=True, on_delete="CASCADE")
    salt = peewee.BlobField()
    generated_at = UtcDateTimeField()

    class Meta:
        table_name = "backup_code_set"

    @classmethod
    def of(cls, caller: Caller) -> Self | None:
        row: Self | None = cls.get_or_none(cls.user == caller.id)
        return row

    @classmethod
    def replace_all(cls, caller: Caller, salt: bytes, digests: Sequence[bytes], now: datetime) -> None:
        """Keep a new set; the old one is dead in the same transaction (BCK-05)."""
        cls.forget(caller)
        cls.insert(user=caller.id, salt=salt, generated_at=now).execute()
        BackupCode.insert_many(
            [(caller.id, digest) for digest in digests], [BackupCode.user, BackupCode.digest]
        ).execute()

    @classmethod
    def forget(cls, caller: Caller) -> None:
        cls.delete().where(cls.user == caller.id).execute()


class BackupCode(Model):
    """One code's digest, found only together with its owner (BCK-04)."""

    user = peewee.ForeignKeyField(BackupCodeSet, on_delete="CASCADE")
    digest = peewee.BlobField()
    used_at = UtcDateTimeField(null=True)

    class Meta:
        table_name = "backup_code"
        primary_key = peewee.CompositeKey("user", "digest")

    @classmethod
    def spend(cls, caller: Caller, digest: bytes, now: datetime) -> None:
        """Use a code up. Raises InvalidCode when there is no such code, or it was used."""
        spent = (
            cls.update(used_at=now).where(cls.user == caller.id, cls.digest == digest, cls.used_at.is_null()).execute()
        )
        if spent != 1:
            raise InvalidCode(reason="wrong")

    @classmethod
    def remaining(cls, caller: Caller) -> int:
        return int(cls.select().where(cls.user == caller.id, cls.used_at.is_null()).count())


@dataclass(frozen=True, slots=True)
class Counts:
    """How many codes there are, how many are left, and since when; zeros and None without a set."""

    total: int = 0
    remaining: int = 0
    generated_at: datetime | None = None
