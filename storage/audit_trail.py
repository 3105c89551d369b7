"""Reading the audit trail: oldest first, a page at a time, however long it is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import peewee

from storage.audit import AuditEvent
from storage.user import User

PAGE = 500


def read(
    *,
    user: UUID | None = None,
    kind: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[list[AuditEvent]]:
    """The events of one user, or of all: from `since` on, before `until`, of one type. A page at a time.

    Each page begins where the one before ended. The type is looked at here, since a database that looks for a rare
    one would read on without an end in sight.
    """
    last: AuditEvent | None = None
    while True:
        page = list(_page(user, last, since, until).limit(PAGE))
        yield [event for event in page if kind in (None, event.type)]
        if len(page) < PAGE:
            return
        last = page[-1]


def latest(user: UUID, count: int) -> list[AuditEvent]:
    """The last events of a user, oldest first."""
    query = AuditEvent.select().where(AuditEvent.user_id == user)
    return list(query.order_by(AuditEvent.at.desc(), AuditEvent.id.desc()).limit(count))[::-1]


def names(ids: set[UUID]) -> dict[UUID, User]:
    """The users of these ids, but for those who are deleted."""
    return {user.id: user for user in User.select(User.id, User.tenant, User.sub).where(User.id.in_(ids))}


def _page(user: UUID | None, last: AuditEvent | None, since: datetime | None, until: datetime | None) -> Any:
    """What comes after `last`, in the order of an index: of the user's times, or of all."""
    query = AuditEvent.select().order_by(AuditEvent.at, AuditEvent.id)
    if user is not None:
        query = query.where(AuditEvent.user_id == user)
    if last is not None:
        place = peewee.Tuple(AuditEvent.at.to_value(last.at), AuditEvent.id.to_value(last.id))
        query = query.where(peewee.Tuple(AuditEvent.at, AuditEvent.id) > place)
    elif since is not None:
        query = query.where(AuditEvent.at >= since)
    return query if until is None else query.where(AuditEvent.at < until)
