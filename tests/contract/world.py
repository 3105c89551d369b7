"""Everybody there is, and how to come by somebody who fits."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from functools import cached_property

import httpx

from tests.contract.mailroom import Mailroom
from tests.contract.people import Person
from tests.running import RunningServer

MOST_KEYS = 25
SOME_KEYS = 20


class World:
    """Everybody that was met, those met last at the end."""

    # What identity providers put into `sub`, and what breaks paths; each is followed by a number.
    SUBS = ("auth0|", "alice+", "https://idp.example/users/", "a b%2F", "ünïcödé-😀", "..%00;?#", "-")

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.http = httpx.Client(base_url=server.url, timeout=30)
        self.mailroom = Mailroom(server.data / "outbox")
        self.people: list[Person] = []
        self.subs = (f"{start}{number}" for number, start in enumerate(itertools.cycle(self.SUBS)))

    def passer_by(self, *, with_email: bool = False) -> Person:
        """Somebody with nothing set up, who is not met again. Without an address no notices have to be mailed."""
        email = f"person-{uuid.uuid4().hex}@example.com" if with_email else None
        return Person(self.server, self.http, self.mailroom, next(self.subs), email)

    def newcomer(self, *, with_email: bool = False) -> Person:
        person = self.passer_by(with_email=with_email)
        self.people.append(person)
        return person

    def someone(self, fits: Callable[[Person], bool]) -> Person | None:
        """Whoever fits, of those that were met last."""
        person = next(filter(fits, reversed(self.people)), None)
        if person is not None:
            self.people.remove(person)
            self.people.append(person)
        return person

    def keyholder_with_room(self) -> Person:
        """Somebody with keys to whom a few more may be added."""
        return self.keyholder(lambda person: len(person.keys) < SOME_KEYS)

    def keyholder(self, fits: Callable[[Person], bool] = lambda _: True) -> Person:
        """Somebody with a security key, who can prove themselves as often as it takes, a lock notwithstanding."""
        return self.someone(lambda person: bool(person.keys) and fits(person)) or self.newcomer().with_key()

    def mailbox_owner(self) -> Person:
        """Somebody whose only method is e-mail, with a few backup codes left."""
        owner = self.someone(lambda person: person.mailbox_on and not person.keys and len(person.backup_codes) > 3)
        return owner or self.newcomer(with_email=True).with_mailbox()

    @cached_property
    def collector(self) -> Person:
        """Somebody with as many keys as one may have."""
        collector = self.passer_by()
        for _ in range(MOST_KEYS):
            collector.with_key()
        return collector

    @cached_property
    def owner_of_everything(self) -> Person:
        """Somebody with every method, who is there to be locked."""
        return self.passer_by(with_email=True).with_key().with_mailbox().with_app()
