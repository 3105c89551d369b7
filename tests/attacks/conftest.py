"""The servers that are attacked."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.attacks.victim import World
from tests.databases import KINDS, Postgresql
from tests.running import RunningServer, TwoServers, free_port

NewDatabase = Callable[[], dict[str, str]]


@pytest.fixture(scope="session", params=KINDS)
def new_database(request: pytest.FixtureRequest) -> NewDatabase:
    """Settings that give a server a database of its own: none, for SQLite in its data folder, on a real disk.

    Where a commit takes its time, transactions gather and share one; in memory they hardly ever would.
    """
    if request.param == "sqlite":
        return dict
    postgresql: Postgresql = request.getfixturevalue("postgresql")
    return lambda: {"database_url": postgresql.new()}


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[RunningServer]:
    """A server with two worker processes, or two such on one PostgreSQL database, who say all that they ever say."""
    folder = tmp_path_factory.mktemp("attacked")
    settings = new_database()
    kind = TwoServers if "database_url" in settings else RunningServer
    with kind(folder, workers=2, log_level="debug", **settings) as server:
        yield server


@pytest.fixture(scope="session")
def strict(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[RunningServer]:
    """A server as in production, that asks for step-up. Its mail server is down, so mail stays where it is."""
    folder = tmp_path_factory.mktemp("strict")
    settings = {
        "env": "production",
        "step_up": "required",
        "log_level": "debug",
        "secret_keys": f"tests:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "signing_key_file": str(private_key(folder / "signing-key.pem")),
        "jwt_issuer": "https://idp.example.com",
        "jwt_key_file": str(private_key(folder / "mfa-data" / "jwt-key.pem")),
        "smtp_url": f"smtp://127.0.0.1:{free_port()}",
        "mail_from": "mfa@example.com",
    }
    with RunningServer(folder, workers=1, **settings, **new_database()) as server:
        yield server


def private_key(path: Path) -> Path:
    """The file of a new P-256 key."""
    path.parent.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


@pytest.fixture
def strict_world(strict: RunningServer) -> Iterator[World]:
    with World.of(strict) as world:
        yield world


@pytest.fixture
def world(attacked: RunningServer) -> Iterator[World]:
    with World.of(attacked) as world:
        yield world
