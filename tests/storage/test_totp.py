"""The secret of an authenticator app: pending, on, gone; and the step that shuts all before it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from factors.errors import AlreadyEnabled, InvalidCode, NoPendingEnrolment, NotEnabled
from storage.database import atomic
from storage.totp import TotpSecret
from tests.storage.rows import ALICE, BOB, NOW, SECRET, STEP, ensure, pending_totp, totp

TEN_MINUTES = timedelta(minutes=10)


@pytest.fixture(autouse=True)
def users(operated: object) -> None:
    ensure(ALICE, BOB)


def test_sec_01_a_secret_is_sealed_and_opens_for_its_owner() -> None:
    device = pending_totp()
    assert device.secret() == SECRET
    assert SECRET.hex() not in device.sealed


def test_auz_06_a_pending_secret_is_not_in_use() -> None:
    pending_totp()
    assert TotpSecret.of(ALICE) is None
    with pytest.raises(NotEnabled):
        TotpSecret.enabled(ALICE)


def test_auz_06_a_pending_secret_ends_after_ten_minutes() -> None:
    pending = pending_totp()
    assert pending.expires_at == NOW + TEN_MINUTES
    TotpSecret.pending(ALICE, NOW + TEN_MINUTES - timedelta(microseconds=1))
    with pytest.raises(NoPendingEnrolment):
        TotpSecret.pending(ALICE, NOW + TEN_MINUTES)


def test_auz_06_it_is_not_turned_on_after_its_end_even_when_it_was_read_before() -> None:
    pending = pending_totp()
    with pytest.raises(InvalidCode), atomic():
        pending.activate(STEP, NOW + TEN_MINUTES)
    assert TotpSecret.of(ALICE) is None


def test_auz_08_nobody_has_what_another_began() -> None:
    pending_totp()
    with pytest.raises(NoPendingEnrolment):
        TotpSecret.pending(BOB, NOW)


def test_auz_07_a_new_pending_secret_takes_the_place_of_the_old() -> None:
    old, new = pending_totp(), pending_totp(secret=b"another")
    assert TotpSecret.pending(ALICE, NOW).secret() == b"another"
    with pytest.raises(InvalidCode), atomic():
        old.activate(STEP, NOW)
    with atomic():
        new.activate(STEP, NOW)


def test_auz_07_what_is_on_is_not_begun_anew() -> None:
    before = totp().__data__
    with pytest.raises(AlreadyEnabled), atomic():
        TotpSecret.begin(ALICE, b"another", NOW)
    with pytest.raises(AlreadyEnabled):
        TotpSecret.pending(ALICE, NOW)
    assert TotpSecret.enabled(ALICE).__data__ == before


def test_turning_it_on_notes_when_and_spends_the_step() -> None:
    device = totp()
    assert (device.confirmed_at, device.last_used_at, device.expires_at) == (NOW, NOW, None)
    assert device.last_step == STEP


def test_atm_01_it_is_turned_on_once() -> None:
    first, second = pending_totp(), TotpSecret.pending(ALICE, NOW)
    with atomic():
        first.activate(STEP, NOW)
    with pytest.raises(InvalidCode), atomic():
        second.activate(STEP + 1, NOW)
    assert TotpSecret.enabled(ALICE).last_step == STEP


def test_otp_03_a_step_and_all_before_it_are_shut_for_whoever_read_the_row_earlier() -> None:
    one, other = totp(), TotpSecret.enabled(ALICE)
    later = NOW + timedelta(seconds=60)
    with atomic():
        one.spend(STEP + 2, later)
    for step in (STEP + 2, STEP + 1, STEP, 0):
        with pytest.raises(InvalidCode) as caught, atomic():
            other.spend(step, later)
        assert caught.value.reason == "spent"
    with atomic():
        other.spend(STEP + 3, later)
    device = TotpSecret.enabled(ALICE)
    assert (device.last_step, device.last_used_at) == (STEP + 3, later)


def test_otp_02_steps_beyond_32_bits_are_kept() -> None:
    device = totp()
    with atomic():
        device.spend(2**33, NOW)
    assert TotpSecret.enabled(ALICE).last_step == 2**33


def test_stp_05_a_pending_secret_spends_no_step() -> None:
    pending = pending_totp()
    with pytest.raises(InvalidCode), atomic():
        pending.spend(STEP, NOW)


def test_otp_10_removal_destroys_the_secret_once() -> None:
    one, other = totp(), TotpSecret.enabled(ALICE)
    with atomic():
        one.remove()
    assert not TotpSecret.select().exists()
    with pytest.raises(NotEnabled), atomic():
        other.remove()


def test_otp_10_whoever_read_the_old_secret_touches_nothing_of_the_new_one() -> None:
    old = totp()
    with atomic():
        old.remove()
    new = totp()
    with pytest.raises(InvalidCode), atomic():
        old.spend(STEP + 9, NOW)
    with pytest.raises(NotEnabled), atomic():
        old.remove()
    assert TotpSecret.enabled(ALICE).__data__ == new.__data__


def test_sec_03_a_secret_that_does_not_open_is_an_invalid_code() -> None:
    totp()
    other = totp(BOB)
    TotpSecret.update(sealed=other.sealed).where(TotpSecret.user == ALICE.id).execute()
    with pytest.raises(InvalidCode) as caught:
        TotpSecret.enabled(ALICE).secret()
    assert caught.value.reason == "unsealable"
    assert TotpSecret.enabled(BOB).secret() == SECRET
