"""The life of a user's factors, through HTTP, with nothing of ours at the other end.

The codes come from oathtool, the QR code is read by zbarimg, the mail is taken by a mail server that asks for STARTTLS
and a login, and the security key shares no code with the server.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest

from tests import programs
from tests.authenticator import Authenticator
from tests.running import API, RunningServer
from tests.server.mail_server import USERINFO, Inbox, certified, mail_server, with_login

STEP = 30
MAIL_SECONDS = 20
NOTICES = [
    "Authenticator app turned on",
    "Codes by e-mail turned on",
    "Security key added",
    "Backup code used",
    "New backup codes",
    "Codes by e-mail turned off",
    "Security key removed",
    "Backup code used",
    "Authenticator app turned off",
]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def server(tmp_path: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningServer]:
    tls, authority = certified(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with mail_server(inbox, tls_context=tls, require_starttls=True, **with_login()) as port:
        url = f"smtp+starttls://{USERINFO}@127.0.0.1:{port}"
        with RunningServer(tmp_path, smtp_url=url, mail_from="mfa@example.org", issuer_name="Example & Co") as running:
            yield running


@pytest.fixture
def alice(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client("alice") as client:
        yield client


@pytest.fixture
def backend(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client("backend", scope="mfa:introspect") as client:
        yield client


def answer(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def wait_for_mail(inbox: Inbox, number: int) -> EmailMessage:
    """The mail of that number, once it has come."""
    deadline = time.monotonic() + MAIL_SECONDS
    while len(inbox.mails) < number:
        assert time.monotonic() < deadline, f"only {len(inbox.mails)} mails came"
        time.sleep(0.05)
    return inbox.mails[number - 1]


def text_of(mail: EmailMessage) -> str:
    part = mail.get_body(["plain"])
    assert part is not None
    text: str = part.get_content()
    return text


def leave_time() -> None:
    """Wait for the next step when this one is about to end, since the code before the current one is wanted."""
    left = STEP - time.time() % STEP
    if left < 5:
        time.sleep(left)


def test_a_users_factors_from_the_first_to_the_last(
    server: RunningServer, alice: httpx.Client, backend: httpx.Client, inbox: Inbox, tmp_path: Path
) -> None:
    key = Authenticator()

    def post(path: str, **body: object) -> dict[str, Any]:
        return answer(alice.post(f"{API}{path}", json=body) if body else alice.post(f"{API}{path}"))

    def lives(assertion: str) -> bool:
        active: bool = answer(backend.post("/api/v1/mfa/introspect", data={"token": assertion}))["active"]
        return active

    def verify_by_key() -> dict[str, Any]:
        opened = post("/challenge", method="webauthn")
        credential = key.authenticate(opened["options"], origin=server.origin)
        return post("/verify", challenge_id=opened["challenge_id"], credential=credential)

    nothing = {"total": 0, "remaining": 0, "generated_at": None}
    assert answer(alice.get(API)) == {"mfa_enabled": False, "methods": [], "backup_codes": nothing}

    # The authenticator app, which knows no more than what the camera sees.
    enrolment = post("/totp/enable")
    picture = tmp_path / "qr.png"
    picture.write_bytes(base64.b64decode(enrolment["qr_code"].removeprefix("data:image/png;base64,")))
    seen = programs.read_qr_code(picture)
    assert seen == enrolment["otpauth_uri"]
    assert urlsplit(seen).path == "/Example%20%26%20Co:alice%40example.com"
    shown = parse_qs(urlsplit(seen).query)
    assert shown["issuer"] == ["Example & Co"]
    [secret] = shown["secret"]
    leave_time()
    first_codes = post("/totp/confirm", code=programs.oathtool(secret, -STEP))["backup_codes"]
    assert len(set(first_codes)) == 10
    assert "authenticator app" in text_of(wait_for_mail(inbox, 1)).lower()

    # The mailbox.
    assert post("/email/enable")["email"] == "a•••@example.com"
    mailed = re.search(r"^\s*(\d{6})\s*$", text_of(wait_for_mail(inbox, 2)), re.MULTILINE)
    assert mailed is not None
    assert "backup_codes" not in post("/email/confirm", code=mailed[1])
    assert inbox.envelopes[1] == ("mfa@example.org", ["alice@example.com"])

    # The security key.
    begun = post("/webauthn/register/begin")
    credential = key.register(begun["options"], origin=server.origin)
    registered = post(
        "/webauthn/register/complete",
        device_id=begun["device_id"],
        challenge_id=begun["challenge_id"],
        credential=credential,
    )
    listed = answer(alice.get(API))
    assert [method["type"] for method in listed["methods"]] == ["totp", "email", "webauthn"]
    assert listed["backup_codes"]["remaining"] == 10

    # A login by each of them, and the assertion that an app gets.
    opened = answer(alice.post(f"{API}/challenge", json={}))
    assert opened["methods"] == ["webauthn", "totp", "backup_code", "email"]
    by_totp = post("/verify", challenge_id=opened["challenge_id"], code=programs.oathtool(secret))
    assert (by_totp["amr"], by_totp["acr"]) == (["otp"], "mfa")
    signing_key = jwt.PyJWKClient(f"{server.url}/.well-known/jwks.json").get_signing_key_from_jwt(by_totp["assertion"])
    claims = jwt.decode(by_totp["assertion"], signing_key, ["ES256"], audience="mfa-server", issuer=server.origin)
    assert (claims["sub"], claims["amr"]) == ("alice", ["otp"])
    assert verify_by_key()["amr"] == ["hwk", "user"]
    opened = post("/challenge", method="backup_code")
    spent = post("/verify", challenge_id=opened["challenge_id"], code=first_codes[0].lower().replace("-", " "))
    assert spent["acr"] == "urn:mfa-server:acr:backup-code"
    assert answer(alice.get(API))["backup_codes"]["remaining"] == 9
    too_soon = alice.post(f"{API}/challenge", json={"method": "email"})
    assert (too_soon.status_code, too_soon.json()["code"]) == (429, "too_many_emails")

    # Any change ends the assertions that were made before it.
    assert lives(by_totp["assertion"])
    codes = post("/backup-codes/regenerate", code=programs.oathtool(secret, STEP))["backup_codes"]
    assert not set(codes) & set(first_codes)
    assert not lives(by_totp["assertion"])

    # And out again.
    assert post("/email/disable", code=verify_by_key()["assertion"])["mfa_enabled"] is True
    assert answer(alice.delete(f"{API}/webauthn/{registered['device_id']}"))["mfa_enabled"] is True
    assert post("/totp/disable", code=codes[0])["mfa_enabled"] is False
    assert answer(alice.get(API)) == {"mfa_enabled": False, "methods": [], "backup_codes": nothing}

    # Its owner has heard of every change, and no mail held a secret.
    wait_for_mail(inbox, 1 + len(NOTICES))
    subjects = ["Your code for Example & Co", *(f"Example & Co: {event}" for event in NOTICES)]
    assert sorted(mail["Subject"] for mail in inbox.mails) == sorted(subjects)
    said = "".join(map(text_of, inbox.mails))
    assert not any(hidden in said for hidden in (secret, *first_codes, *codes))
