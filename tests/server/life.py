"""A user's whole life through HTTP: every operation of theirs once, and each of them succeeds."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx

from tests.authenticator import Authenticator
from tests.authenticator_app import AuthenticatorApp
from tests.contract.mailroom import Mailroom
from tests.running import API, RunningServer

JOIN_SECONDS = 60


def live(server: RunningServer, port: int | None = None, mails: Mailroom | None = None) -> None:
    """Set up everything, use it, and take it all away again, at one of the server's ports."""
    mails = mails or Mailroom(server.data / "outbox")
    sub = f"user-{uuid.uuid4().hex}"
    key = Authenticator()
    with server.client(sub) as user:
        user.base_url = httpx.URL(f"http://127.0.0.1:{port or server.port}")

        def ask(method: str, path: str, /, **body: Any) -> dict[str, Any]:
            answer = user.request(method, f"{API}{path}", json=body or None)
            assert answer.is_success, (method, path, answer.status_code, answer.text)
            told: dict[str, Any] = answer.json()
            return told

        def code(steps: int) -> str:
            return app.code(datetime.now(UTC), steps)

        def shown() -> str:
            opened = ask("POST", "/challenge", method="webauthn")
            credential = key.authenticate(opened["options"], origin=server.origin)
            verified = ask("POST", "/verify", challenge_id=opened["challenge_id"], credential=credential)
            return str(verified["assertion"])

        app = AuthenticatorApp.scan(ask("POST", "/totp/enable")["otpauth_uri"])
        ask("POST", "/totp/confirm", code=code(0))
        ask("POST", "/email/enable")
        ask("POST", "/email/confirm", code=mails.code_for(f"{sub}@example.com"))
        begun = ask("POST", "/webauthn/register/begin")
        credential = key.register(begun.pop("options"), origin=server.origin)
        ids = {name: begun[name] for name in ("device_id", "challenge_id")}
        ask("POST", "/webauthn/register/complete", credential=credential, **ids)
        assert [method["type"] for method in ask("GET", "")["methods"]] == ["totp", "email", "webauthn"]
        ask("POST", "/verify", challenge_id=ask("POST", "/challenge", method="totp")["challenge_id"], code=code(1))
        codes = ask("POST", "/backup-codes/regenerate", code=shown())["backup_codes"]
        ask("POST", "/email/disable", code=shown())
        ask("DELETE", f"/webauthn/{ids['device_id']}")
        ask("POST", "/totp/disable", code=codes[0])
        assert ask("GET", "")["methods"] == []


@contextmanager
def people(server: RunningServer, count: int) -> Iterator[list[Exception | None]]:
    """So many live, one life after the other, for the length of a `with` block: how each life ended, None if well."""
    over = threading.Event()
    ends: list[Exception | None] = []

    def go_on(port: int) -> None:
        mails = Mailroom(server.data / "outbox")
        while not over.is_set():
            try:
                live(server, port, mails)
            except Exception as error:
                ends.append(error)
            else:
                ends.append(None)

    threads = [
        threading.Thread(target=go_on, args=(server.ports[number % len(server.ports)],)) for number in range(count)
    ]
    for thread in threads:
        thread.start()
    try:
        yield ends
    finally:
        over.set()
        for thread in threads:
            thread.join(JOIN_SECONDS)
