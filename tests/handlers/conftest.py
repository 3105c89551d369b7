"""A world of its own for each test, and people in it."""

from __future__ import annotations

import pytest

from factors import backup
from tests.states import Person, World


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2id at its cheapest: these tests are about what is done with a digest (the cost is in tests/factors)."""
    monkeypatch.setattr(backup, "MEMORY_KIB", 8)
    monkeypatch.setattr(backup, "PASSES", 1)


@pytest.fixture
def world(database: str) -> World:
    return World()


@pytest.fixture
def alice(world: World) -> Person:
    """A user without a method."""
    return Person(world, "alice")


@pytest.fixture
def mallory(world: World) -> Person:
    """Another user of the same app, with an authenticator app of her own."""
    mallory = Person(world, "mallory")
    mallory.enrol_totp()
    return mallory


@pytest.fixture
def user_with_totp(alice: Person) -> Person:
    alice.enrol_totp()
    return alice


@pytest.fixture
def user_with_email(alice: Person) -> Person:
    alice.enrol_email()
    return alice


@pytest.fixture
def user_with_key(alice: Person) -> Person:
    alice.enrol_key()
    return alice


@pytest.fixture
def user_with_everything(alice: Person) -> Person:
    """Authenticator app, mailbox, security key, and ten backup codes."""
    alice.enrol_totp()
    alice.enrol_email()
    alice.enrol_key()
    return alice
