"""The mail server is gone, hangs or takes nothing: no request waits, and the mail goes when it is back (EML-10)."""

from __future__ import annotations

import re
import socket
import time
from email.message import EmailMessage
from pathlib import Path

from tests.faults.load import eventually
from tests.faults.questions import ask
from tests.running import API, RunningServer, free_port
from tests.server.mail_server import Inbox, mail_server

# For what waits for no mail server, which is waited for ten seconds, on a machine that is busy.
QUICK_SECONDS = 5.0
# Mail that could not be sent at first is tried again after two seconds, and after four more.
DELIVERY_SECONDS = 15.0


def asks_for_a_code(server: RunningServer, sub: str) -> None:
    """A new user asks for a code by mail; whoever looks at the server then finds it in good order."""
    begun = time.monotonic()
    with server.client(sub) as user:
        assert user.post(f"{API}/email/enable").status_code == 200
        assert user.get(API).status_code == 200
    # Mail can wait, so it is no reason for a load balancer to send requests elsewhere.
    assert ask(server, "/healthz/ready").status == 200
    assert time.monotonic() - begun < QUICK_SECONDS


def delayed(server: RunningServer) -> int:
    return server.log.read_text().count("mail.delayed")


def code_in(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    [code] = re.findall(r"\b\d{6}\b", body.get_content())
    return str(code)


def test_eml_10_mail_waits_out_every_outage_and_nobody_waits_for_it(tmp_path: Path) -> None:
    port, inbox = free_port(), Inbox(answers={"RCPT": "451 4.3.0 Not now"})
    with RunningServer(tmp_path, smtp_url=f"smtp://127.0.0.1:{port}", mail_from="mfa@example.com") as server:
        asks_for_a_code(server, "refused")
        eventually(lambda: delayed(server) >= 1, DELIVERY_SECONDS)
        with socket.create_server(("127.0.0.1", port)) as silent:
            asks_for_a_code(server, "kept-waiting")
            silent.settimeout(DELIVERY_SECONDS)
            conversation, _ = silent.accept()
            with conversation:
                asks_for_a_code(server, "behind-it")
        with mail_server(inbox, port):
            asks_for_a_code(server, "put-off")
            eventually(lambda: inbox.commands, DELIVERY_SECONDS)
            assert inbox.raw == []
            del inbox.answers["RCPT"]
            eventually(lambda: len(inbox.raw) == 4, DELIVERY_SECONDS)
            codes = {str(mail["To"]): code_in(mail) for mail in inbox.mails}
            names = ("refused", "kept-waiting", "behind-it", "put-off")
            assert set(codes) == {f"{sub}@example.com" for sub in names}
            with server.client("refused") as user:
                confirmed = user.post(f"{API}/email/confirm", json={"code": codes["refused@example.com"]})
            assert confirmed.status_code == 200
