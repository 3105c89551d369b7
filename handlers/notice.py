"""Mail that tells a user what happened to their factors (NOT-01)."""

from __future__ import annotations

from datetime import datetime, timedelta

from storage.email import EmailFactor
from storage.outbox import Mail, OutboxMail
from storage.user import Caller

LIFETIME = timedelta(hours=24)


def send(caller: Caller, event: str, now: datetime, **values: str | int) -> None:
    """Write a notice, in the transaction of what it reports: to the confirmed mailbox, else to the token's address."""
    mailbox = EmailFactor.of(caller)
    address = mailbox.address if mailbox else caller.email
    if address is not None:
        OutboxMail.put(caller, Mail("notice", address, {"event": event, "at": now, **values}), now, now + LIFETIME)
