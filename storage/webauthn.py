"""Security keys, and the registrations that are open."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

import peewee

from factors.errors import ChallengeNotFound, CredentialExists, DeviceNotFound, InvalidCredential, TooManyDevices
from storage.database import Model, UtcDateTimeField
from storage.user import Caller, User

CHALLENGE_LIFETIME = timedelta(minutes=5)
MOST_DEVICES = 25
MOST_OPEN_REGISTRATIONS = 5


class WebAuthnCredential(Model):
    """A credential record (W3C WebAuthn Level 3, section 4)."""

    device_id = peewee.UUIDField(primary_key=True)
    user = peewee.ForeignKeyField(User, on_delete="CASCADE", backref="credentials")
    user_id: UUID
    credential_id = peewee.BlobField(unique=True)
    public_key = peewee.BlobField()
    sign_count = peewee.BigIntegerField()
    aaguid = peewee.UUIDField()
    name = peewee.TextField()
    transports = peewee.TextField()
    uv_initialized = peewee.BooleanField()
    backup_eligible = peewee.BooleanField()
    backed_up = peewee.BooleanField()
    created_at = UtcDateTimeField()
    last_used_at = UtcDateTimeField(null=True)

    class Meta:
        table_name = "webauthn_credential"

    @classmethod
    def of(cls, caller: Caller) -> list[Self]:
        return list(cls.select().where(cls.user == caller.id).order_by(cls.created_at, cls.device_id))

    @classmethod
    def check_room(cls, caller: Caller) -> None:
        """Raises TooManyDevices when the user has as many keys as a user may have."""
        if cls.select().where(cls.user == caller.id).count() >= MOST_DEVICES:
            raise TooManyDevices

    @classmethod
    def add(cls, caller: Caller, now: datetime, **record: object) -> Self:
        """Keep a new credential. The caller has begun the transaction with `User.change_factors`.

        Raises TooManyDevices; CredentialExists when it is the caller's own; InvalidCredential when it is another
        user's, which tells nothing about them (PRV-02).
        """
        cls.check_room(caller)
        kept: Sequence[object] = (
            cls.insert(user=caller.id, created_at=now, **record)
            .on_conflict(conflict_target=[cls.credential_id], action="IGNORE")
            .returning(cls.device_id)
            .execute()
        )
        if not list(kept):
            owner = cls.get(cls.credential_id == record["credential_id"]).user_id
            raise CredentialExists if owner == caller.id else InvalidCredential(reason="registered to another user")
        return cls(user=caller.id, created_at=now, **record)

    @classmethod
    def allowed(cls, caller: Caller, credential_id: bytes, offered_at: datetime) -> Self:
        """The caller's credential, if it was among those offered then (WAA-01, WAA-09). Raises InvalidCredential."""
        row: Self | None = cls.get_or_none(
            cls.user == caller.id, cls.credential_id == credential_id, cls.created_at <= offered_at
        )
        if row is None:
            raise InvalidCredential(reason="unknown_credential")
        return row

    def use(self, sign_count: int, *, backed_up: bool, user_verified: bool, now: datetime) -> None:
        """Note a use, unless the sign count did not grow, which a copied key would show (WAA-06).

        Raises InvalidCredential.
        """
        cls = type(self)
        counts = cls.sign_count < sign_count if sign_count else cls.sign_count == 0
        used = (
            cls.update(
                sign_count=sign_count,
                backed_up=backed_up,
                uv_initialized=cls.uv_initialized | user_verified,
                last_used_at=now,
            )
            .where(cls.user == self.user_id, cls.device_id == self.device_id, counts)
            .execute()
        )
        if used != 1:
            raise InvalidCredential(reason="sign_count")

    @classmethod
    def remove(cls, caller: Caller, device_id: UUID) -> str:
        """The name of the key that is gone. Raises DeviceNotFound when the caller has no such key."""
        removed = list(
            cls.delete().where(cls.user == caller.id, cls.device_id == device_id).returning(cls.name).execute()
        )
        if not removed:
            raise DeviceNotFound
        return str(removed[0].name)


class WebAuthnRegistration(Model):
    """An open registration: a challenge for one user, taken once (WAR-01 to WAR-03)."""

    challenge_id = peewee.UUIDField(primary_key=True)
    user = peewee.ForeignKeyField(User, on_delete="CASCADE")
    user_id: UUID
    device_id = peewee.UUIDField()
    challenge = peewee.BlobField()
    user_verification = peewee.TextField()
    created_at = UtcDateTimeField()
    expires_at = UtcDateTimeField()

    class Meta:
        table_name = "webauthn_registration"

    @classmethod
    def begin(cls, caller: Caller, challenge: bytes, user_verification: str, now: datetime) -> Self:
        """Open a registration; beyond five, the oldest are dropped."""
        row: Self = cls.create(
            challenge_id=uuid.uuid4(),
            user=caller.id,
            device_id=uuid.uuid4(),
            challenge=challenge,
            user_verification=user_verification,
            created_at=now,
            expires_at=now + CHALLENGE_LIFETIME,
        )
        newest = (
            cls.select(cls.challenge_id)
            .where(cls.user == caller.id)
            .order_by(cls.created_at.desc(), cls.challenge_id)
            .limit(MOST_OPEN_REGISTRATIONS)
        )
        cls.delete().where(cls.user == caller.id, cls.challenge_id.not_in(newest)).execute()
        return row

    @classmethod
    def take(cls, caller: Caller, challenge_id: UUID, device_id: UUID, now: datetime) -> Self:
        """Take the registration; whatever comes of it, it is used up. Raises ChallengeNotFound."""
        taken: list[Self] = list(
            cls.delete()
            .where(
                cls.user == caller.id,
                cls.challenge_id == challenge_id,
                cls.device_id == device_id,
                cls.expires_at > now,
            )
            .returning(cls)
            .execute()
        )
        if not taken:
            raise ChallengeNotFound
        return taken[0]
