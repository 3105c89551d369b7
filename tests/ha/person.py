"""A user of the drill: what they were told has happened, against which the servers are held."""

from __future__ import annotations

import base64
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.attacks.wire import Request
from tests.authenticator_app import code_at_step, step_at
from tests.ha.journal import Journal
from tests.running import API

CODES = 10
# Five wrong answers lock a user, and each of these is tried again.
MOST_SPENT = 4
# Times in answers may be cut.
CLOCK = timedelta(seconds=1)


class NoAnswer(Exception):
    """There is no service at the moment."""


@dataclass
class Person:
    sub: str
    token: str
    journal: Journal
    # Whoever does something with them holds it.
    busy: threading.Lock = field(default_factory=threading.Lock)
    secret: bytes = b""
    begun_at: float = 0.0
    device_id: str = ""
    backup_codes: list[str] = field(default_factory=list)
    # The codes that were shown: how often each was accepted, and when it was shown last.
    accepted: Counter[str] = field(default_factory=Counter)
    shown_at: dict[str, float] = field(default_factory=dict)
    last_step: int = 0
    last_used_at: datetime | None = None

    def begin(self, port: int) -> bool:
        """Ask for a secret; whether that was acknowledged."""
        answer = self._posted(port, "totp/enable")
        if answer is not None:
            self.secret = base64.b32decode(answer["secret"])
            self.begun_at = time.monotonic()
        return answer is not None

    def confirm(self, port: int) -> int:
        """Show a code of the secret; the status of the answer."""
        self.last_step = _step()
        answer = self.journal.ask(port, self._post("totp/confirm", {"code": code_at_step(self.secret, self.last_step)}))
        if answer is not None and answer.status == 200:
            self.backup_codes = answer.json()["backup_codes"]
            self.device_id = answer.json()["device_id"]
        return answer.status if answer else 0

    def next_code(self) -> str | None:
        """The latest code of the app that counts, if it was not shown yet: it counts for a minute more."""
        step = _step() + 1
        return code_at_step(self.secret, step) if step > self.last_step else None

    def next_backup_code(self) -> str | None:
        unused = self.unused()
        return unused[0] if len(unused) > CODES - MOST_SPENT else None

    def unused(self) -> list[str]:
        return [code for code in self.backup_codes if code not in self.shown_at]

    def show(self, code: str, ports: Iterable[int]) -> list[int]:
        """Show a code to servers at one moment, each time for a challenge of its own; the statuses of the answers."""
        challenges = {port: challenge for port in ports if (challenge := self._posted(port, "challenge", {}))}
        if not challenges:
            return []
        if code not in self.backup_codes:
            self.last_step = next(
                step for step in range(_step() - 3, _step() + 3) if code_at_step(self.secret, step) == code
            )
        at = datetime.now(UTC)
        self.shown_at[code] = time.monotonic()
        answers = self.journal.ask_all(
            challenges,
            [
                self._post("verify", {"challenge_id": each["challenge_id"], "code": code})
                for each in challenges.values()
            ],
        )
        statuses = [answer.status if answer else 0 for answer in answers]
        if accepted := statuses.count(200):
            self.accepted[code] += accepted
            if code not in self.backup_codes:
                self.last_used_at = at
        return statuses

    def still_counts(self, code: str) -> bool:
        """Whether a code would be right, had it not been shown."""
        return code in self.backup_codes or (
            self.last_step >= _step() - 1 and code == code_at_step(self.secret, self.last_step)
        )

    def spent(self, *, backup: bool) -> list[str]:
        return [code for code in self.accepted if (code in self.backup_codes) is backup]

    def tried(self, *, backup: bool) -> list[str]:
        return [code for code in list(self.shown_at) if (code in self.backup_codes) is backup]

    def missing(self, port: int) -> list[str]:
        """What they were told has happened, and their list of methods does not know of. Raises NoAnswer."""
        answer = self.journal.ask(port, Request("GET", API, self.token))
        if answer is None or answer.status != 200:
            raise NoAnswer
        listed = answer.json()
        method = next((each for each in listed["methods"] if each["device_id"] == self.device_id), None)
        if method is None:
            return [f"totp.enabled of {self.sub}"]
        missing = []
        used_at = method["last_used_at"]
        if self.last_used_at and (not used_at or datetime.fromisoformat(used_at) < self.last_used_at - CLOCK):
            missing.append(f"the code that {self.sub} showed at {self.last_used_at}")
        spent = listed["backup_codes"]["total"] - listed["backup_codes"]["remaining"]
        if spent < len(self.spent(backup=True)):
            missing.append(f"of {len(self.spent(backup=True))} backup codes that {self.sub} spent all but {spent}")
        return missing

    def _posted(self, port: int, operation: str, body: object = None) -> Any:
        answer = self.journal.ask(port, self._post(operation, body))
        return answer.json() if answer and answer.status == 200 else None

    def _post(self, operation: str, body: object = None) -> Request:
        return Request("POST", f"{API}/{operation}", self.token, body)


def _step() -> int:
    return step_at(datetime.now(UTC))
