"""What has expired goes, exactly that, and nothing that is in use."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta

import peewee
import pytest

from storage import purge as purging
from storage.audit import AuditEvent, record
from storage.challenge import Challenge
from storage.database import atomic
from storage.email import EmailFactor
from storage.mail_quota import MailQuota
from storage.outbox import Mail, OutboxMail
from storage.purge import purge
from storage.totp import TotpSecret
from storage.user import User
from storage.webauthn import WebAuthnRegistration
from tests.storage.rows import ALICE, BOB, NOW, challenge, ensure, key, mailbox, pending_email, pending_totp, totp

MOMENT = timedelta(microseconds=1)


def registration() -> None:
    with atomic():
        WebAuthnRegistration.begin(ALICE, b"challenge", "preferred", NOW)


def mail() -> None:
    with atomic():
        OutboxMail.put(ALICE, Mail("code", "alice@example.com", {"code": "012345"}), NOW, NOW + timedelta(minutes=10))


def quota() -> None:
    with atomic():
        MailQuota.spend(ALICE.id, NOW)


EXPIRING: dict[str, tuple[Callable[[], object], type[peewee.Model], timedelta]] = {
    "pending secret": (pending_totp, TotpSecret, timedelta(minutes=10)),
    "pending mailbox": (pending_email, EmailFactor, timedelta(minutes=10)),
    "challenge": (challenge, Challenge, timedelta(minutes=5)),
    "mailed challenge": (lambda: challenge(code="012345"), Challenge, timedelta(minutes=10)),
    "registration": (registration, WebAuthnRegistration, timedelta(minutes=5)),
    "mail": (mail, OutboxMail, timedelta(minutes=10)),
    "quota": (quota, MailQuota, timedelta(days=1)),
}


@pytest.fixture(autouse=True)
def users(operated: object) -> None:
    ensure(ALICE, BOB)


@pytest.mark.parametrize("kind", EXPIRING)
def test_rel_03_it_goes_when_it_has_expired_and_not_a_moment_before(kind: str) -> None:
    make, table, lifetime = EXPIRING[kind]
    make()
    assert purge(NOW + lifetime - MOMENT) == 0
    assert table.select().count() == 1
    assert purge(NOW + lifetime) == 1
    assert table.select().count() == 0
    assert purge(NOW + lifetime) == 0


def test_rel_03_what_is_in_use_stays_for_ever() -> None:
    totp()
    mailbox()
    key()
    assert purge(NOW + timedelta(days=36_500)) == 0
    assert User.select().count() == 2


def test_rel_03_everything_that_expired_goes_at_once_and_the_rest_stays() -> None:
    pending_totp()
    pending_email(BOB)
    totp(BOB)
    challenge()
    challenge(BOB, now=NOW + timedelta(days=2))
    registration()
    mail()
    quota()
    assert purge(NOW + timedelta(days=1)) == 6
    assert TotpSecret.get().user_id == BOB.id
    assert Challenge.get().user_id == BOB.id


def test_rel_03_a_pile_goes_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "BATCH", 3)
    for _ in range(10):
        mail()
    assert purge(NOW + timedelta(minutes=10)) == 10


def test_rel_03_one_purge_takes_no_more_than_its_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that requests are answered meanwhile; what is left goes the next time."""
    monkeypatch.setattr(purging, "BATCH", 2)
    monkeypatch.setattr(purging, "MOST", 4)
    for seconds in range(9):
        with atomic():
            MailQuota.spend(uuid.UUID(int=seconds), NOW + timedelta(seconds=seconds))
    later = NOW + timedelta(days=2)
    assert [purge(later) for _ in range(4)] == [4, 4, 1, 0]


def test_not_03_audit_events_stay_unless_a_retention_is_set() -> None:
    for days in range(5):
        with atomic():
            record(ALICE, "totp.enabled", NOW + timedelta(days=days))
    now = NOW + timedelta(days=5)
    assert purge(now) == 0
    assert purge(now, timedelta(days=3)) == 3
    assert [event.at for event in AuditEvent.select().order_by(AuditEvent.at)] == [
        NOW + timedelta(days=3),
        NOW + timedelta(days=4),
    ]
