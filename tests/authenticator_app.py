"""An authenticator app: it scans a key URI and shows codes. It shares no code with the server, nor with pyotp."""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

STEP_SECONDS = 30


@dataclass(frozen=True)
class AuthenticatorApp:
    """One account in the app. Issuer and account are what it shows beside the code."""

    secret: bytes
    issuer: str = ""
    account: str = ""

    @classmethod
    def scan(cls, uri: str) -> Self:
        """Read a key URI as the apps do: anything but one issuer, one account and one secret is refused.

        Raises ValueError.
        """
        parts = urlsplit(uri)
        label = parts.path.removeprefix("/").split(":")
        if (parts.scheme, parts.netloc, parts.fragment, len(label)) != ("otpauth", "totp", "", 2):
            raise ValueError(uri)
        issuer, account = map(unquote, label)
        parameters = parse_qsl(parts.query, strict_parsing=True, separator="&")
        if [name for name, _ in parameters] != ["secret", "issuer"] or dict(parameters)["issuer"] != issuer:
            raise ValueError(uri)
        return cls(base64.b32decode(dict(parameters)["secret"]), issuer, account)

    def code(self, now: datetime, steps: int = 0) -> str:
        """The code at a time, or so many steps later."""
        return code_at_step(self.secret, step_at(now) + steps)


def step_at(now: datetime) -> int:
    return int(now.timestamp()) // STEP_SECONDS


def code_at_step(secret: bytes, step: int) -> str:
    """RFC 4226 section 5.3, with the step of RFC 6238 section 4.2 as its counter."""
    digest = hmac.digest(secret, step.to_bytes(8), "sha1")
    offset = digest[-1] & 0xF
    return f"{(int.from_bytes(digest[offset : offset + 4]) & 0x7FFFFFFF) % 1_000_000:06d}"
