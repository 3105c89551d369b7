"""Open challenges: one user, one purpose, satisfied once."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

import peewee

from factors.errors import ChallengeNotFound, InvalidCode
from storage import sealing
from storage.database import Model, UtcDateTimeField
from storage.user import Caller, User

LIFETIME = timedelta(minutes=5)
EMAIL_LIFETIME = timedelta(minutes=10)
MOST_OPEN = 5


class Challenge(Model):
    """A request to prove one's factors. Its kind is the method that was asked for, or empty for any but e-mail.

    `purpose` is who asked: the user, or an app's backend for them. `session` is the `sid` of the access token that
    asked, where it has one: no other session of the user can answer.
    """

    challenge_id = peewee.UUIDField(primary_key=True)
    user = peewee.ForeignKeyField(User, on_delete="CASCADE")
    user_id: UUID
    purpose = peewee.TextField()
    session = peewee.TextField()
    method = peewee.TextField()
    webauthn_challenge = peewee.BlobField(null=True)
    user_verification = peewee.TextField()
    code_digest = peewee.TextField(null=True)
    created_at = UtcDateTimeField()
    expires_at = UtcDateTimeField()

    class Meta:
        table_name = "challenge"

    @classmethod
    def open(
        cls,
        caller: Caller,
        now: datetime,
        *,
        method: str,
        user_verification: str,
        webauthn_challenge: bytes | None = None,
        code: str | None = None,
    ) -> Self:
        """Open a challenge; beyond five, the user's oldest are dropped, and a new mailed code kills the one before."""
        challenge_id = uuid.uuid4()
        if code is not None:
            cls.delete().where(cls.user == caller.id, cls.code_digest.is_null(False)).execute()
        row: Self = cls.create(
            challenge_id=challenge_id,
            user=caller.id,
            purpose=caller.purpose,
            session=caller.session,
            method=method,
            webauthn_challenge=webauthn_challenge,
            user_verification=user_verification,
            code_digest=None if code is None else sealing.digest(code, *_context(caller.id, challenge_id)),
            created_at=now,
            expires_at=now + (LIFETIME if code is None else EMAIL_LIFETIME),
        )
        newest = (
            cls.select(cls.challenge_id)
            .where(cls.user == caller.id)
            .order_by(cls.created_at.desc(), cls.challenge_id)
            .limit(MOST_OPEN)
        )
        cls.delete().where(cls.user == caller.id, cls.challenge_id.not_in(newest)).execute()
        return row

    @classmethod
    def find(cls, caller: Caller, challenge_id: UUID, now: datetime) -> Self:
        """The caller's open challenge. Raises ChallengeNotFound."""
        row: Self | None = cls.get_or_none(cls._open(caller, now), cls.challenge_id == challenge_id)
        if row is None:
            raise ChallengeNotFound
        return row

    @classmethod
    def mailed(cls, caller: Caller, now: datetime) -> Self | None:
        """The caller's open challenge that a code was mailed for."""
        row: Self | None = cls.get_or_none(cls._open(caller, now), cls.code_digest.is_null(False))
        return row

    def check(self, code: str) -> None:
        """Raises InvalidCode unless `code` was mailed for this challenge."""
        if self.code_digest is None or not sealing.digest_matches(
            self.code_digest, code, *_context(self.user_id, self.challenge_id)
        ):
            raise InvalidCode(reason="wrong")

    def take(self) -> bool:
        """Use the challenge up: whether this request was the one that did."""
        cls = type(self)
        taken = cls.delete().where(cls.user == self.user_id, cls.challenge_id == self.challenge_id).execute()
        return int(taken) == 1

    @classmethod
    def _open(cls, caller: Caller, now: datetime) -> Any:
        return (
            (cls.user == caller.id)
            & (cls.purpose == caller.purpose)
            & (cls.session == caller.session)
            & (cls.expires_at > now)
        )


def _context(user: UUID, challenge_id: UUID) -> tuple[str, ...]:
    return ("challenge", user.hex, challenge_id.hex)
