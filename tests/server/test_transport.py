"""How mail leaves: a real mail server in all its moods, and the folder of development."""

from __future__ import annotations

import smtplib
import stat
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any

import pytest

from server import transport as transports
from server.mail import Delayed, Refused
from server.transport import transport
from tests.server.mail_server import (
    PASSWORD,
    USERINFO,
    Inbox,
    MailSettings,
    certified,
    free_port,
    mail_server,
    silent_server,
    with_login,
)


def message(to: str = "alice@example.com") -> EmailMessage:
    mail = EmailMessage(SMTP)
    mail["From"] = "Example <mfa@example.org>"
    mail["To"] = to
    mail["Date"] = "Sun, 01 Mar 2026 12:05:00 +0000"
    mail["Message-ID"] = "<6f0c@example.org>"
    mail.set_content("The code is 083652.")
    return mail


def send(folder: Path, url: str) -> None:
    transport(MailSettings.for_server(folder, url)).send(message())


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture(autouse=True)
def _short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "TIMEOUT", 0.5)


def test_mail_arrives_with_sender_and_recipient(tmp_path: Path, inbox: Inbox) -> None:
    with mail_server(inbox) as port:
        send(tmp_path, f"smtp://127.0.0.1:{port}")
    assert inbox.envelopes == [("mfa@example.org", ["alice@example.com"])]
    assert inbox.mails[0].get_content().strip() == "The code is 083652."


