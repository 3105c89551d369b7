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
from storage.statement import Addition, Change, Query
from storage.user import Caller, User

LIFETIME = timedelta(minutes=5)
EMAIL_LIFETIME = timedelta(minutes=10)
MOST_OPEN = 5


class Challenge(Model):
    """A request to prove one's factors. Its kind is the method that was asked for, or empty for any but e-mail.

    `purpose` is who asked: the user, or an app's backend for them. `session` is the `sid` of the access token that
    asked, where it has one: no other session of the user can answer.
    """

    user = peewee.ForeignKeyField(User, on_delete="CASCADE")
    user_id: UUID
    challenge_id = peewee.UUIDField()
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
        primary_key = peewee.CompositeKey("user", "challenge_id")

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
        row = cls(
            challenge_id=uuid.uuid4(),
            user=caller.id,
            purpose=caller.purpose,
            session=caller.session,
            method=method,
            webauthn_challenge=webauthn_challenge,
            user_verification=user_verification,
            code_digest=None,
            created_at=now,
            expires_at=now + (LIFETIME if code is None else EMAIL_LIFETIME),
        )
        if code is not None:
            row.code_digest = sealing.digest(code, *_context(caller.id, row.challenge_id))
            cls.delete().where(cls.user == caller.id, cls.code_digest.is_null(False)).execute()
        _open(**row.__data__)
        _drop_oldest(user=caller.id)
        return row

    @classmethod
    def find(cls, caller: Caller, challenge_id: UUID, now: datetime) -> Challenge:
        """The caller's open challenge. Raises ChallengeNotFound."""
        row = _read.first(challenge_id=challenge_id, now=now, **_asked_by(caller))
        if row is None:
            raise ChallengeNotFound
        return row

    @classmethod
    def mailed(cls, caller: Caller, now: datetime) -> Challenge | None:
        """The caller's open challenge that a code was mailed for."""
        return _read_mailed.first(now=now, **_asked_by(caller))

    def check(self, code: str) -> None:
        """Raises InvalidCode unless `code` was mailed for this challenge."""
        if self.code_digest is None or not sealing.digest_matches(
            self.code_digest, code, *_context(self.user_id, self.challenge_id)
        ):
            raise InvalidCode(reason="wrong")

    def take(self) -> bool:
        """Use the challenge up: whether this request was the one that did."""
        return _take(user=self.user_id, challenge_id=self.challenge_id) == 1


def _asked_by(caller: Caller) -> dict[str, Any]:
    return {"user": caller.id, "purpose": caller.purpose, "session": caller.session}


def _context(user: UUID, challenge_id: UUID) -> tuple[str, ...]:
    return ("challenge", user.hex, challenge_id.hex)


def _is_open(user: Any, purpose: Any, session: Any, now: Any) -> Any:
    return (
        (Challenge.user == user)
        & (Challenge.purpose == purpose)
        & (Challenge.session == session)
        & (Challenge.expires_at > now)
    )


_open = Addition(Challenge)
_drop_oldest = Change(
    lambda user: Challenge.delete().where(
        Challenge.user == user,
        Challenge.challenge_id.not_in(
            Challenge.select(Challenge.challenge_id)
            .where(Challenge.user == user)
            .order_by(Challenge.created_at.desc(), Challenge.challenge_id)
            .limit(MOST_OPEN)
        ),
    )
)
_read = Query(
    lambda challenge_id, user, purpose, session, now: Challenge.select().where(
        _is_open(user, purpose, session, now), Challenge.challenge_id == challenge_id
    ),
    Challenge,
)
_read_mailed = Query(
    lambda user, purpose, session, now: Challenge.select().where(
        _is_open(user, purpose, session, now), Challenge.code_digest.is_null(False)
    ),
    Challenge,
)
_take = Change(
    lambda user, challenge_id: Challenge.delete().where(Challenge.user == user, Challenge.challenge_id == challenge_id)
)
