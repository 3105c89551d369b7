"""Mail that waits to be sent: sealed, written in the transaction that it reports, deleted once sent."""

from __future__ import annotations

import peewee

from storage.database import Model, UtcDateTimeField


class OutboxMail(Model):
    """One mail. `sealed` is its JSON (template, recipient, what the template needs)."""

    id = peewee.UUIDField(primary_key=True)
    user_id = peewee.UUIDField()
    sealed = peewee.TextField()
    attempts = peewee.IntegerField(default=0)
    created_at = UtcDateTimeField()
    next_attempt_at = UtcDateTimeField()
    expires_at = UtcDateTimeField()

    class Meta:
        table_name = "outbox_mail"
        indexes = ((("next_attempt_at",), False),)
