"""Nothing that has expired stays (REL-03)."""

from __future__ import annotations

from datetime import datetime

import peewee

from storage.challenge import Challenge
from storage.database import atomic
from storage.email import EmailFactor
from storage.mail_quota import LONGEST, MailQuota
from storage.outbox import OutboxMail
from storage.totp import TotpSecret
from storage.webauthn import WebAuthnRegistration


def purge(now: datetime) -> int:
    """Delete what has expired by `now`, each table in its own transaction. Returns how many rows went.

    Pending enrolments go only once confirming them is over: a row that was confirmed has no `expires_at`.
    """
    expired: list[tuple[type[peewee.Model], peewee.Expression]] = [
        (TotpSecret, TotpSecret.expires_at <= now),
        (EmailFactor, EmailFactor.expires_at <= now),
        (Challenge, Challenge.expires_at <= now),
        (WebAuthnRegistration, WebAuthnRegistration.expires_at <= now),
        (OutboxMail, OutboxMail.expires_at <= now),
        (MailQuota, MailQuota.last_sent_at <= now - LONGEST),
    ]
    gone = 0
    for table, condition in expired:
        with atomic():
            gone += table.delete().where(condition).execute()
    return gone
