"""What happened, for whom, when and from where. Rows are only ever added, until retention purges them."""

from __future__ import annotations

import secrets
import time
import uuid
from datetime import datetime

import peewee

from storage.database import Model, UtcDateTimeField
from storage.statement import Addition
from storage.user import Caller


class AuditEvent(Model):
    """One change, or one refused proof (NOT-03). Nothing in it is a secret, a code or a mail address."""

    user_id = peewee.UUIDField()
    at = UtcDateTimeField()
    id = peewee.UUIDField()
    type = peewee.TextField()
    reason = peewee.TextField(null=True)
    device_id = peewee.UUIDField(null=True)
    operation = peewee.TextField()
    request_id = peewee.TextField()
    address = peewee.TextField()

    class Meta:
        table_name = "audit_event"
        primary_key = peewee.CompositeKey("user_id", "at", "id")


def record(
    caller: Caller, kind: str, now: datetime, *, device_id: uuid.UUID | None = None, reason: str | None = None
) -> None:
    """Add an event, in the transaction that is open."""
    _record(
        id=_next_id(),
        user_id=caller.id,
        type=kind,
        reason=reason,
        device_id=device_id,
        operation=caller.operation,
        request_id=caller.request_id,
        address=caller.address,
        at=now,
    )


def _next_id() -> uuid.UUID:
    """An id that sorts after those before it: what happened at one time is read in the order in which it happened."""
    return uuid.UUID(int=time.time_ns() << 64 | secrets.randbits(64))


_record = Addition(AuditEvent)
