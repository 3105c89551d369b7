"""The one row of a user: who they are, the budget of wrong codes, and the epoch of their factors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from factors.errors import TooManyAttempts
from storage.database import atomic
from storage.user import Caller, User

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALICE, BOB = Caller.of("alice"), Caller.of("bob")


@pytest.fixture(autouse=True)
def users(operated: object) -> None:
    for caller in (ALICE, BOB):
        with atomic():
            User.ensure(caller, NOW)


def count(now: datetime = NOW, caller: Caller = ALICE) -> datetime | None:
    return User.count_attempt(caller, now)


def row(caller: Caller = ALICE) -> User:
    found: User = User.get(User.id == caller.id)
    return found


def clear() -> None:
    with atomic():
        User.clear_attempts(ALICE)


def locked_for(now: datetime) -> int:
    with pytest.raises(TooManyAttempts) as caught:
        count(now)
    assert caught.value.retry_after is not None
    return caught.value.retry_after


# Who they are.


def test_tok_05_a_user_is_tenant_and_sub_byte_for_byte() -> None:
    names = ["", "a", "A", "a ", "ab", "1", "1:a", ":", "0:", "ä", "a\u0308", "é"]
    ids = {Caller.of(sub, tenant).id for sub, tenant in product(names, names)}
    assert len(ids) == len(names) ** 2
    assert Caller.of("alice", "t").id == Caller.of("alice", "t", email="a@example.com", session="s").id


def test_a_backend_speaks_for_a_user_of_its_tenant_with_nothing_of_its_own() -> None:
    backend = Caller.of(
        "backend",
        "acme",
        email="ops@example.com",
        name="Backend",
        amr=("pwd",),
        auth_time=NOW,
        session="s",
        operation="o",
        request_id="r",
        address="192.0.2.1",
    )
    assert backend.on_behalf_of("alice") == Caller.of(
        "alice", "acme", account="alice", purpose="service", operation="o", request_id="r", address="192.0.2.1"
    )


def test_the_row_is_made_once() -> None:
    handle, epoch = bytes(row().handle), row().epoch
    with atomic():
        User.ensure(ALICE, NOW + timedelta(days=1))
    assert (bytes(row().handle), row().epoch, row().created_at) == (handle, epoch, NOW)


def test_war_11_every_user_has_a_random_handle_of_their_own() -> None:
    assert len(User.handle_of(ALICE)) == 32
    assert User.handle_of(ALICE) != User.handle_of(BOB)


# The budget.


def test_thr_01_the_first_four_attempts_bring_no_lock_and_the_fifth_30_seconds() -> None:
    assert [count() for _ in range(5)] == [None] * 4 + [NOW + timedelta(seconds=30)]
    assert locked_for(NOW) == 30


def test_thr_01_each_lock_is_twice_as_long_as_the_one_before_up_to_an_hour() -> None:
    for _ in range(4):
        count()
    now, lengths = NOW, []
    for _ in range(12):
        lock = count(now)
        assert lock is not None
        lengths.append(int((lock - now).total_seconds()))
        now = lock
    assert lengths == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600, 3600]


@pytest.mark.parametrize(
    ("after", "seconds"), [(0, 30), (0.000001, 30), (1, 29), (28.999999, 2), (29, 1), (29.5, 1), (29.999999, 1)]
)
def test_api_07_retry_after_is_the_whole_second_at_which_it_is_over(after: float, seconds: int) -> None:
    for _ in range(5):
        count()
    now = NOW + timedelta(seconds=after)
    assert locked_for(now) == seconds
    count(now + timedelta(seconds=seconds))


def test_thr_08_a_refused_attempt_changes_nothing() -> None:
    for _ in range(5):
        count()
    before = row().__data__
    for _ in range(3):
        locked_for(NOW + timedelta(seconds=7))
    assert row().__data__ == before


def test_thr_01_a_budget_is_its_users_alone() -> None:
    for _ in range(5):
        count()
    assert count(caller=BOB) is None
    assert row(BOB).failures == 1


def test_a_right_answer_makes_the_budget_whole_and_returns_the_epoch() -> None:
    for _ in range(5):
        count()
    with atomic():
        assert User.clear_attempts(ALICE) == row().epoch
    assert (row().failures, row().locked_until) == (0, None)
    assert count() is None


def test_thr_07_an_attempt_that_is_given_back_was_never_counted() -> None:
    for before in range(7):
        clear()
        now = NOW
        for _ in range(before):
            now = count(now) or now
        kept = row().failures
        User.give_back_attempt(ALICE, count(now))
        assert row().failures == kept == before
        assert row().locked_until is None or row().locked_until <= now
        count(now)


def test_thr_07_giving_back_keeps_the_lock_that_another_attempt_brought() -> None:
    mine = count()
    for _ in range(4):
        count()
    User.give_back_attempt(ALICE, mine)
    assert row().failures == 4
    assert locked_for(NOW) == 30


def test_thr_07_giving_back_what_was_cleared_meanwhile_leaves_it_cleared() -> None:
    lock = count()
    clear()
    User.give_back_attempt(ALICE, lock)
    assert row().failures == 0


def test_thr_03_a_count_is_there_whatever_happens_after() -> None:
    def fail() -> None:
        count()
        with atomic():
            User.change_factors(ALICE)
            raise ZeroDivisionError

    epoch = row().epoch
    with pytest.raises(ZeroDivisionError):
        fail()
    assert (row().failures, row().epoch) == (1, epoch)


def test_a_user_who_is_gone_by_the_time_of_the_look_is_asked_to_wait_a_second() -> None:
    User.delete().where(User.id == ALICE.id).execute()
    assert locked_for(NOW) == 1


def test_otp_06_a_clock_that_was_put_back_keeps_the_lock() -> None:
    for _ in range(5):
        count()
    assert locked_for(NOW - timedelta(hours=1)) == 3630


# The epoch.


def test_stp_02_a_change_of_factors_is_another_epoch() -> None:
    before = row().epoch
    with atomic():
        assert User.change_factors(ALICE)
        assert User.change_factors(ALICE, before + 1)
    assert User.epoch_of(ALICE) == before + 2


def test_atm_03_a_change_that_stands_on_another_epoch_does_not_happen() -> None:
    before = row().epoch
    with atomic():
        for other in (before - 1, before + 1, 0):
            assert not User.change_factors(ALICE, other)
    assert row().epoch == before


def test_stp_02_a_user_who_begins_again_does_not_have_the_epoch_from_before() -> None:
    epochs = set()
    for _ in range(20):
        epochs.add(row().epoch)
        with atomic():
            User.delete().where(User.id == ALICE.id).execute()
            User.ensure(ALICE, NOW)
    assert len(epochs) == 20


def test_a_stranger_has_no_epoch_and_nothing_to_change() -> None:
    stranger = Caller.of("nobody")
    assert User.epoch_of(stranger) is None
    with atomic():
        assert not User.change_factors(stranger)
        assert not User.change_factors(stranger, 0)
