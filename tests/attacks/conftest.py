"""The servers that are attacked."""

from __future__ import annotations

import base64
import os
import secrets
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from psycopg.sql import SQL, Identifier

import storage.database
from tests.attacks.victim import World
from tests.running import RunningServer, free_port

NewDatabase = Callable[[], dict[str, str]]
# A PostgreSQL server to attack in place of SQLite: the URL of someone who may make databases there.
POSTGRESQL = os.environ.get("ATTACKED_POSTGRESQL")


@pytest.fixture(scope="session")
def new_database() -> NewDatabase:
    """Settings that give a server a database of its own: none, for SQLite in its data folder, on a real disk.

    Where a commit takes its time, transactions gather and share one; in memory they hardly ever would.
    """
    return dict if POSTGRESQL is None else partial(new_on_postgresql, POSTGRESQL)


def new_on_postgresql(server: str) -> dict[str, str]:
    name = f"attacked_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    url = urlsplit(server)._replace(path=f"/{name}").geturl()
    storage.database.connect(url)
    storage.database.migrate()
    storage.database.close()
    return {"database_url": url}


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[RunningServer]:
    """One server with two worker processes, which says all that it ever says."""
    folder = tmp_path_factory.mktemp("attacked")
    with RunningServer(folder, workers=2, log_level="debug", **new_database()) as server:
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
