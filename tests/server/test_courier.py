"""From the outbox to the mailbox, through everything that can go wrong on the way."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import peewee
import pytest
from structlog.testing import capture_logs

from server import courier as couriers
from server import transport as transports
from server.courier import MAILS_A_SECOND, Courier
from storage import sealing
from storage.database import atomic, connection, is_sqlite
from storage.outbox import LEASE, Mail, OutboxMail
from storage.user import Caller
from tests.databases import bytes_on_disk, on_sqlite_only
from tests.server.mail_server import Inbox, MailSettings, free_port, mail_server, silent_server

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALICE = "alice@example.com"
CODE = Mail("code", ALICE, {"code": "083652"})
NOTICE = Mail("notice", ALICE, {"event": "totp.enabled"})
SECOND = timedelta(seconds=1)


def put(mail: Mail = CODE, now: datetime = NOW, lives: timedelta = timedelta(minutes=10)) -> str:
    with atomic():
        OutboxMail.put(Caller.of("alice"), mail, now, now + lives)
    return str(OutboxMail.select().order_by(OutboxMail.created_at.desc()).get().id)


def left() -> int:
    return int(OutboxMail.select().count())


def wait_until(condition: Callable[[], object], seconds: float = 5) -> float:
    """Seconds that it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() < start + seconds, "it did not come to pass"
        time.sleep(0.005)
    return time.monotonic() - start


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def courier_to(port: int) -> Courier:
    return Courier(MailSettings.for_server(Path("unused"), f"smtp://127.0.0.1:{port}"))


@pytest.mark.usefixtures("database")
def test_a_mail_is_sent_once_and_nothing_of_it_stays(inbox: Inbox) -> None:
    row = put()
    with mail_server(inbox) as port, capture_logs() as logs:
        courier = courier_to(port)
        assert courier.run_once(NOW)
        assert not courier.run_once(NOW + LEASE)
    assert [mail["Message-ID"] for mail in inbox.mails] == [f"<{row}@example.org>"]
    assert b"083652" in inbox.raw[0]
    assert left() == 0
    assert logs == [{"event": "mail.sent", "log_level": "info", "id": row, "template": "code", "attempts": 1}]


@on_sqlite_only
def test_eml_09_nothing_of_a_mail_that_was_sent_stays_on_the_disk(database: str, inbox: Inbox) -> None:
    put()
    with mail_server(inbox) as port:
        assert courier_to(port).run_once(NOW)
    assert b"083652" in inbox.raw[0]
    assert b"083652" not in bytes_on_disk(database)


@pytest.mark.usefixtures("database")
def test_eml_10_mail_waits_while_the_server_is_down_and_goes_when_it_is_back(inbox: Inbox) -> None:
    row, port = put(), free_port()
    courier = courier_to(port)
    with capture_logs() as logs:
        assert courier.run_once(NOW)
        assert not courier.run_once(NOW + SECOND)
        assert courier.run_once(NOW + 3 * SECOND)
        with mail_server(inbox, port):
            assert courier.run_once(NOW + 10 * SECOND)
    assert len(inbox.raw) == 1
    assert [(log["event"], log["attempts"], log.get("reason")) for log in logs] == [
        ("mail.delayed", 1, "ConnectionRefusedError"),
        ("mail.delayed", 2, "ConnectionRefusedError"),
        ("mail.sent", 3, None),
    ]
    assert {log["id"] for log in logs} == {row}


@pytest.mark.usefixtures("database")
def test_the_pause_counts_from_the_end_of_a_conversation_that_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "TIMEOUT", 0.3)
    put()
    with silent_server() as port:
        courier_to(port).run_once(NOW)
    assert OutboxMail.get().next_attempt_at >= NOW + 2.3 * SECOND


@pytest.mark.usefixtures("database")
def test_eml_10_a_dropped_connection_loses_no_mail(inbox: Inbox) -> None:
    put()
    inbox.drop_at = "RCPT"
    with mail_server(inbox) as port:
        courier = courier_to(port)
        courier.run_once(NOW)
        inbox.drop_at = None
        courier.run_once(NOW + LEASE)
    assert len(inbox.raw) == 1
    assert left() == 0


@pytest.mark.usefixtures("database")
def test_a_copy_after_a_lost_answer_is_recognisable_by_its_message_id(inbox: Inbox) -> None:
    put()
    inbox.drop_at = "DATA"
    with mail_server(inbox) as port:
        courier = courier_to(port)
        courier.run_once(NOW)
        inbox.drop_at = None
        courier.run_once(NOW + LEASE)
    first, copy = inbox.mails
    assert {name: first[name] for name in first if name != "Content-Type"} == {
        name: copy[name] for name in copy if name != "Content-Type"
    }
    assert left() == 0


