"""Mail that waits to be sent: sealed, written in the transaction that it reports, deleted once sent.

Several couriers may look for mail at once, in threads, processes and machines. One of them gets a mail, by one
guarded UPDATE that also moves the mail's next attempt to the end of a lease: a courier that dies while it sends
leaves nothing behind that anyone must clean up. So a mail is sent at least once, and twice only when a courier
dies, or loses the database, between the mail server's answer and the DELETE.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Self, cast
from uuid import UUID

import peewee

from storage import sealing
from storage.database import Model, UtcDateTimeField, atomic
from storage.statement import Addition, Query
from storage.user import Caller

# Longer than any conversation with a mail server that gets anywhere, and than the clocks of two machines differ.
LEASE = timedelta(minutes=2)
# After a failed attempt: 2 s, doubled each time, at most a minute, so that a code still arrives after an outage.
FIRST_PAUSE = timedelta(seconds=2)
LONGEST_PAUSE = timedelta(minutes=1)
PAUSES = [min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) for n in range(6)]
# A courier that loses the race for one mail tries for the next of these.
CANDIDATES = 8

# Set whenever this process puts mail, to wake its couriers. The mail is visible only once its transaction commits.
mail_was_put = threading.Event()

Template = Literal["code", "notice"]


@dataclass(frozen=True, slots=True)
class Mail:
    """What is to be said to whom.

    Args:
        template: `code`, with the value `code`; or `notice`, with `event` and, where the event has them, `name` of a
            security key and `remaining` backup codes.
        to: The address.
        values: What the template needs, besides the time, which is that of `put`.
    """

    template: Template
    to: str = field(repr=False)
    values: Mapping[str, str | int | datetime] = field(repr=False)


class OutboxMail(Model):
    """One mail. `sealed` is the JSON of its recipient and values; `attempts` counts claims, and so names the latest."""

    id = peewee.UUIDField(primary_key=True)
    user_id = peewee.UUIDField()
    template = peewee.TextField()
    sealed = peewee.TextField()
    attempts = peewee.IntegerField(default=0)
    created_at = UtcDateTimeField()
    next_attempt_at = UtcDateTimeField()
    expires_at = UtcDateTimeField()

    class Meta:
        table_name = "outbox_mail"
        indexes = ((("expires_at",), False),)

    @classmethod
    def put(cls, user: Caller | UUID, mail: Mail, now: datetime, expires_at: datetime) -> None:
        """Write a mail, in the transaction that is open; the courier sends it as soon as that commits.

        `expires_at` is when it is no longer worth sending: the code in it has expired.
        """
        row = uuid.uuid4()
        user_id = user.id if isinstance(user, Caller) else user
        message = json.dumps({"to": mail.to, "values": mail.values}, default=datetime.isoformat)
        _put(
            id=row,
            user_id=user_id,
            template=mail.template,
            sealed=sealing.seal(message.encode(), table="outbox_mail", user=user_id, row=row),
            attempts=0,
            created_at=now,
            next_attempt_at=now,
            expires_at=expires_at,
        )
        mail_was_put.set()

    @classmethod
    def claim(cls, now: datetime) -> OutboxMail | None:
        """Take a mail that is due, for as long as the lease; None when there is none. Commits by itself.

        The one that expires first goes first, so codes never wait behind a pile of notices; one index serves that
        order and the purge. Looking for mail is one SELECT on it: only a mail that is there costs a write.
        """
        for mail in _due.all(now=now):
            with atomic():
                claimed = (
                    cls.update(attempts=cls.attempts + 1, next_attempt_at=now + LEASE)
                    .where(cls.id == mail.id, cls.attempts == mail.attempts, cls.next_attempt_at <= now)
                    .execute()
                )
            if claimed == 1:
                mail.attempts += 1
                return mail
        return None

    def open(self) -> Mail:
        """The mail itself. Raises sealing.Unsealable."""
        message = sealing.unseal(self.sealed, table="outbox_mail", user=self.user_id, row=self.id)
        return Mail(cast(Template, self.template), **json.loads(message))

    def delay(self, now: datetime) -> None:
        """Try again after a pause, which grows; unless another courier has taken the mail since."""
        cls = type(self)
        pause = PAUSES[min(self.attempts, len(PAUSES)) - 1]
        cls.update(next_attempt_at=now + pause).where(cls.id == self.id, cls.attempts == self.attempts).execute()

    def remove(self) -> None:
        """It was sent, or never will be: nothing of it stays."""
        cls = type(self)
        cls.delete().where(cls.id == self.id).execute()

    @classmethod
    def expire(cls, now: datetime) -> list[Self]:
        """Give up what has expired, and return it."""
        return list(cls.delete().where(cls.expires_at <= now).returning(cls).execute())


_put = Addition(OutboxMail)
_due = Query(
    lambda now: (
        OutboxMail.select()
        .where(OutboxMail.next_attempt_at <= now, OutboxMail.expires_at > now)
        .order_by(OutboxMail.expires_at)
        .limit(CANDIDATES)
    ),
    OutboxMail,
)
