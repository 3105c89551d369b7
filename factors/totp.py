"""Time-based one-time passwords (RFC 6238): SHA-1, 6 digits, 30 seconds, as every authenticator app takes them."""

from __future__ import annotations

import base64
import hmac
from datetime import datetime

import pyotp

from factors.errors import InvalidCode

SECRET_BYTES = 20  # 160 bits, RFC 4226 section 4, requirement R6
STEP_SECONDS = 30
# A label is for people, and its QR code has to stay readable.
LONGEST_ACCOUNT = 100


def base32(secret: bytes) -> str:
    """The secret as people type it: RFC 4648 base32 without padding."""
    return base64.b32encode(secret).decode().rstrip("=")


def otpauth_uri(secret: bytes, *, account: str, issuer: str) -> str:
    """The key URI that authenticator apps scan: issuer in the label and as parameter, all of it percent-encoded."""
    return pyotp.TOTP(base32(secret)).provisioning_uri(name=account[:LONGEST_ACCOUNT], issuer_name=issuer)


class _Totp(pyotp.TOTP):
    """PyOTP's, of a secret that is bytes already: it would decode the text of it anew for each code."""

    def __init__(self, secret: bytes) -> None:
        # PyOTP asks for it while it is made.
        self._bytes = secret
        super().__init__(base32(secret))

    def byte_secret(self) -> bytes:
        return self._bytes


def matching_step(secret: bytes, code: str, now: datetime, window: int) -> int:
    """The time step whose code this is.

    Every step from `window` before to `window` after the current one is computed and compared in constant time, so
    the time taken tells nothing about a match (RFC 4226 section 7.2, RFC 6238 section 5.2).

    Args:
        secret: The shared secret.
        code: Six ASCII digits; the contract's pattern has seen to that.
        now: The server's time.
        window: Steps accepted on either side, for clocks that differ.

    Raises:
        InvalidCode: It is the code of none of them.
    """
    totp = _Totp(secret)
    current = int(now.timestamp()) // STEP_SECONDS
    steps = range(current - window, current + window + 1)
    matches = [step for step in steps if hmac.compare_digest(totp.generate_otp(step), code)]
    if not matches:
        raise InvalidCode(reason="wrong")
    return matches[-1]