@pytest.mark.usefixtures("database")
def test_a_refused_recipient_is_dropped_and_a_greylisted_one_is_not(inbox: Inbox) -> None:
    inbox.answers["RCPT"] = "451 4.7.1 Later, alice@example.com"
    put()
    with mail_server(inbox) as port, capture_logs() as logs:
        courier = courier_to(port)
        courier.run_once(NOW)
        assert left() == 1
        inbox.answers["RCPT"] = "550 5.1.1 No alice@example.com here"
        courier.run_once(NOW + LEASE)
    assert left() == 0
    assert [(log["event"], log["reason"]) for log in logs] == [("mail.delayed", "451"), ("mail.refused", "550")]


@pytest.mark.usefixtures("database")
def test_mail_to_what_is_no_address_is_dropped_without_a_conversation(inbox: Inbox) -> None:
    put(Mail("code", "alice@example.com\r\nBcc: mallory@example.net", {"code": "083652"}))
    with mail_server(inbox) as port, capture_logs() as logs:
        courier_to(port).run_once(NOW)
    assert (left(), inbox.commands) == (0, [])
    assert [(log["event"], log["reason"]) for log in logs] == [("mail.refused", "address")]


@pytest.mark.usefixtures("database")
def test_mail_is_given_up_once_the_code_in_it_has_expired() -> None:
    code, notice = put(), put(NOTICE, NOW + SECOND, timedelta(hours=24))
    courier = courier_to(free_port())
    courier.run_once(NOW)
    with capture_logs() as logs:
        courier.purge(NOW + timedelta(minutes=10))
        assert left() == 1
        courier.purge(NOW + timedelta(hours=25))
    assert left() == 0
    assert [(log["event"], log["id"], log["template"], log["attempts"]) for log in logs] == [
        ("mail.expired", code, "code", 1),
        ("mail.expired", notice, "notice", 0),
    ]


@pytest.mark.usefixtures("database")
def test_sec_03_a_mail_that_does_not_open_stops_no_other(inbox: Inbox) -> None:
    put()
    OutboxMail.update(user_id=uuid.uuid4()).execute()
    put(NOTICE, NOW + SECOND, timedelta(minutes=15))
    with mail_server(inbox) as port, capture_logs() as logs:
        courier = courier_to(port)
        while courier.run_once(NOW + SECOND):
            pass
    assert [(log["event"], log["template"], log.get("reason")) for log in logs] == [
        ("mail.delayed", "code", "unsealable"),
        ("mail.sent", "notice", None),
    ]
    assert len(inbox.raw) == 1


