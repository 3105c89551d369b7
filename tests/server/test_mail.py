"""What mails say, and what nothing in them can do."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from html.parser import HTMLParser
from pathlib import Path

import pytest

from server.mail import Refused, compose, one_line, sender_address
from storage.database import atomic
from storage.outbox import Mail, OutboxMail
from storage.user import Caller

pytestmark = pytest.mark.usefixtures("database")

NOW = datetime(2026, 3, 1, 12, 5, tzinfo=UTC)
ALICE = "alice@example.com"
CODE = Mail("code", ALICE, {"code": "083652"})
HANDLERS = Path(__file__).parents[2] / "handlers"
EVENTS: dict[str, dict[str, str | int]] = {
    "totp.enabled": {},
    "totp.disabled": {},
    "email.enabled": {},
    "email.disabled": {},
    "webauthn.enabled": {"name": "YubiKey 5"},
    "webauthn.disabled": {"name": "YubiKey 5"},
    "backup_codes.regenerated": {},
    "backup_code.used": {"remaining": 7},
    "backup_code.recovery": {},
    "user.reset": {},
    "locked": {},
}
# What mail programs and servers take for the end of a line, and more that has no place in one.
BREAKS = ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x00", "\ud800"]
HEADERS = {
    "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"
}  # fmt: skip


def put(mail: Mail) -> OutboxMail:
    with atomic():
        OutboxMail.delete().execute()
        OutboxMail.put(Caller.of("alice"), mail, NOW, NOW + timedelta(minutes=10))
    row: OutboxMail = OutboxMail.get()
    return row


def composed(mail: Mail, issuer: str = "Example", mail_from: str = "mfa@example.org") -> EmailMessage:
    """The mail as its reader's program sees it: from the bytes that go over the wire."""
    message = compose(put(mail), sender=sender_address(mail_from, issuer), issuer=issuer)
    read: EmailMessage = message_from_bytes(message.as_bytes(), _class=EmailMessage, policy=SMTP)
    return read


def notice(event: str, **values: str | int) -> Mail:
    return Mail("notice", ALICE, {"event": event, **values})


