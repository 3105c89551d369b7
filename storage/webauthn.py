"""Security keys, and the registrations that are open."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

import peewee

from factors.errors import ChallengeNotFound, CredentialExists, DeviceNotFound, InvalidCredential, TooManyDevices
from storage.database import Model, UtcDateTimeField
from storage.statement import Addition, Change, Query
from storage.user import Caller, User

CHALLENGE_LIFETIME = timedelta(minutes=5)
MOST_DEVICES = 25
MOST_OPEN_REGISTRATIONS = 5


class WebAuthnCredential(Model):
    """A credential record (W3C WebAuthn Level 3, section 4)."""

    user = peewee.ForeignKeyField(User, on_delete="CASCADE")
    user_id: UUID
    device_id = peewee.UUIDField()
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
        primary_key = peewee.CompositeKey("user", "device_id")

    @classmethod
    def of(cls, caller: Caller) -> list[WebAuthnCredential]:
        return _of.all(user=caller.id)

    @classmethod
    def check_room(cls, caller: Caller) -> None:
        """Raises TooManyDevices when the user has as many keys as a user may have."""
        if len(cls.of(caller)) >= MOST_DEVICES:
            raise TooManyDevices

    @classmethod
    def add(cls, caller: Caller, now: datetime, **record: object) -> None:
        """Keep a new credential. The caller has begun the transaction with `User.change_factors`.

        Raises TooManyDevices; CredentialExists when it is the caller's own; InvalidCredential when it is another
        user's, which tells nothing about them (PRV-02).
        """
        cls.check_room(caller)
        if _add(user=caller.id, created_at=now, last_used_at=None, **record) == 1:
            return
        # Whose it is needs no look at other users' rows.
        if any(bytes(own.credential_id) == record["credential_id"] for own in cls.of(caller)):
            raise CredentialExists
        raise InvalidCredential(reason="registered to another user")

    @classmethod
    def allowed(cls, caller: Caller, credential_id: bytes, offered_at: datetime) -> WebAuthnCredential:
        """The caller's credential, if it was among those offered then (WAA-01, WAA-09). Raises InvalidCredential."""
        row = _allowed.first(user=caller.id, credential_id=credential_id, offered_at=offered_at)
        if row is None:
            raise InvalidCredential(reason="unknown_credential")
        return row

    def use(self, sign_count: int, *, backed_up: bool, user_verified: bool, now: datetime) -> None:
        """Note a use, unless the sign count did not grow, which a copied key would show (WAA-06).

        Raises InvalidCredential.
        """
        used = _use(
            user=self.user_id,
            device_id=self.device_id,
            sign_count=sign_count,
            backed_up=backed_up,
            user_verified=user_verified,
            now=now,
        )
        if used != 1:
            raise InvalidCredential(reason="sign_count")

    @classmethod
    def remove(cls, caller: Caller, device_id: UUID) -> str:
        """The name of the key that is gone. Raises DeviceNotFound when the caller has no such key."""
        removed = _remove.all(user=caller.id, device_id=device_id)
        if not removed:
            raise DeviceNotFound
        return str(removed[0].name)


class WebAuthnRegistration(Model):
    """An open registration: a challenge for one user, taken once (WAR-01 to WAR-03)."""

    user = peewee.ForeignKeyField(User, on_delete="CASCADE")
    user_id: UUID
    challenge_id = peewee.UUIDField()
    device_id = peewee.UUIDField()
    challenge = peewee.BlobField()
    user_verification = peewee.TextField()
    created_at = UtcDateTimeField()
    expires_at = UtcDateTimeField()

    class Meta:
        table_name = "webauthn_registration"
        primary_key = peewee.CompositeKey("user", "challenge_id")

    @classmethod
    def begin(cls, caller: Caller, challenge: bytes, user_verification: str, now: datetime) -> Self:
        """Open a registration; beyond five, the oldest are dropped."""
        row = cls(
            challenge_id=uuid.uuid4(),
            user=caller.id,
            device_id=uuid.uuid4(),
            challenge=challenge,
            user_verification=user_verification,
            created_at=now,
            expires_at=now + CHALLENGE_LIFETIME,
        )
        _begin(**row.__data__)
        _drop_oldest(user=caller.id)
        return row

    @classmethod
    def take(cls, caller: Caller, challenge_id: UUID, device_id: UUID, now: datetime) -> WebAuthnRegistration:
        """Take the registration; whatever comes of it, it is used up. Raises ChallengeNotFound."""
        taken = _take.first(user=caller.id, challenge_id=challenge_id, device_id=device_id, now=now)
        if taken is None:
            raise ChallengeNotFound
        return taken


_of = Query(
    lambda user: (
        WebAuthnCredential.select()
        .where(WebAuthnCredential.user == user)
        .order_by(WebAuthnCredential.created_at, WebAuthnCredential.device_id)
    ),
    WebAuthnCredential,
)
# Without naming what is unique: where the table is partitioned by user, a trigger keeps credential ids unique.
_add = Addition(WebAuthnCredential, unless_there=True)
_allowed = Query(
    lambda user, credential_id, offered_at: WebAuthnCredential.select().where(
        WebAuthnCredential.user == user,
        WebAuthnCredential.credential_id == credential_id,
        WebAuthnCredential.created_at <= offered_at,
    ),
    WebAuthnCredential,
)
# Both counts are zero, or the new one is greater (W3C WebAuthn Level 3, section 7.2, step 22).
_use = Change(
    lambda user, device_id, sign_count, backed_up, user_verified, now: WebAuthnCredential.update(
        sign_count=sign_count,
        backed_up=backed_up,
        uv_initialized=WebAuthnCredential.uv_initialized | user_verified,
        last_used_at=now,
    ).where(
        WebAuthnCredential.user == user,
        WebAuthnCredential.device_id == device_id,
        (WebAuthnCredential.sign_count < sign_count)
        | ((WebAuthnCredential.sign_count == 0) & (WebAuthnCredential.sign_count == sign_count)),
    )
)
_remove = Query(
    lambda user, device_id: (
        WebAuthnCredential.delete()
        .where(WebAuthnCredential.user == user, WebAuthnCredential.device_id == device_id)
        .returning(WebAuthnCredential.name)
    ),
    WebAuthnCredential,
)
_begin = Addition(WebAuthnRegistration)
_drop_oldest = Change(
    lambda user: WebAuthnRegistration.delete().where(
        WebAuthnRegistration.user == user,
        WebAuthnRegistration.challenge_id.not_in(
            WebAuthnRegistration.select(WebAuthnRegistration.challenge_id)
            .where(WebAuthnRegistration.user == user)
            .order_by(WebAuthnRegistration.created_at.desc(), WebAuthnRegistration.challenge_id)
            .limit(MOST_OPEN_REGISTRATIONS)
        ),
    )
)
_take = Query(
    lambda user, challenge_id, device_id, now: (
        WebAuthnRegistration.delete()
        .where(
            WebAuthnRegistration.user == user,
            WebAuthnRegistration.challenge_id == challenge_id,
            WebAuthnRegistration.device_id == device_id,
            WebAuthnRegistration.expires_at > now,
        )
        .returning(WebAuthnRegistration)
    ),
    WebAuthnRegistration,
)