def test_racing_couriers_send_each_mail_once(database: str, inbox: Inbox) -> None:
    for _ in range(15):
        put()
        put(NOTICE)
    rows = {str(mail.id) for mail in OutboxMail.select(OutboxMail.id)}
    assert len(rows) == 30

    def drain(courier: Courier) -> None:
        while courier.run_once(NOW):
            pass

    with mail_server(inbox) as port:
        threads = [threading.Thread(target=drain, args=[courier_to(port)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(mail["Message-ID"].strip("<>").partition("@")[0] for mail in inbox.mails) == sorted(rows)
    assert left() == 0


SEND_ONE = """
import sys
from datetime import datetime
from pathlib import Path
from server.courier import Courier
from storage import database, sealing
from tests.databases import bytes_on_disk, on_sqlite_only
from tests.server.mail_server import MailSettings

url, server, key, now = sys.argv[1:]
database.connect(url)
sealing.use({"test": bytes.fromhex(key)})
Courier(MailSettings.for_server(Path("unused"), server)).run_once(datetime.fromisoformat(now))
"""


def test_eml_10_the_mail_of_a_courier_that_was_killed_goes_out_after_the_lease(database: str, inbox: Inbox) -> None:
    key = bytes(range(sealing.KEY_BYTES))
    sealing.use({"test": key})
    put()
    with silent_server() as silence:
        arguments = [database, f"smtp://127.0.0.1:{silence}", key.hex(), NOW.isoformat()]
        doomed = subprocess.Popen([sys.executable, "-c", SEND_ONE, *arguments])
        wait_until(lambda: OutboxMail.get().attempts == 1, 20)
        doomed.kill()
        doomed.wait()
    with mail_server(inbox) as port:
        courier = courier_to(port)
        assert not courier.run_once(NOW + LEASE - SECOND)
        assert courier.run_once(NOW + LEASE)
    assert len(inbox.raw) == 1
    assert left() == 0


@pytest.mark.usefixtures("database")
def test_eml_05_no_log_line_holds_a_code_or_an_address(inbox: Inbox) -> None:
    with mail_server(inbox) as port, capture_logs() as logs:
        courier = courier_to(port)
        for answer in ({}, {"RCPT": f"451 {ALICE} 083652"}, {"DATA": f"550 {ALICE} 083652"}):
            inbox.answers = answer
            put()
            courier.run_once(NOW)
        courier.purge(NOW + timedelta(hours=1))
    assert {log["event"] for log in logs} == {"mail.sent", "mail.delayed", "mail.refused", "mail.expired"}
    assert "083652" not in str(logs)
    assert "alice" not in str(logs)


def test_a_running_courier_sends_at_once_what_a_transaction_put(database: str, inbox: Inbox) -> None:
    with mail_server(inbox) as port:
        courier = courier_to(port)
        courier.start()
        time.sleep(0.7)  # By now it looks for mail about once a second.
        with atomic():
            OutboxMail.put(Caller.of("alice"), CODE, datetime.now(UTC), datetime.now(UTC) + timedelta(minutes=10))
            time.sleep(0.2)
            assert not inbox.raw
        assert wait_until(lambda: inbox.raw) < 0.5
        wait_until(lambda: left() == 0)
        assert courier.stop()


PUT_ONE = """
import sys
from datetime import UTC, datetime, timedelta
from storage import database, outbox, sealing, user

database.connect(sys.argv[1])
sealing.use({"test": bytes.fromhex(sys.argv[2])})
with database.connection(), database.atomic():
    now = datetime.now(UTC)
    mail = outbox.Mail("code", "alice@example.com", {"code": "083652"})
    outbox.OutboxMail.put(user.Caller.of("alice"), mail, now, now + timedelta(minutes=10))
"""


def test_a_running_courier_finds_what_another_process_put(database: str, inbox: Inbox) -> None:
    key = bytes(range(sealing.KEY_BYTES))
    sealing.use({"test": key})
    with mail_server(inbox) as port:
        courier = courier_to(port)
        courier.start()
        subprocess.run([sys.executable, "-c", PUT_ONE, database, key.hex()], check=True, timeout=30)
        wait_until(lambda: inbox.raw, 2)
        assert courier.stop()


@pytest.mark.usefixtures("database")
def test_eml_06_a_courier_keeps_the_pace(inbox: Inbox) -> None:
    for _ in range(6):
        put(now=datetime.now(UTC))
    with mail_server(inbox) as port:
        courier = courier_to(port)
        courier.start()
        wait_until(lambda: inbox.raw)
        assert wait_until(lambda: len(inbox.raw) == 6) > 4 / MAILS_A_SECOND
        assert courier.stop()


def test_a_courier_survives_a_database_that_is_gone_and_goes_on(
    database: str, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(couriers, "FIRST_TROUBLE", 0.05)
    put(now=datetime.now(UTC))
    with connection():
        OutboxMail._meta.database.execute_sql("ALTER TABLE outbox_mail RENAME TO elsewhere")
    with mail_server(inbox) as port, capture_logs() as logs:
        courier = courier_to(port)
        courier.start()
        wait_until(lambda: len(logs) >= 2)
        OutboxMail._meta.database.execute_sql("ALTER TABLE elsewhere RENAME TO outbox_mail")
        wait_until(lambda: inbox.raw)
        assert courier.stop()
    missing = peewee.OperationalError if is_sqlite() else peewee.ProgrammingError
    assert {(log["event"], log["error"]) for log in logs[:2]} == {("courier.failed", missing.__name__)}
    assert "run_once" in "".join(logs[0]["stack"])


@pytest.mark.usefixtures("database")
def test_a_running_courier_purges_what_has_expired(tmp_path: Path) -> None:
    put()
    courier = Courier(MailSettings(tmp_path))
    courier.start()
    wait_until(lambda: left() == 0)
    assert courier.stop()
    assert not (tmp_path / "outbox").exists()


@pytest.mark.usefixtures("database")
def test_stop_waits_for_the_mail_in_hand(inbox: Inbox) -> None:
    inbox.slow = 0.3
    put(now=datetime.now(UTC))
    with mail_server(inbox) as port:
        courier = courier_to(port)
        courier.start()
        wait_until(lambda: "DATA" in inbox.commands)
        assert courier.stop()
    assert len(inbox.raw) == 1
    assert left() == 0


@pytest.mark.usefixtures("database")
def test_stop_does_not_wait_for_ever_for_a_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "TIMEOUT", 0.5)
    put(now=datetime.now(UTC))
    with silent_server() as port:
        courier = courier_to(port)
        courier.start()
        wait_until(lambda: OutboxMail.get().attempts == 1)
        assert not courier.stop(within=0.1)
        courier.join()
    assert left() == 1


@pytest.mark.usefixtures("database")
def test_an_idle_courier_stops_at_once(tmp_path: Path) -> None:
    courier = Courier(MailSettings(tmp_path))
    courier.start()
    time.sleep(0.7)  # By now it looks for mail about once a second.
    start = time.monotonic()
    assert courier.stop()
    assert time.monotonic() - start < 0.3


@pytest.mark.parametrize("wrong", [{"smtp_url": "http://x"}, {"mail_from": "nobody"}])
def test_wrong_settings_make_no_courier(tmp_path: Path, wrong: dict[str, str]) -> None:
    url = wrong.pop("smtp_url", "smtp://127.0.0.1")
    with pytest.raises(ValueError, match=r"^MFA_"):
        Courier(MailSettings.for_server(tmp_path, url, **wrong))