def test_smtps_logs_in_with_the_percent_decoded_user_and_password(
    tmp_path: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, trusted = certified(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with mail_server(inbox, ssl_context=tls, auth_require_tls=False, **with_login()) as port:
        send(tmp_path, f"smtps://{USERINFO}@127.0.0.1:{port}")
    assert len(inbox.raw) == 1


def test_starttls_comes_before_the_login(tmp_path: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    tls, trusted = certified(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with mail_server(inbox, tls_context=tls, require_starttls=True, **with_login()) as port:
        send(tmp_path, f"smtp+starttls://{USERINFO}@127.0.0.1:{port}")
    assert len(inbox.raw) == 1


def test_a_login_over_plain_smtp_goes_to_this_machine_only(tmp_path: Path, inbox: Inbox) -> None:
    with mail_server(inbox, auth_require_tls=False, **with_login()) as port:
        send(tmp_path, f"smtp://{USERINFO}@127.0.0.1:{port}")
    assert len(inbox.raw) == 1
    for host in ("mail.example.org", "192.0.2.1", "localhost.example.org", "[2001:db8::1]"):
        with pytest.raises(ValueError, match="password in clear"):
            send(tmp_path, f"smtp://{USERINFO}@{host}")
    for host in ("localhost", "[::1]", "127.8.8.8"):
        transport(MailSettings.for_server(tmp_path, f"smtp://{USERINFO}@{host}"))


def test_a_wrong_password_delays_mail_and_is_found_by_check(tmp_path: Path, inbox: Inbox) -> None:
    with mail_server(inbox, auth_require_tls=False, **with_login()) as port:
        right = transport(MailSettings.for_server(tmp_path, f"smtp://{USERINFO}@127.0.0.1:{port}"))
        wrong = transport(MailSettings.for_server(tmp_path, f"smtp://{USERINFO}x@127.0.0.1:{port}"))
        right.check()
        with pytest.raises(Delayed, match=r"^535$"):
            wrong.check()
        with pytest.raises(Delayed, match=r"^535$"):
            wrong.send(message())
    assert not inbox.raw


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
@pytest.mark.parametrize("name", ["untrusted authority", "another host"])
def test_a_certificate_that_does_not_verify_gets_no_mail_and_no_password(
    tmp_path: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, scheme: str, name: str
) -> None:
    tls, trusted = certified(tmp_path, "mail.example.org" if name == "another host" else "127.0.0.1")
    if name == "another host":
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    options: dict[str, Any] = {"ssl_context": tls} if scheme == "smtps" else {"tls_context": tls}
    with mail_server(inbox, **options) as port, pytest.raises(Delayed, match=r"^SSLCertVerificationError$"):
        send(tmp_path, f"{scheme}://{USERINFO}@127.0.0.1:{port}")
    assert not inbox.commands


def test_a_server_without_starttls_gets_no_mail_in_clear(tmp_path: Path, inbox: Inbox) -> None:
    with mail_server(inbox) as port, pytest.raises(Delayed, match=r"^SMTPNotSupportedError$"):
        send(tmp_path, f"smtp+starttls://127.0.0.1:{port}")
    assert not inbox.commands


@pytest.mark.parametrize("command", ["RCPT", "DATA"])
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("550 5.1.1 No such user <alice@example.com>", Refused("550")),
        ("554 5.7.1 Spam", Refused("554")),
        ("451 4.7.1 Greylisted, alice@example.com", Delayed("451")),
        ("421 4.3.2 Going down", Delayed("421")),
    ],
)
def test_eml_10_what_the_server_refuses_for_good_is_not_tried_again(
    tmp_path: Path, inbox: Inbox, command: str, answer: str, outcome: Exception
) -> None:
    inbox.answers[command] = answer
    with mail_server(inbox) as port, pytest.raises(type(outcome)) as refusal:
        send(tmp_path, f"smtp://127.0.0.1:{port}")
    assert str(refusal.value) == str(outcome)


@pytest.mark.parametrize("command", ["RCPT", "DATA"])
def test_eml_10_a_connection_that_drops_delays_the_mail(tmp_path: Path, inbox: Inbox, command: str) -> None:
    inbox.drop_at = command
    with mail_server(inbox) as port, pytest.raises(Delayed, match=r"^SMTPServerDisconnected$"):
        send(tmp_path, f"smtp://127.0.0.1:{port}")


def test_eml_10_a_server_that_hangs_is_left_after_the_timeout(tmp_path: Path) -> None:
    with silent_server() as port, pytest.raises(Delayed, match=r"^(SMTPServerDisconnected|TimeoutError)$"):
        send(tmp_path, f"smtp://127.0.0.1:{port}")


def test_eml_10_a_server_that_is_down_delays_the_mail(tmp_path: Path) -> None:
    with pytest.raises(Delayed, match=r"^ConnectionRefusedError$"):
        send(tmp_path, f"smtp://127.0.0.1:{free_port()}")


def test_an_accepted_mail_is_sent_however_the_conversation_ends(tmp_path: Path) -> None:
    class Rude(Inbox):
        async def handle_QUIT(self, server: object, _session: object, _envelope: object) -> str:
            server.transport.abort()  # type: ignore[attr-defined]
            return "421 Bye"

    inbox = Rude()
    with mail_server(inbox) as port:
        send(tmp_path, f"smtp://127.0.0.1:{port}")
    assert len(inbox.raw) == 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mail.example.org",
        "http://mail.example.org",
        "smtps://",
        "smtps://mail.example.org:0",
        "smtps://mail.example.org:99999",
        "smtps://mail.example.org/queue",
        "smtps://mail.example.org?verify=no",
        "smtps://hunter2@mail.example.org",
        "smtps://:hunter2@mail.example.org",
        "smtps://user:hunter2@mail..example.org",
        "smtps://user:hunter2%ff@mail.example.org",
        "smtps://user:hunter2%0d%0a@mail.example.org",
        "smtps://user:hunter2%C3%A9@mail.example.org",
    ],
)
def test_a_wrong_smtp_url_is_refused_by_name_and_not_repeated(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match=r"^MFA_SMTP_URL") as refusal:
        transport(MailSettings.for_server(tmp_path, url))
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@pytest.mark.parametrize(("scheme", "port"), [("smtp", 25), ("smtp+starttls", 587), ("smtps", 465)])
def test_the_port_is_the_schemes_own_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, port: int
) -> None:
    asked: list[tuple[str, int]] = []

    def refuse(address: tuple[str, int], *_: object) -> None:
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(smtplib.socket, "create_connection", refuse)  # type: ignore[attr-defined]
    with pytest.raises(Delayed):
        send(tmp_path, f"{scheme}://mail.example.org")
    assert asked == [("mail.example.org", port)]


def test_without_a_server_each_mail_is_a_file_for_its_owner_only(tmp_path: Path) -> None:
    transport(MailSettings(tmp_path / "data")).send(message())
    folder = tmp_path / "data" / "outbox"
    [file] = folder.iterdir()
    assert file.name == "20260301T120500Z-6f0c.eml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    read = message_from_bytes(file.read_bytes(), policy=SMTP)
    assert read["To"] == "alice@example.com"
    assert b"The code is 083652." in file.read_bytes()


def test_a_mail_that_is_sent_again_is_still_one_file(tmp_path: Path) -> None:
    folder = transport(MailSettings(tmp_path))
    folder.send(message())
    folder.send(message())
    assert len(list((tmp_path / "outbox").iterdir())) == 1


def test_a_folder_that_cannot_be_written_delays_the_mail_and_is_found_by_check(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("a file is in the way")
    folder = transport(MailSettings(tmp_path))
    with pytest.raises(Delayed, match=r"^FileExistsError$"):
        folder.check()
    with pytest.raises(Delayed, match=r"^FileExistsError$"):
        folder.send(message())


def test_the_password_stands_in_no_text_of_the_transport(tmp_path: Path) -> None:
    server = transport(MailSettings.for_server(tmp_path, f"smtps://{USERINFO}@mail.example.org"))
    assert PASSWORD not in f"{server!r} {server}"
