"""What a situation is, and who speaks in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.contract.document import Json
from tests.contract.people import Person
from tests.contract.world import World

Case = Any  # schemathesis.Case, whose parameter is not public.
Arrange = Callable[[Case, World], "Caller"]
ASSERTION = "MFA-Assertion"


class Caller(NamedTuple):
    """Who speaks, and with which access token."""

    person: Person
    token: str


class Situation(NamedTuple):
    status: int
    arrange: Arrange

    @property
    def name(self) -> str:
        return self.arrange.__name__.replace("_", " ")


SITUATIONS: dict[str, list[Situation]] = defaultdict(list)


def situation(status: int, *operation_ids: str) -> Callable[[Arrange], Arrange]:
    def register(arrange: Arrange) -> Arrange:
        for operation_id in operation_ids:
            SITUATIONS[operation_id].append(Situation(status, arrange))
        return arrange

    return register


def user(person: Person, **claims: Any) -> Caller:
    return Caller(person, person.token(**claims))


def backend(case: Case, person: Person, scope: str = "mfa:verify") -> Caller:
    """The app's backend speaks about `person`."""
    case.path_parameters = {"sub": quote(person.sub, safe="")}
    return Caller(person, person.server.token("backend", scope=scope))


def proven(case: Case, person: Person) -> Caller:
    """`person` speaks, with a live assertion if they have a method."""
    if person.has_method:
        case.headers[ASSERTION] = person.prove()
    return user(person)


def unproven(case: Case, person: Person) -> Caller:
    case.headers.pop(ASSERTION, None)
    return user(person)


def is_named(opened: Json | None, case: Case) -> bool:
    """Whether it is this that the case names: a link has led here."""
    return opened is not None and opened["challenge_id"] == case.body.get("challenge_id")


def can_show_a_code(person: Person) -> bool:
    return person.secret is None or person.can_show_a_code()
