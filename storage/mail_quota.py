"""How many codes may be mailed: one a minute, 5 an hour, 20 a day, to one user and to one mailbox (EML-06)."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from uuid import UUID

import peewee

from factors.errors import StorageUnavailable, TooManyEmails
from storage.database import Model, UtcDateTimeField

RESEND = timedelta(seconds=60)
LIMITS = ((1, RESEND), (5, timedelta(hours=1)), (20, timedelta(days=1)))
LONGEST = max(length for _, length in LIMITS)
TRIES = 8


class MailQuota(Model):
    """When codes were last mailed for one key: a user's id, or a mailbox's."""

    key = peewee.UUIDField(primary_key=True)
    sent_at = peewee.TextField()
    last_sent_at = UtcDateTimeField()

    class Meta:
        table_name = "mail_quota"

    @classmethod
    def spend(cls, key: UUID, now: datetime) -> None:
        """Count one mail. Raises TooManyEmails with the seconds until the next one may be asked for.

        The times are exchanged only for those that were read, so sends at the same moment count too.
        """
        for _ in range(TRIES):
            cls.insert(key=key, sent_at="[]", last_sent_at=now).on_conflict_ignore().execute()
            try:
                known = cls.get_by_id(key).sent_at
            except peewee.DoesNotExist:
                # The purge came between these two, and took what was a day old.
                continue
            times = [at for at in map(datetime.fromisoformat, json.loads(known)) if at > now - LONGEST]
            wait = max(_wait(times, now, most, length) for most, length in LIMITS)
            if wait > timedelta():
                raise TooManyEmails(retry_after=math.ceil(wait.total_seconds()))
            times.append(now)
            written = json.dumps([at.isoformat() for at in times])
            if cls.update(sent_at=written, last_sent_at=now).where(cls.key == key, cls.sent_at == known).execute() == 1:
                return
        raise StorageUnavailable(reason="mail quota contended")


def _wait(times: list[datetime], now: datetime, most: int, length: timedelta) -> timedelta:
    recent = [at for at in times if at > now - length]
    return recent[-most] + length - now if len(recent) >= most else timedelta()
