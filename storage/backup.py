"""Backup codes: a set of ten, of which each works once. Only Argon2id digests are kept, under one salt per set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import peewee

from factors.errors import InvalidCode
from storage.database import Model, UtcDateTimeField
from storage.statement import Addition, Change, Query
from storage.user import Caller, User


class BackupCodeSet(Model):
    """The salt of a user's set and when it was made."""

    user = peewee.ForeignKeyField(User, primary_key=True, on_delete="CASCADE")
    salt = peewee.BlobField()
    generated_at = UtcDateTimeField()

    class Meta:
        table_name = "backup_code_set"

    @classmethod
    def of(cls, caller: Caller) -> BackupCodeSet | None:
        return _read_set.first(user=caller.id)

    @classmethod
    def replace_all(cls, caller: Caller, salt: bytes, digests: Sequence[bytes], now: datetime) -> None:
        """Keep a new set; the old one is dead in the same transaction (BCK-05)."""
        cls.forget(caller)
        _add_set(user=caller.id, salt=salt, generated_at=now)
        codes = [(caller.id, digest) for digest in digests]
        BackupCode.insert_many(codes, [BackupCode.user, BackupCode.digest]).execute()

    @classmethod
    def forget(cls, caller: Caller) -> None:
        _forget_set(user=caller.id)


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
        if _spend(user=caller.id, digest=digest, now=now) != 1:
            raise InvalidCode(reason="wrong")

    @classmethod
    def remaining(cls, caller: Caller) -> int:
        return int(cls.select().where(cls.user == caller.id, cls.used_at.is_null()).count())


_read_set = Query(lambda user: BackupCodeSet.select().where(BackupCodeSet.user == user), BackupCodeSet)
_add_set = Addition(BackupCodeSet)
_forget_set = Change(lambda user: BackupCodeSet.delete().where(BackupCodeSet.user == user))
_spend = Change(
    lambda user, digest, now: BackupCode.update(used_at=now).where(
        BackupCode.user == user, BackupCode.digest == digest, BackupCode.used_at.is_null()
    )
)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many codes there are, how many are left, and since when; zeros and None without a set."""

    total: int = 0
    remaining: int = 0
    generated_at: datetime | None = None
