"""The record of what happened: one row for each event, in the transaction of what it records."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from storage.audit import AuditEvent, record
from storage.database import atomic
from storage.user import Caller, User
from tests.storage.rows import NOW, ensure

CALLER = Caller.of(
    "alice", "acme", email="alice@example.com", operation="handlers.totp.confirm", request_id="r-1", address="192.0.2.7"
)


@pytest.fixture(autouse=True)
def tables(operated: object) -> None:
    """Empty tables."""


def add(kind: str, after: timedelta = timedelta()) -> None:
    with atomic():
        record(CALLER, kind, NOW + after)


def test_not_03_an_event_says_who_what_why_where_and_when() -> None:
    device = uuid.uuid4()
    with atomic():
        record(CALLER, "proof.refused", NOW, device_id=device, reason="wrong")
    event: Any = AuditEvent.select().dicts().get()
    assert event == {
        "id": event["id"],
        "user_id": CALLER.id,
        "at": NOW,
        "type": "proof.refused",
        "reason": "wrong",
        "device_id": device,
        "operation": "handlers.totp.confirm",
        "request_id": "r-1",
        "address": "192.0.2.7",
    }


def test_not_03_events_of_one_moment_are_read_in_their_order() -> None:
    kinds = [f"kind {n}" for n in range(50)]
    for kind in kinds:
        add(kind)
    found = AuditEvent.select().order_by(AuditEvent.at, AuditEvent.id)
    assert [event.type for event in found] == kinds


def test_not_03_an_event_goes_with_what_was_rolled_back() -> None:
    def fail() -> None:
        with atomic():
            record(CALLER, "totp.enabled", NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not AuditEvent.select().exists()


def test_prv_04_the_trail_outlives_the_user() -> None:
    ensure(CALLER)
    add("totp.enabled")
    User.delete().execute()
    assert AuditEvent.select().count() == 1
