"""The outbox: who gets a mail, when, and that nothing of it stays."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from storage import sealing
from storage.database import atomic, connection
from storage.database import database as db
from storage.outbox import LEASE, LONGEST_PAUSE, Mail, OutboxMail, mail_was_put
from storage.user import Caller
from tests.databases import bytes_on_disk, on_sqlite_only

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
IN_TEN_MINUTES = NOW + timedelta(minutes=10)
CALLER = Caller.of("alice")
CODE = Mail("code", "alice@example.com", {"code": "083652"})


def put(mail: Mail = CODE, now: datetime = NOW, expires_at: datetime = IN_TEN_MINUTES) -> None:
    with atomic():
        OutboxMail.put(CALLER, mail, now, expires_at)


def claim(now: datetime = NOW) -> OutboxMail:
    claimed = OutboxMail.claim(now)
    assert claimed is not None
    return claimed


@pytest.mark.usefixtures("database")
def test_a_mail_comes_out_as_it_was_put() -> None:
    notice = Mail("notice", "alice@example.com", {"event": "webauthn.enabled", "name": "Schlüssel 🔑"})
    put(notice)
    assert claim().open() == notice


@pytest.mark.usefixtures("database")
def test_mail_can_be_put_for_a_user_known_by_id_alone() -> None:
    with atomic():
        OutboxMail.put(CALLER.id, CODE, NOW, IN_TEN_MINUTES)
    assert claim().user_id == CALLER.id


@on_sqlite_only
def test_eml_09_neither_code_nor_address_is_ever_in_the_database_in_clear(database: str) -> None:
    put()
    assert claim().sealed.encode() in bytes_on_disk(database)
    assert not any(secret in bytes_on_disk(database) for secret in (b"083652", b"alice@example.com"))
    claim(NOW + LEASE).remove()
    assert not any(secret in bytes_on_disk(database) for secret in (b"083652", b"alice@example.com"))


@pytest.mark.usefixtures("database")
def test_sec_01_a_mail_that_was_moved_to_another_row_or_user_does_not_open() -> None:
    put()
    for column in ({"id": uuid.uuid4()}, {"user_id": Caller.of("mallory").id}):
        mail = claim()
        OutboxMail.update(next_attempt_at=NOW, **column).execute()
        with pytest.raises(sealing.Unsealable):
            OutboxMail.get().open()
        OutboxMail.update(id=mail.id, user_id=mail.user_id).execute()


@pytest.mark.usefixtures("database")
def test_a_mail_of_a_transaction_that_rolls_back_was_never_there() -> None:
    def put_and_fail() -> None:
        with atomic():
            OutboxMail.put(CALLER, CODE, NOW, IN_TEN_MINUTES)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        put_and_fail()
    assert OutboxMail.claim(NOW) is None


@pytest.mark.usefixtures("database")
def test_putting_mail_wakes_the_couriers_of_this_process() -> None:
    mail_was_put.clear()
    put()
    assert mail_was_put.is_set()


@pytest.mark.usefixtures("database")
def test_a_claimed_mail_is_nobody_elses_until_its_lease_ends() -> None:
    put()
    first = claim()
    assert OutboxMail.claim(NOW + LEASE - timedelta(microseconds=1)) is None
    second = claim(NOW + LEASE)
    assert (first.id, first.attempts, second.attempts) == (second.id, 1, 2)


@pytest.mark.usefixtures("database")
def test_pauses_grow_up_to_a_minute() -> None:
    put(expires_at=NOW + timedelta(hours=24))
    now, pauses = NOW, []
    for _ in range(9):
        claim(now).delay(now)
        due = OutboxMail.get().next_attempt_at
        pauses.append(int((due - now).total_seconds()))
        assert OutboxMail.claim(due - timedelta(microseconds=1)) is None
        now = due
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert timedelta(seconds=pauses[-1]) == LONGEST_PAUSE


@pytest.mark.usefixtures("database")
def test_a_courier_that_comes_back_late_does_not_shorten_the_lease_of_the_next() -> None:
    put()
    late = claim()
    claim(NOW + LEASE)
    late.delay(NOW + LEASE)
    assert OutboxMail.get().next_attempt_at == NOW + 2 * LEASE


@pytest.mark.usefixtures("database")
def test_codes_go_before_notices_however_many_wait() -> None:
    notice = Mail("notice", "alice@example.com", {"event": "locked"})
    for _ in range(10):
        put(notice, now=NOW - timedelta(hours=1), expires_at=NOW + timedelta(hours=23))
    put()
    assert claim().template == "code"


@pytest.mark.usefixtures("database")
def test_an_expired_mail_is_never_claimed_and_is_given_up() -> None:
    put()
    put(expires_at=IN_TEN_MINUTES + timedelta(hours=1))
    assert [mail.template for mail in OutboxMail.expire(IN_TEN_MINUTES)] == ["code"]
    assert OutboxMail.select().count() == 1
    OutboxMail.update(expires_at=IN_TEN_MINUTES).execute()
    assert OutboxMail.claim(IN_TEN_MINUTES) is None


@on_sqlite_only
@pytest.mark.usefixtures("database")
def test_looking_for_mail_is_one_statement_on_the_index_and_no_write() -> None:
    statements: list[str] = []
    db.connection().set_trace_callback(statements.append)
    assert OutboxMail.claim(NOW) is None
    db.connection().set_trace_callback(None)
    [select] = statements
    plan = " ".join(str(row) for row in db.execute_sql(f"EXPLAIN QUERY PLAN {select}").fetchall())
    assert "SEARCH" in plan
    assert "USING INDEX outbox_mail_expires_at" in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.usefixtures("database")
def test_atm_01_of_many_threads_that_see_one_mail_one_gets_it() -> None:
    for _ in range(5):
        put()
        start = threading.Barrier(8)
        won: list[uuid.UUID] = []

        def race(start: threading.Barrier = start, won: list[uuid.UUID] = won) -> None:
            with connection():
                start.wait()
                mail = OutboxMail.claim(NOW)
                if mail is not None:
                    won.append(mail.id)

        threads = [threading.Thread(target=race) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1


CLAIM_ALL = """
import sys
from datetime import datetime
from storage import database, outbox

database.connect(sys.argv[1])
now = datetime.fromisoformat(sys.argv[2])
with database.connection():
    sys.stdin.read()
    while mail := outbox.OutboxMail.claim(now):
        print(mail.id)
database.database.close_all()
"""


def test_atm_01_processes_that_claim_at_once_share_the_mail_without_overlap(database: str) -> None:
    for _ in range(40):
        put()
    command = [sys.executable, "-c", CLAIM_ALL, database, NOW.isoformat()]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    claimed = [line for process in processes for line in process.communicate(timeout=30)[0].split()]
    assert len(claimed) == len(set(claimed)) == 40
    assert {process.returncode for process in processes} == {0}
