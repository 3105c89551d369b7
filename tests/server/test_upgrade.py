"""One version after the other on one database: four servers that start at once, and two versions side by side."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from storage import schema
from storage.database import Model, connection
from storage.database import database as db
from tests.databases import COMMAND, COMMAND_SECONDS, KINDS, Operated, Postgresql, Sqlite, quick_hashes
from tests.running import API, START_SECONDS, STOP_SECONDS, RunningServer, free_port
from tests.schemas import FIRST, STEPS, shape, step, version, write_steps
from tests.server.life import live, people
from tests.states import Person, World

__all__ = ["quick_hashes"]

SERVERS = 4
# What the courier changes in mail that it could not send.
TRIES = {"attempts", "next_attempt_at"}
HISTORY = "SELECT name FROM schema_migration ORDER BY id"


@pytest.fixture(params=KINDS)
def databases(request: pytest.FixtureRequest, folder_in_memory: Path) -> Sqlite | Postgresql:
    if request.param == "sqlite":
        return Sqlite(folder_in_memory)
    postgresql: Postgresql = request.getfixturevalue("postgresql")
    return postgresql


@pytest.fixture
def empty(databases: Sqlite | Postgresql, tmp_path: Path) -> Iterator[Operated]:
    """A database without a schema, and keys."""
    operated = Operated(databases, databases.empty(), tmp_path / "mfa-data")
    yield operated
    operated.leave()


@pytest.fixture
def alice() -> Person:
    """Somebody with everything, who has begun to use and to add some."""
    return Person(World(now=datetime.now(UTC) - timedelta(minutes=2)), "alice")


@pytest.fixture
def old(
    empty: Operated, alice: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_hashes: None
) -> Operated:
    """A database as the first version left it, with rows in every table."""
    with monkeypatch.context() as first:
        write_steps(tmp_path / "first", FIRST)
        first.setattr(schema, "STEPS", tmp_path / "first")
        schema.migrate()
    with connection():
        alice.enrol_totp()
        alice.enrol_email()
        alice.enrol_key()
        alice.challenge()
        alice.call("webauthn.begin")
    assert all(rows().values())
    return empty


@pytest.fixture(params=["empty", "old"])
def behind(request: pytest.FixtureRequest, databases: Sqlite | Postgresql) -> Operated:
    """A database that is not current."""
    behind: Operated = request.getfixturevalue(request.param)
    return behind


def rows() -> dict[str, list[str]]:
    """All that is in the database."""
    with connection():
        everything: dict[str, Any] = {
            model._meta.table_name: model.select().dicts() for model in Model.__subclasses__()
        }
        return {
            table: sorted(str({name: value for name, value in row.items() if name not in TRIES}) for row in found)
            for table, found in everything.items()
        }


@contextmanager
def at_once(server: RunningServer, *commands: str) -> Iterator[subprocess.Popen[bytes]]:
    """These commands, run at one moment with a server's settings; what they say is in its log."""
    with server.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.server.at_once", *commands],
            cwd=server.folder,
            env=server.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/healthz/ready", timeout=5).is_success:
                return
        assert process.poll() is None, "a server has ended"
        assert time.monotonic() < deadline, f"{url} does not answer"
        time.sleep(0.05)


def test_rel_04_four_servers_start_at_once_and_each_step_is_taken_once(
    behind: Operated, databases: Sqlite | Postgresql, alice: Person, tmp_path: Path
) -> None:
    """On PostgreSQL each says `migrate` first, as the README has it; on SQLite `serve` does that itself."""
    missing = schema.differences().pending
    before = rows() if missing != list(STEPS) else {}
    server = RunningServer(tmp_path)
    # No mail server takes what they have to send.
    mail = {"MFA_SMTP_URL": f"smtp://127.0.0.1:{free_port()}", "MFA_MAIL_FROM": "mfa@example.com"}
    server.environment = behind.environment | mail
    if isinstance(databases, Postgresql):
        with at_once(server, *["migrate"] * SERVERS) as migrating:
            assert migrating.wait(COMMAND_SECONDS) == 0, server.log.read_text()
        told = Counter(server.log.read_text().splitlines())
        assert [told[name] for name in missing] == [1] * len(missing)
        assert told["The schema is up to date."] == SERVERS
    ports = [free_port() for _ in range(SERVERS)]
    with at_once(server, *(f"serve --port {port}" for port in ports)) as serving:
        for port in ports:
            wait_until_ready(serving, f"http://127.0.0.1:{port}")
        with connection():
            assert [name for (name,) in db.execute_sql(HISTORY).fetchall()] == list(STEPS)
            found = shape()
        if before:
            assert rows() == before
            alice.world.now = datetime.now(UTC)
            for port in ports:
                server.url = f"http://127.0.0.1:{port}"
                with server.client("alice") as user:
                    assert len(user.get(API).json()["methods"]) == 3
                    opened = user.post(f"{API}/challenge", json={"method": "totp"}).json()
                    shown = {"challenge_id": opened["challenge_id"], "code": alice.code()}
                    # The code is good, once.
                    assert user.post(f"{API}/verify", json=shown).is_success == (port == ports[0])
        serving.terminate()
        assert serving.wait(STOP_SECONDS) == 0, server.log.read_text()
    behind.use(databases.new())
    assert found == shape()


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
def test_rel_04_on_postgresql_serve_asks_for_migrate(behind: Operated) -> None:
    refused = behind.run("serve", "--port", "0")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.splitlines()[0] == "Error: The schema is not current. Run `mfa-server migrate`."


LATER = {
    "9001_note": step("ALTER TABLE mfa_user ADD COLUMN note TEXT"),
    "9002_audit_event_type": STEPS["0002_audit_event_at"].replace("_at", "_type").replace("(at, id)", "(type)"),
}


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
def test_rel_04_a_server_goes_on_while_the_next_version_comes(databases: Postgresql, tmp_path: Path) -> None:
    url = databases.new()
    server, later = RunningServer(tmp_path, database_url=url), RunningServer(tmp_path, database_url=url)
    server.environment["PYTHONPATH"] = str(version(tmp_path / "now", STEPS))
    later.environment["PYTHONPATH"] = str(version(tmp_path / "later", STEPS | LATER))
    with server:
        with people(server, 2) as ends:
            lives(ends, 1)
            migrated = subprocess.run(
                [*COMMAND, "migrate"],
                cwd=tmp_path,
                env=later.environment,
                check=True,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
            )
            lives(ends, 3)
        assert ends == [None] * len(ends)
        assert migrated.stdout.splitlines() == [*LATER, "The schema is up to date."]
        # It may crash and start again, and be what one goes back to.
        with later:
            live(later)
            assert server.stop() == 0
            server.start()
            assert "database.unusual" in server.log.read_text()
            live(server)


def lives(ends: list[Exception | None], count: int) -> None:
    """Wait until so many more have lived."""
    wanted = len(ends) + count
    deadline = time.monotonic() + COMMAND_SECONDS
    while len(ends) < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.05)
