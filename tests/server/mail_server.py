"""A real mail server on this machine, whose moods a test chooses, and the authority that certifies it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

USER, PASSWORD = "mfa@example.org", "p@ss:w/rd"
USERINFO = "mfa%40example.org:p%40ss%3Aw%2Frd"


@dataclass
class MailSettings:
    """The part of the settings that mail needs."""

    data_dir: Path
    smtp_url: SecretStr | None = None
    mail_from: str = "mfa@example.org"
    issuer_name: str = "Example"

    @classmethod
    def for_server(cls, data_dir: Path, url: str, **more: str) -> MailSettings:
        return cls(data_dir, SecretStr(url), **more)


@dataclass
class Inbox:
    """What a mail server has taken, and how it answers.

    `answers` gives the reply to RCPT or DATA in place of its own; `drop_at` names the command at which the
    connection is cut; `slow` is how many seconds DATA takes.
    """

    answers: dict[str, str] = field(default_factory=dict)
    drop_at: str | None = None
    slow: float = 0
    raw: list[bytes] = field(default_factory=list)
    envelopes: list[tuple[str, list[str]]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    @property
    def mails(self) -> list[EmailMessage]:
        return [message_from_bytes(raw, _class=EmailMessage, policy=SMTP) for raw in self.raw]

    async def handle_RCPT(self, server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        self.commands.append("RCPT")
        if self.drop_at == "RCPT":
            server.transport.abort()
        if answer := self.answers.get("RCPT"):
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:
        self.commands.append("DATA")
        await asyncio.sleep(self.slow)
        if answer := self.answers.get("DATA"):
            return answer
        self.raw.append(envelope.original_content)
        self.envelopes.append((envelope.mail_from, list(envelope.rcpt_tos)))
        if self.drop_at == "DATA":
            server.transport.abort()
        return "250 OK"


@contextlib.contextmanager
def mail_server(inbox: Inbox, port: int | None = None, **options: Any) -> Iterator[int]:
    """Run it for the length of a `with` block, at a free port or at the one given."""
    with warnings.catch_warnings():
        # aiosmtpd warns of this at each connection, and takes TLS from the start for no TLS.
        warnings.filterwarnings("ignore", "Requiring AUTH while not requiring TLS", UserWarning)
        controller = Controller(inbox, hostname="127.0.0.1", port=port or free_port(), **options)
        controller.start()
        try:
            yield controller.port
        finally:
            controller.stop()


def with_login() -> dict[str, Any]:
    """Options of a mail server that takes mail only after the right login."""

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, login: Any) -> AuthResult:
        right = (login.login, login.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=right, handled=False)

    return {"authenticator": authenticate, "auth_required": True}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """Connections to it succeed and then nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def certified(folder: Path, name: str = "127.0.0.1") -> tuple[ssl.SSLContext, Path]:
    """A throw-away authority: the TLS of a server that it certifies for `name`, and its own certificate's file."""
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority_name = _name("Throw-away authority")
    now = datetime.now(UTC)

    def certificate(subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_authority: bool) -> Any:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(issuer, critical=False)
        )

    # Python 3.13 and newer take no authority that does not say that it signs (RFC 5280 section 4.2.1.3).
    signs = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    authority = (
        certificate(authority_name, authority_key, is_authority=True)
        .add_extension(signs, critical=True)
        .sign(authority_key, SHA256())
    )
    names = x509.SubjectAlternativeName(
        [x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)]
    )
    server = (
        certificate(_name(name), server_key, is_authority=False)
        .add_extension(names, critical=False)
        .sign(authority_key, SHA256())
    )
    chain, trusted = folder / "server.pem", folder / "authority.pem"
    key = server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain.write_bytes(key + server.public_bytes(Encoding.PEM))
    trusted.write_bytes(authority.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context, trusted


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
