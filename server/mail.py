"""What a mail looks like: subject, plain text and HTML from the templates, and headers that nothing can inject into."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import jinja2

from storage.outbox import OutboxMail

# Lines that every mail server takes, whatever alphabet the names in them are written in (RFC 5321 section 2.4).
POLICY = SMTP.clone(cte_type="7bit")
# Control characters, separators of lines and paragraphs, and lone surrogates, which no encoding has.
_UNPRINTABLE = frozenset({"Cc", "Zl", "Zp", "Cs"})
# What turns the direction of text around (Unicode Standard Annex 9, section 2).
_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=jinja2.select_autoescape(["html"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Refused(Exception):
    """This mail will never be taken. Its argument is a word for the log; it never holds an address."""


class Delayed(Exception):
    """This mail was not taken now. Its argument is a word for the log; it never holds an address."""


def sender_address(mail_from: str, issuer: str) -> Address:
    """The sender that `mail_from` names, under the issuer's name unless it brings its own. Raises ValueError."""
    header = POLICY.header_factory("From", mail_from)
    if len(header.addresses) != 1 or header.defects or not header.addresses[0].addr_spec.isascii():
        raise ValueError("MFA_MAIL_FROM is not one address, such as mfa@example.com or MFA <mfa@example.com>")
    address: Address = header.addresses[0]
    return Address(one_line(address.display_name or issuer), address.username, address.domain)


def compose(waiting: OutboxMail, *, sender: Address, issuer: str) -> EmailMessage:
    """The mail that waits, ready to be sent; the same bytes whenever it is composed, but for MIME boundaries.

    Its Message-ID is that of the outbox row, so that a copy sent after a lost answer is recognised as one.
    Raises sealing.Unsealable, or Refused when what it is addressed to is not one address.
    """
    mail = waiting.open()
    shown = {name: one_line(value) if isinstance(value, str) else value for name, value in mail.values.items()}
    shown |= {
        "issuer": one_line(issuer),
        "at": _utc(waiting.created_at),
        "until": _utc(waiting.expires_at),
        "minutes": math.ceil((waiting.expires_at - waiting.created_at) / timedelta(minutes=1)),
    }
    message = EmailMessage(POLICY)
    message["From"] = sender
    message["To"] = _recipient(mail.to)
    message["Subject"] = one_line(_render(waiting, "subject.txt", shown))
    message["Date"] = waiting.created_at
    message["Message-ID"] = f"<{waiting.id}@{sender.domain}>"
    # No out-of-office answers, please (RFC 3834 section 5).
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_render(waiting, "txt", shown))
    message.add_alternative(_render(waiting, "html", shown), subtype="html")
    return message


def one_line(text: str) -> str:
    """The text without anything that could end a line, or hide or turn what stands beside it."""
    # The library decodes encoded words (RFC 2047) in what headers are set to, and writes the line ends in them out.
    characters = text.replace("=?", "= ?")
    harmless = (
        " " if unicodedata.category(c) in _UNPRINTABLE or unicodedata.bidirectional(c) in _TURNING else c
        for c in characters
    )
    return " ".join("".join(harmless).split())


def _recipient(to: str) -> Address:
    # The library's parser also raises IndexError on some broken addresses, and forgives a few that are not one.
    try:
        address = Address(addr_spec=to)
    except (ValueError, IndexError, MessageError) as error:
        raise Refused("address") from error
    if address.addr_spec != to or not to.isascii():
        raise Refused("address")
    return address


def _render(waiting: OutboxMail, part: str, values: Mapping[str, object]) -> str:
    return _templates.get_template(f"{waiting.template}.{part}").render(values)


def _utc(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
