"""The mailbox of a user: pending, on, gone; and the code that was sent there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from factors.errors import AlreadyEnabled, InvalidCode, NoPendingEnrolment, NotEnabled
from storage.database import atomic
from storage.email import EmailFactor
from tests.storage.rows import ALICE, BOB, NOW, ensure, mailbox, pending_email

TEN_MINUTES = timedelta(minutes=10)


@pytest.fixture(autouse=True)
def users(operated: object) -> None:
    ensure(ALICE, BOB)


def test_eml_09_a_keyed_digest_is_kept_and_not_the_code() -> None:
    pending = pending_email(code="012345")
    assert pending.code_digest is not None
    assert "012345" not in pending.code_digest
    pending.check("012345")


@pytest.mark.parametrize("code", ["012346", "12345", "", "0123450", "000000"])
def test_any_other_code_is_wrong(code: str) -> None:
    with pytest.raises(InvalidCode):
        pending_email(code="012345").check(code)


def test_eml_04_the_digest_is_bound_to_user_enrolment_and_address() -> None:
    pending = pending_email(code="012345")
    other = pending_email(BOB, code="012345")
    assert pending.code_digest != other.code_digest
    for column in ("code_digest", "device_id", "address"):
        moved = EmailFactor(**{**other.__data__, column: getattr(pending, column)})
        with pytest.raises(InvalidCode):
            moved.check("012345")


def test_eml_02_a_pending_mailbox_ends_after_ten_minutes() -> None:
    pending = pending_email()
    assert pending.expires_at == NOW + TEN_MINUTES
    EmailFactor.pending(ALICE, NOW + TEN_MINUTES - timedelta(microseconds=1))
    with pytest.raises(NoPendingEnrolment):
        EmailFactor.pending(ALICE, NOW + TEN_MINUTES)
    with pytest.raises(InvalidCode), atomic():
        pending.activate(NOW + TEN_MINUTES)


def test_eml_04_a_token_that_names_another_address_finds_nothing_pending() -> None:
    pending_email()
    with pytest.raises(NoPendingEnrolment):
        EmailFactor.pending(replace(ALICE, email="alice@example.org"), NOW)
    EmailFactor.pending(replace(ALICE, email=None), NOW)


def test_auz_08_nobody_has_what_another_began() -> None:
    pending_email()
    with pytest.raises(NoPendingEnrolment):
        EmailFactor.pending(replace(BOB, email=ALICE.email), NOW)


def test_eml_03_a_new_code_kills_the_old_one_for_whoever_read_it_earlier() -> None:
    old = pending_email(code="012345")
    new = pending_email(code="678901")
    with pytest.raises(InvalidCode):
        new.check("012345")
    old.check("012345")
    with pytest.raises(InvalidCode), atomic():
        old.activate(NOW)
    with atomic():
        new.activate(NOW)


def test_turning_it_on_notes_when_and_deletes_the_code() -> None:
    on = mailbox()
    assert (on.confirmed_at, on.last_used_at, on.expires_at, on.code_digest) == (NOW, NOW, None, None)
    assert on.address == "alice@example.com"
    with pytest.raises(InvalidCode):
        on.check("012345")


def test_atm_01_it_is_turned_on_once() -> None:
    first, second = pending_email(), EmailFactor.pending(ALICE, NOW)
    with atomic():
        first.activate(NOW)
    with pytest.raises(InvalidCode), atomic():
        second.activate(NOW)


def test_what_is_on_is_not_begun_anew() -> None:
    before = mailbox().__data__
    with pytest.raises(AlreadyEnabled), atomic():
        EmailFactor.begin(ALICE, "other@example.com", "012345", NOW)
    with pytest.raises(AlreadyEnabled):
        EmailFactor.pending(ALICE, NOW)
    assert EmailFactor.enabled(ALICE).__data__ == before


def test_a_pending_mailbox_is_not_in_use() -> None:
    pending_email()
    assert EmailFactor.of(ALICE) is None
    with pytest.raises(NotEnabled):
        EmailFactor.enabled(ALICE)
    with pytest.raises(InvalidCode), atomic():
        EmailFactor.use(ALICE, NOW, NOW)


def test_eml_04_a_use_counts_only_for_the_mailbox_that_was_on_when_the_code_was_sent() -> None:
    later = NOW + timedelta(minutes=1)
    mailbox(now=later)
    with pytest.raises(InvalidCode), atomic():
        EmailFactor.use(ALICE, NOW, later)
    with atomic():
        EmailFactor.use(ALICE, later, later + TEN_MINUTES)
    assert EmailFactor.enabled(ALICE).last_used_at == later + TEN_MINUTES


def test_removal_happens_once_and_only_to_what_was_read() -> None:
    one, other = mailbox(), EmailFactor.enabled(ALICE)
    with atomic():
        one.remove()
    mailbox()
    with pytest.raises(NotEnabled), atomic():
        other.remove()
    assert EmailFactor.of(ALICE)
