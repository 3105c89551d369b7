"""How a mail leaves: to a mail server by SMTP, or in development into a folder of `.eml` files."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import smtplib
import ssl
import tempfile
from collections.abc import Iterator
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import SecretStr

from server.mail import Delayed, Refused, sender_address

# Seconds that one step of a conversation with the mail server may take: to connect, to answer a command.
TIMEOUT = 10.0
PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
PERMANENT = 500


class Settings(Protocol):
    """What mail needs of the settings."""

    smtp_url: SecretStr | None
    mail_from: str
    data_dir: Path
    issuer_name: str


class Transport(Protocol):
    """Where mail goes."""

    def send(self, message: EmailMessage) -> None:
        """Hand the mail over. Raises Refused when trying again is of no use, Delayed when it is."""

    def check(self) -> None:
        """Raises Delayed when mail could not be handed over now."""


def transport(settings: Settings) -> Transport:
    """Where the settings say that mail goes. Raises ValueError, which names the setting and repeats no part of it."""
    if settings.smtp_url is None:
        return Folder(settings.data_dir / "outbox")
    return MailServer(settings.smtp_url.get_secret_value(), sender_address(settings.mail_from, settings.issuer_name))


class MailServer:
    """A mail server that takes our mail (RFC 5321, 6409), with TLS from the start (8314) or by STARTTLS (3207).

    Its certificate is verified against the system's authorities, or those of the file that SSL_CERT_FILE names.

    Args:
        url: `smtp://`, `smtp+starttls://` or `smtps://`, then `[user:password@]host[:port]`, percent-encoded.
        sender: Who sends.
    """

    def __init__(self, url: str, sender: Address) -> None:
        parts = _split(url)
        self._scheme = parts.scheme
        self._host = str(parts.hostname)
        self._port = parts.port or PORTS[parts.scheme]
        self._login = (unquote(parts.username or ""), unquote(parts.password or "")) if parts.username else None
        self._sender = sender

    def send(self, message: EmailMessage) -> None:
        [recipient] = message["To"].addresses
        try:
            with self._conversation() as smtp:
                smtp.send_message(message, self._sender.addr_spec, [recipient.addr_spec])
                # The mail is accepted; how the conversation ends changes nothing about that.
                with contextlib.suppress(OSError):
                    smtp.quit()
        except smtplib.SMTPRecipientsRefused as error:
            [(code, _)] = error.recipients.values()
            raise (Refused if code >= PERMANENT else Delayed)(str(code)) from error
        except smtplib.SMTPDataError as error:
            raise (Refused if error.smtp_code >= PERMANENT else Delayed)(str(error.smtp_code)) from error
        except OSError as error:
            # A login, a sender or a greeting that is refused is about us: the operator mends it, and the mail goes.
            raise Delayed(_reason(error)) from error

    def check(self) -> None:
        try:
            with self._conversation() as smtp:
                smtp.quit()
        except OSError as error:
            raise Delayed(_reason(error)) from error

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    @contextlib.contextmanager
    def _conversation(self) -> Iterator[smtplib.SMTP]:
        with contextlib.closing(self._connect()) as smtp:
            if self._scheme == "smtp+starttls":
                smtp.starttls(context=self._tls)
            if self._login:
                smtp.login(*self._login)
            yield smtp

    def _connect(self) -> smtplib.SMTP:
        # We greet as the sender's domain: the default would ask the resolver for our own name, without a bound.
        greeting = self._sender.domain
        if self._scheme == "smtps":
            return smtplib.SMTP_SSL(self._host, self._port, greeting, timeout=TIMEOUT, context=self._tls)
        return smtplib.SMTP(self._host, self._port, greeting, timeout=TIMEOUT)


class Folder:
    """A folder with a file for each mail, for its owner only; a mail that is sent twice is still one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, message: EmailMessage) -> None:
        row = message["Message-ID"].strip("<>").partition("@")[0]
        name = f"{message['Date'].datetime:%Y%m%dT%H%M%SZ}-{row}.eml"
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = self._path / f".{name}"
            with open(draft, "wb", opener=_for_its_owner) as file:
                file.write(message.as_bytes())
            # It gets its name only once it is whole.
            draft.replace(self._path / name)
        except OSError as error:
            raise Delayed(_reason(error)) from error

    def check(self) -> None:
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._path):
                pass
        except OSError as error:
            raise Delayed(_reason(error)) from error


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        login = unquote(f"{parts.username or ''}{parts.password or ''}", errors="strict")
        beyond = parts.path.strip("/") or parts.query or parts.fragment
        if parts.scheme not in PORTS or not host or parts.port == 0 or beyond:
            raise ValueError
        if bool(parts.username) != bool(parts.password):
            raise ValueError
    except ValueError:
        # The cause may repeat the password.
        raise ValueError(
            "MFA_SMTP_URL has the form smtp+starttls://user:password@host:port, or smtps:// or smtp://"
        ) from None
    if not login.isascii() or not login.isprintable():
        raise ValueError("MFA_SMTP_URL: user and password may hold printable ASCII only")
    if parts.scheme == "smtp" and parts.username and not _is_loopback(str(parts.hostname)):
        raise ValueError("MFA_SMTP_URL sends a password in clear: use smtp+starttls:// or smtps://")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reason(error: OSError) -> str:
    """The answer's code or the error's kind: a mail server's text may repeat the address."""
    return str(error.smtp_code) if isinstance(error, smtplib.SMTPResponseException) else type(error).__name__