def text_of(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def html_of(message: EmailMessage) -> str:
    part = message.get_body(("html",))
    assert part is not None
    return str(part.get_content())


class Reader(HTMLParser):
    """Collects what an HTML part shows, and the tags it is made of."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.shown, self.tags = "", set[str]()
        self.feed(html)
        self.close()

    def handle_data(self, data: str) -> None:
        self.shown += data

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        self.tags.add(tag)


def test_a_code_mail_tells_the_code_who_it_is_for_how_long_it_lives_and_what_to_do() -> None:
    message = composed(CODE)
    assert message["Subject"] == "Your code for Example"
    for shown in (text_of(message), Reader(html_of(message)).shown):
        words = " ".join(shown.split())
        assert "Your code for Example is 083652" in words
        assert "until 2026-03-01 12:15 UTC: 10 minutes" in words
        assert "If it was not you" in words


def test_the_code_is_not_in_the_subject_where_a_locked_screen_shows_it() -> None:
    assert "083652" not in str(composed(CODE).items())


@pytest.mark.parametrize("event", EVENTS)
def test_not_01_a_notice_tells_what_happened_when_and_what_to_do(event: str) -> None:
    message = composed(notice(event, **EVENTS[event]))
    assert message["Subject"].startswith("Example: ")
    for shown in (text_of(message), Reader(html_of(message)).shown):
        words = " ".join(shown.split())
        assert "2026-03-01 12:05 UTC" in words
        assert "If it was not you" in words
        assert "Change your password" in words
        assert all(str(value) in words for value in EVENTS[event].values())


def test_no_two_notices_have_the_same_subject() -> None:
    subjects = {composed(notice(event, **values))["Subject"] for event, values in EVENTS.items()}
    assert len(subjects) == len(EVENTS)


def test_every_event_that_a_handler_notifies_of_has_its_words() -> None:
    source = "".join(path.read_text() for path in HANDLERS.glob("*.py"))
    notified = set(re.findall(r'notice\.send\(\s*caller,\s*"([^"]+)"', source))
    assert notified
    assert notified <= set(EVENTS)


def test_bck_06_the_owner_hears_how_many_backup_codes_are_left() -> None:
    assert "Backup codes left: 0" in text_of(composed(notice("backup_code.used", remaining=0)))


def test_both_parts_and_all_headers_are_there_once() -> None:
    message = composed(CODE)
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert sorted(message.keys()) == sorted(HEADERS)
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime == NOW


def test_a_retry_has_the_same_message_id_and_another_mail_another() -> None:
    sender = sender_address("mfa@example.org", "Example")
    row = put(CODE)
    first, again = (compose(row, sender=sender, issuer="Example")["Message-ID"] for _ in range(2))
    assert first == again == f"<{row.id}@example.org>"
    assert compose(put(CODE), sender=sender, issuer="Example")["Message-ID"] != first


def test_mail_comes_under_the_issuers_name_unless_the_setting_brings_one() -> None:
    assert composed(CODE)["From"] == "Example <mfa@example.org>"
    assert composed(CODE, mail_from="Second factor <mfa@example.org>")["From"] == "Second factor <mfa@example.org>"


@pytest.mark.parametrize("broken", ["", "mfa", "a@example.org, b@example.org", "mfa@example.org\r\nBcc: b@x", "ä@x.de"])
def test_a_sender_that_is_not_one_address_is_refused_by_the_name_of_its_setting(broken: str) -> None:
    with pytest.raises(ValueError, match=r"^MFA_MAIL_FROM is not one address"):
        sender_address(broken, "Example")


@pytest.mark.parametrize("line_break", BREAKS)
def test_eml_07_no_issuer_can_add_a_header_or_a_recipient(line_break: str) -> None:
    message = composed(CODE, issuer=f"Example{line_break}Bcc: mallory@example.net{line_break}{line_break}Hello")
    assert sorted(message.keys()) == sorted(HEADERS)
    assert message["Subject"] == "Your code for Example Bcc: mallory@example.net Hello"
    assert [str(address.addr_spec) for address in message["From"].addresses] == ["mfa@example.org"]


@pytest.mark.parametrize(
    "issuer", ['Acme, "Inc." <x@example.net>', "Größe; ÄÖÜ, " * 12, "a" * 300, "=?utf-8?q?x=0ABcc?="]
)
def test_eml_07_no_issuer_changes_who_sends(issuer: str) -> None:
    message = composed(CODE, issuer=issuer)
    assert sorted(message.keys()) == sorted(HEADERS)
    assert [address.addr_spec for address in message["From"].addresses] == ["mfa@example.org"]
    assert [address.addr_spec for address in message["To"].addresses] == [ALICE]


@pytest.mark.parametrize("line_break", BREAKS)
def test_eml_07_no_device_name_can_add_a_line_to_the_text(line_break: str) -> None:
    message = composed(notice("webauthn.enabled", name=f"Key{line_break}{line_break}Your account is closed."))
    assert "    Key:   Key Your account is closed.\n" in text_of(message).replace("\r\n", "\n")
    assert sorted(message.keys()) == sorted(HEADERS)


def test_a_name_cannot_turn_the_direction_of_the_text_around() -> None:
    assert one_line("Key \u202egpj.exe\u2066 \u05d0\u200d") == "Key gpj.exe \u05d0\u200d"


@pytest.mark.parametrize(
    "address",
    [
        "alice@example.com\r\nBcc: mallory@example.net",
        "alice@example.com\nmallory@example.net",
        "alice@example.com,mallory@example.net",
        "alice@example.com;mallory@example.net",
        "Alice <alice@example.com>",
        "<alice@example.com>",
        "alice@example.com>",
        " alice@example.com",
        "alice@example.com\t",
        "alice@example.com (Bcc: mallory@example.net)",
        "alice\x00@example.com",
        "alice@exam\u2028ple.com",
        "alice@bücher.example",
        "alice",
        "alice@",
        "@example.com",
        "",
    ],
)
def test_eml_07_what_is_not_exactly_one_address_gets_no_mail(address: str) -> None:
    with pytest.raises(Refused, match=r"^address$"):
        composed(Mail("code", address, {"code": "083652"}))


def test_the_longest_address_is_one_recipient() -> None:
    address = f"{'x' * 64}@{'.'.join(['y' * 61] * 3)}.com"
    assert [recipient.addr_spec for recipient in composed(Mail("code", address, {"code": "1"}))["To"].addresses] == [
        address
    ]


def test_eml_07_markup_in_names_is_shown_and_never_obeyed() -> None:
    evil = "<script>alert(1)</script><a href='https://example.net'>&amp;"
    plain = composed(notice("webauthn.enabled", name="Key"))
    message = composed(notice("webauthn.enabled", name=evil), issuer=evil)
    page = Reader(html_of(message))
    assert page.tags == Reader(html_of(plain)).tags
    assert page.shown.count(evil) == 3
    assert evil in text_of(message)


def test_names_in_any_alphabet_arrive_whole_over_a_server_that_takes_ascii_only() -> None:
    issuer = "Bücher 書店 🔑"
    message = compose(put(CODE), sender=sender_address("mfa@example.org", issuer), issuer=issuer)
    assert message.as_bytes().isascii()
    read = composed(CODE, issuer=issuer)
    assert read["Subject"] == f"Your code for {issuer}"
    assert issuer in text_of(read)
    assert issuer in html_of(read)
