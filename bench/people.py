"""The users of a run, and what they show: tokens, and codes that no server has seen of them."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path

import pyotp

from server import development
from server.settings import Settings
from storage.user import Caller
from tests.authenticator import Authenticator

STEP_SECONDS = 30
TOKEN_SECONDS = 6 * 3600
SECRET_BYTES = 20
# Four wrong codes are free; the fifth brings a lock.
FREE_WRONG_CODES = 4


@dataclass(eq=False)
class Person:
    """A user: their access token and, where they have an authenticator app, its secret."""

    sub: str
    token: str
    secret: bytes = b""

    @property
    def caller(self) -> Caller:
        return Caller.of(self.sub)

    def code(self, step: int) -> str:
        return str(pyotp.TOTP(base64.b32encode(self.secret).decode()).generate_otp(step))


class Issuer:
    """The identity provider of a run: the development key, which all servers trust."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder)
        self.key = development.jwt_key_file(folder)

    def person(self, sub: str, secret: bytes = b"") -> Person:
        return Person(sub, self.token(sub), secret)

    def token(self, sub: str) -> str:
        now, email = datetime.now(UTC), f"{sub}@example.com"
        return development.access_token(self.settings, sub=sub, email=email, now=now, ttl=TOKEN_SECONDS)


@dataclass
class People:
    """Some with an authenticator app, and as many that have a security key instead, and could enrol one."""

    issuer: Issuer
    with_totp: Sequence[Person]
    with_key: Sequence[Person]

    @classmethod
    def of(cls, issuer: Issuer, count: int) -> People:
        return cls(
            issuer,
            [issuer.person(f"totp-{n}", secrets.token_bytes(SECRET_BYTES)) for n in range(count)],
            [issuer.person(f"key-{n}") for n in range(count)],
        )


@dataclass
class Visitors:
    """What the users have done on one server, so that each code is shown to it once."""

    people: People
    steps: dict[Person, int] = field(default_factory=dict)
    wrong: dict[Person, int] = field(default_factory=dict)
    keys: list[tuple[Person, Authenticator]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.issuer = self.people.issuer
        self._round = cycle(self.people.with_totp)
        self._without_totp = iter(self.people.with_key)

    def next(self, count: int) -> list[Person]:
        """Users with an authenticator app, in turn."""
        return list(islice(self._round, count))

    def without_totp(self, count: int) -> list[Person]:
        """Users who have a key and no authenticator app; each is given out once."""
        chosen = list(islice(self._without_totp, count))
        if len(chosen) < count:
            raise ValueError("seed more users: each enrols an authenticator app once")
        return chosen

    def fresh_codes(self, count: int) -> list[tuple[Person, str]]:
        """As many codes of steps that were not shown, good for 30 seconds or more. Waits when there are none left."""
        codes: list[tuple[Person, str]] = []
        for person in self._round:
            if len(codes) == count:
                break
            now = int(time.time()) // STEP_SECONDS
            step = max(self.steps.get(person, 0) + 1, now)
            if step > now + 1:
                time.sleep((step - 1) * STEP_SECONDS - time.time() + 0.1)
            self.steps[person] = step
            self.wrong.pop(person, None)
            codes.append((person, person.code(step)))
        return codes

    def wrong_codes(self, count: int) -> list[tuple[Person, str]]:
        """As many codes that are none of their user's."""
        people = (person for person in self._round if self.wrong.get(person, 0) < FREE_WRONG_CODES)
        return [(person, self._wrong_code(person)) for person in islice(people, count)]

    def _wrong_code(self, person: Person) -> str:
        self.wrong[person] = self.wrong.get(person, 0) + 1
        now = int(time.time()) // STEP_SECONDS
        right = {person.code(step) for step in range(now - 2, now + 4)}
        return next(code for code in _codes() if code not in right)


def _codes() -> Iterator[str]:
    while True:
        yield f"{secrets.randbelow(10**6):06}"
