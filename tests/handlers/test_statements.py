"""How many statements an operation asks the database: few, and no more for whoever has 25 keys than for one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from tests.authenticator import Authenticator
from tests.databases import on_sqlite_only
from tests.states import Person, World

pytestmark = on_sqlite_only

# What opens and ends a transaction asks nothing, nor does what SQLite does by itself, such as a cascade.
FRAME = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "PRAGMA", "--")

Act = Callable[[], object]
# Each operation, how many statements it may take, and what to do before it is counted; that returns the operation.
OPERATIONS: dict[str, tuple[int, Callable[[Person], Act]]] = {
    "methods.list_all": (2, lambda alice: alice.listed),
    "totp.enable": (4, lambda alice: lambda: alice.call("totp.enable")),
    "totp.confirm": (10, lambda alice: _with_code(alice, alice.scan, "totp.confirm")),
    "totp.disable": (16, lambda alice: _with_code(alice, alice.enrol_totp, "totp.disable", 1)),
    "email.enable": (11, lambda alice: lambda: alice.call("email.enable")),
    "email.confirm": (10, lambda alice: _confirmed(alice)),
    "email.disable": (20, lambda alice: _email_disable(alice)),
    "backup.regenerate": (16, lambda alice: _with_code(alice, alice.enrol_totp, "backup.regenerate", 1)),
    "webauthn.begin": (7, lambda alice: lambda: alice.call("webauthn.begin")),
    "webauthn.complete": (9, lambda alice: _completed(alice)),
    "webauthn.remove": (8, lambda alice: _removed(alice)),
    "verification.challenge": (5, lambda alice: alice.challenge),
    "verification.verify by code": (8, lambda alice: _verified_by_code(alice)),
    "verification.verify by key": (8, lambda alice: _verified_by_key(alice)),
}


def _with_code(alice: Person, prepare: Act, operation: str, steps: int = 0) -> Act:
    prepare()
    return lambda: alice.call(operation, code=alice.code(steps))


def _confirmed(alice: Person) -> Act:
    alice.call("email.enable")
    code = alice.mailed_code()
    return lambda: alice.call("email.confirm", code=code)


def _email_disable(alice: Person) -> Act:
    alice.enrol_email()
    return lambda: alice.call("email.disable", code=alice.backup_codes[0])


def _completed(alice: Person) -> Act:
    begun = alice.call("webauthn.begin")
    return lambda: alice.complete(begun, Authenticator())


def _removed(alice: Person) -> Act:
    device = alice.device_id("webauthn")
    return lambda: alice.call("webauthn.remove", device_id=device)


def _verified_by_code(alice: Person) -> Act:
    alice.enrol_totp()
    opened = alice.challenge()
    return lambda: alice.verify(opened, code=alice.code(1))


def _verified_by_key(alice: Person) -> Act:
    opened = alice.challenge()
    return lambda: alice.verify(opened, credential=alice.answer(opened))


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that SQLite runs from now on, on any connection."""
    seen: list[str] = []
    connect = sqlite3.connect

    def watched(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(seen.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", watched)
    return seen


@pytest.fixture
def database(statements: list[str], database: str) -> str:
    """The database, to which nobody connected before the watch began."""
    return database


def counted(statements: list[str], act: Act) -> list[str]:
    statements.clear()
    act()
    return [statement for statement in statements if not statement.startswith(FRAME)]


def test_the_list_takes_two_statements_whatever_there_is(statements: list[str], user_with_everything: Person) -> None:
    assert len(counted(statements, user_with_everything.listed)) == 2


def test_the_list_of_a_stranger_takes_one(statements: list[str], alice: Person) -> None:
    assert len(counted(statements, alice.listed)) == 1


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_operation_asks_more_than_its_measure_nor_more_of_whoever_has_many_keys(
    statements: list[str], world: World, operation: str, record_property: Callable[[str, object], None]
) -> None:
    most, prepare = OPERATIONS[operation]
    numbers = []
    for name, keys in (("few", 2), ("many", 24)):
        person = Person(world, name)
        for _ in range(keys):
            person.key = Authenticator()
            person.enrol_key()
        numbers.append(len(counted(statements, prepare(person))))
    record_property("statements", numbers[0])
    assert numbers[0] == numbers[1] <= most


def test_no_statement_reads_a_whole_table(statements: list[str], world: World, database: str) -> None:
    """What a request asks is found by an index, however many users there are."""
    person = Person(world, "alice")
    person.enrol_key()
    asked: set[str] = set()
    for _, prepare in OPERATIONS.values():
        fresh = Person(world, f"user {len(asked)}")
        fresh.enrol_key()
        asked |= set(counted(statements, prepare(fresh)))
    with sqlite3.connect(database.removeprefix("sqlite:///")) as connection:
        plans = {
            statement: [row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")] for statement in asked
        }
    connection.close()
    scans = {statement: plan for statement, plan in plans.items() if any(line.startswith("SCAN") for line in plan)}
    assert {statement: plan for statement, plan in scans.items() if not all("CONSTANT" in line for line in plan)} == {}
