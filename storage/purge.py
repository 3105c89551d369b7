"""Nothing that has expired stays (REL-03)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from storage.audit import AuditEvent
from storage.challenge import Challenge
from storage.database import atomic
from storage.email import EmailFactor
from storage.mail_quota import LONGEST, MailQuota
from storage.outbox import OutboxMail
from storage.totp import TotpSecret
from storage.webauthn import WebAuthnRegistration

# Rows that one transaction deletes, and that one purge deletes of one table: requests are answered meanwhile, and
# what is left goes a minute later.
BATCH = 500
MOST = 50_000


def purge(now: datetime, audit_retention: timedelta | None = None) -> int:
    """Delete what has expired by `now`, a batch in each transaction. Returns how many rows went.

    Pending enrolments go only once confirming them is over: a row that was confirmed has no `expires_at`.
    Audit events go when they are older than `audit_retention`; without it they stay.
    """
    limits: list[tuple[Any, Any]] = [
        (TotpSecret.expires_at, now),
        (EmailFactor.expires_at, now),
        (Challenge.expires_at, now),
        (WebAuthnRegistration.expires_at, now),
        (OutboxMail.expires_at, now),
        (MailQuota.last_sent_at, now - LONGEST),
    ]
    if audit_retention is not None:
        limits.append((AuditEvent.at, now - audit_retention))
    return sum(_delete(field, limit) for field, limit in limits)


def _delete(field: Any, limit: Any) -> int:
    """Delete the rows whose `field` is at most `limit`, the first of them first."""
    gone, more = 0, True
    while more and gone < MOST:
        expired = field.model.select(field).where(field <= limit).order_by(field)
        end = expired.offset(BATCH - 1).limit(1).tuples().first()
        more = end is not None
        with atomic():
            # A row that is confirmed while this waits for it no longer fits the condition, and stays.
            gone += field.model.delete().where(field <= (end[0] if end else limit)).execute()
    return gone
