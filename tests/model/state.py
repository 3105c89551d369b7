"""What the model knows of a user: plain values, the time given, nothing of a database, of threads or of sealing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from tests.authenticator import Authenticator

Answer = tuple[Any, ...]


class Refused(Exception):
    """The answer is a problem: its `code`, and for 429 the seconds to wait."""

    def __init__(self, code: str, retry_after: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.answer: Answer = (code, retry_after)


@dataclass(frozen=True)
class Response:
    """What a security key answered: to which challenge, with which credential and count, and whether it is genuine."""

    body: Mapping[str, Any]
    challenge: str
    credential_id: str
    sign_count: int
    genuine: bool
    authenticator: Authenticator


@dataclass(frozen=True)
class Request:
    """One call of an operation, and what was answered.

    Args:
        who: Whose it is, as a place in the list of users.
        given: Members of the body, and path parameters.
        step_up: The policy.
        fresh_login: Whether the access token tells of a login that is fresh.
        header: The assertion in `MFA-Assertion`.
        response: What `given["credential"]` is.
        chosen: What the server has made up: secrets, ids, codes. The model takes them from here.
        answer: What was answered, in the model's words.
    """

    who: int
    name: str
    now: datetime
    given: Mapping[str, Any] = field(default_factory=dict)
    step_up: Literal["off", "required"] = "off"
    fresh_login: bool = True
    header: str | None = None
    response: Response | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)
    answer: Answer = ()


@dataclass(frozen=True)
class App:
    """A TOTP secret; pending while it can expire."""

    secret: bytes
    expires_at: datetime | None
    last_step: int = 0


@dataclass(frozen=True)
class Mailbox:
    """The mailbox; pending, with the code that was mailed to it, while it can expire."""

    code: str
    created_at: datetime
    expires_at: datetime | None
    since: datetime | None = None


@dataclass(frozen=True)
class Key:
    device_id: str
    credential_id: str
    sign_count: int
    since: datetime


@dataclass(frozen=True)
class Opened:
    """A challenge to verify, or to register a key; `challenge` is what a key signs."""

    id: str
    created_at: datetime
    expires_at: datetime
    method: str = ""
    device_id: str = ""
    challenge: str | None = None
    code: str | None = None


@dataclass(frozen=True)
class Assertion:
    token: str
    method: str
    epoch: int
    expires_at: datetime


@dataclass
class Life:
    """One user. All values are immutable, so that a shallow copy is another life.

    `epoch` is None for whom the server has no row, else the number of changes since. `events` and `notices` are those
    of the latest requests.
    """

    epoch: int | None = None
    failures: int = 0
    locked_until: datetime | None = None
    app: App | None = None
    mailbox: Mailbox | None = None
    keys: tuple[Key, ...] = ()
    codes: frozenset[str] | None = None
    registrations: tuple[Opened, ...] = ()
    challenges: tuple[Opened, ...] = ()
    mailed_at: tuple[datetime, ...] = ()
    assertions: tuple[Assertion, ...] = ()
    events: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def app_on(self) -> bool:
        return self.app is not None and self.app.expires_at is None

    @property
    def mailbox_on(self) -> bool:
        return self.mailbox is not None and self.mailbox.expires_at is None

    @property
    def methods(self) -> list[str]:
        """What is on, strongest first."""
        has = {"webauthn": self.keys, "totp": self.app_on, "email": self.mailbox_on}
        return [name for name, there in has.items() if there]

    def record(self, event: str) -> None:
        self.events = tuple(sorted((*self.events, event)))

    def notify(self, event: str) -> None:
        self.notices = tuple(sorted((*self.notices, event)))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Raising rolls back."""
        before = dict(vars(self))
        try:
            yield
        except Refused:
            vars(self).update(before)
            raise


Lives = list[Life]
