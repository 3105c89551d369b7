"""How many codes may be mailed to one user and one mailbox: windows that slide, and sends at the same moment."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta

import pytest

from factors.errors import Refusal, StorageUnavailable, TooManyEmails
from storage.database import atomic, connection
from storage.mail_quota import MailQuota
from storage.purge import purge
from tests.storage.rows import NOW

KEY, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)
MOMENT = timedelta(microseconds=1)


@pytest.fixture(autouse=True)
def tables(operated: object) -> None:
    """An empty table."""


def spend(after: timedelta, key: uuid.UUID = KEY) -> None:
    with atomic():
        MailQuota.spend(key, NOW + after)


def wait(after: timedelta) -> int:
    with pytest.raises(TooManyEmails) as caught:
        spend(after)
    assert caught.value.retry_after is not None
    return caught.value.retry_after


@pytest.mark.parametrize(("after", "seconds"), [(0, 60), (0.000001, 60), (1, 59), (59, 1), (59.5, 1), (59.999999, 1)])
def test_eml_06_a_minute_between_two_mails_to_the_microsecond(after: float, seconds: int) -> None:
    spend(timedelta())
    assert wait(timedelta(seconds=after)) == seconds
    spend(timedelta(seconds=60))


def test_eml_06_each_key_has_a_quota_of_its_own() -> None:
    spend(timedelta())
    spend(timedelta(), OTHER)


def test_eml_06_five_in_any_hour() -> None:
    """The hour slides: what counts is the hour before each mail, not the hour on the clock."""
    for minutes in (0, 10, 20, 30, 40):
        spend(timedelta(minutes=minutes))
    assert wait(timedelta(minutes=50)) == 600
    assert wait(timedelta(minutes=60) - MOMENT) == 1
    spend(timedelta(minutes=60))
    assert wait(timedelta(minutes=65)) == 300
    spend(timedelta(minutes=70))


def test_eml_06_twenty_in_any_day() -> None:
    at = [timedelta(hours=n) for n in range(20)]
    for after in at:
        spend(after)
    assert wait(timedelta(hours=20)) == 4 * 3600
    assert wait(timedelta(days=1) - MOMENT) == 1
    spend(timedelta(days=1))
    assert wait(timedelta(days=1, minutes=30)) == 30 * 60
    spend(timedelta(days=1, hours=1))


def test_a_refused_mail_is_not_counted() -> None:
    spend(timedelta())
    for seconds in range(1, 60):
        wait(timedelta(seconds=seconds))
    spend(timedelta(seconds=60))


def test_what_is_remembered_stays_small() -> None:
    for n in range(60):
        spend(timedelta(hours=2 * n))
    assert MailQuota.get().sent_at.count("2026") <= 20


def test_eml_10_a_mail_of_a_transaction_that_rolls_back_is_not_counted() -> None:
    def fail() -> None:
        with atomic():
            MailQuota.spend(KEY, NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    spend(timedelta())


def test_otp_06_a_clock_that_is_put_back_gives_no_mail_away() -> None:
    for minutes in range(5):
        spend(timedelta(minutes=minutes))
    assert wait(-timedelta(hours=1)) > 3600
    assert wait(timedelta(minutes=5)) == 55 * 60
    spend(timedelta(hours=1))


def test_eml_06_sends_at_the_same_moment_count_too() -> None:
    start = threading.Barrier(8)
    results: list[str] = []

    def send() -> None:
        with connection():
            start.wait()
            try:
                spend(timedelta())
                results.append("sent")
            except Refusal as refusal:
                results.append(refusal.code)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["sent"] + ["too_many_emails"] * 7


def test_eml_06_a_count_that_others_changed_since_it_was_read_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another send comes between the read and the exchange; its time is not lost, and forbids this one."""
    MailQuota.insert(key=KEY, sent_at="[]", last_sent_at=NOW).execute()
    read = MailQuota.get_by_id

    def interrupted(key: uuid.UUID) -> MailQuota:
        found: MailQuota = read(key)
        monkeypatch.setattr(MailQuota, "get_by_id", read)
        MailQuota.spend(KEY, NOW)
        return found

    monkeypatch.setattr(MailQuota, "get_by_id", interrupted)
    with pytest.raises(TooManyEmails):
        MailQuota.spend(KEY, NOW)


def test_a_count_that_is_purged_before_it_is_read_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last mail was a day ago, and the purge comes just as another one is asked for."""
    spend(timedelta())
    read = MailQuota.get_by_id

    def interrupted(key: uuid.UUID) -> MailQuota:
        monkeypatch.setattr(MailQuota, "get_by_id", read)
        purge(NOW + timedelta(days=1))
        found: MailQuota = read(key)
        return found

    monkeypatch.setattr(MailQuota, "get_by_id", interrupted)
    MailQuota.spend(KEY, NOW + timedelta(days=1))
    assert wait(timedelta(days=1)) == 60


def test_a_count_that_never_holds_still_is_unavailable_and_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    read = MailQuota.get_by_id

    def restless(key: uuid.UUID) -> MailQuota:
        found: MailQuota = read(key)
        MailQuota.update(sent_at=f"{found.sent_at} ").execute()
        return found

    monkeypatch.setattr(MailQuota, "get_by_id", restless)
    with pytest.raises(StorageUnavailable):
        MailQuota.spend(KEY, NOW)
