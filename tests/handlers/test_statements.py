"""How many statements an operation asks the database: few, and no more for whoever has 25 keys than for one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from tests.authenticator import Authenticator
from tests.databases import on_sqlite_only
from tests.operations import ALL, Act
from tests.states import Person, World

pytestmark = on_sqlite_only

# What opens and ends a transaction asks nothing, nor does what SQLite does by itself, such as a cascade.
FRAME = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "PRAGMA", "--")

# How many statements an operation may take.
MOST = {
    "list methods": 2,
    "totp/enable": 4,
    "totp/confirm, beside a key": 10,
    "totp/disable, last method": 16,
    "email/enable": 11,
    "email/confirm, first method": 10,
    "email/disable, last method": 20,
    "backup-codes/regenerate": 16,
    "webauthn begin": 7,
    "webauthn complete, first": 9,
    "webauthn remove, last method": 8,
    "challenge": 5,
    "verify, authenticator app": 8,
    "verify, security key": 8,
}


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


@pytest.mark.parametrize("operation", MOST)
def test_no_operation_asks_more_than_its_measure_nor_more_of_whoever_has_many_keys(
    statements: list[str], world: World, operation: str, record_property: Callable[[str, object], None]
) -> None:
    numbers = []
    for name, keys in (("few", 2), ("many", 24)):
        person = Person(world, name)
        for _ in range(keys):
            person.key = Authenticator()
            person.enrol_key()
        numbers.append(len(counted(statements, ALL[operation](person))))
    record_property("statements", numbers[0])
    assert numbers[0] == numbers[1] <= MOST[operation]


def test_no_statement_reads_a_whole_table(statements: list[str], world: World, database: str) -> None:
    """What a request asks is found by an index, however many users there are."""
    person = Person(world, "alice")
    person.enrol_key()
    asked: set[str] = set()
    for name, prepare in ALL.items():
        fresh = Person(world, name)
        fresh.enrol_key()
        asked |= set(counted(statements, prepare(fresh)))
    with sqlite3.connect(database.removeprefix("sqlite:///")) as connection:
        plans = {
            statement: [row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")] for statement in asked
        }
    connection.close()
    scans = {statement: plan for statement, plan in plans.items() if any(line.startswith("SCAN") for line in plan)}
    assert {statement: plan for statement, plan in scans.items() if not all("CONSTANT" in line for line in plan)} == {}
