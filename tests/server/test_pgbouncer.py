"""Behind PgBouncer in transaction mode, as docs/operations.md has it: two servers, four workers, three connections."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import httpx
import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict

from server.command import main
from tests.attacks.victim import World
from tests.databases import COMMAND, COMMAND_SECONDS, Operated, Postgresql
from tests.programs import needs
from tests.running import API, TwoServers, free_port
from tests.server.life import people

CONNECTIONS = 3
PARALLEL = 24
ROUNDS = 5
# Requests for each server, so that most threads of its workers have a connection.
MANY = 30
SECONDS = 20
ANSWER_SECONDS = 6
TIMEOUTS = {"statement_timeout": "4s", "lock_timeout": "3s", "idle_in_transaction_session_timeout": "10s"}
CONFIGURATION = """
[databases]
{name} = host={host} user={user}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 200
query_wait_timeout = 4
ignore_startup_parameters = {ignored}
"""


class PgBouncer:
    """In front of one database."""

    def __init__(
        self,
        postgresql: Postgresql,
        database: str,
        ignored: str = "extra_float_digits, options",
        timeouts: Mapping[str, str] = TIMEOUTS,
    ) -> None:
        self.database = database
        given = conninfo_to_dict(self.database)
        self.port = free_port()
        self.url = f"postgresql://{given['user']}@127.0.0.1:{self.port}/{given['dbname']}"
        # The folder that PostgreSQL's owner, whom PgBouncer runs as, may look into.
        self._file = postgresql.folder / f"pgbouncer-{self.port}.ini"
        self._file.write_text(
            CONFIGURATION.format(
                name=given["dbname"],
                user=given["user"],
                host=given["host"],
                port=self.port,
                connections=CONNECTIONS,
                ignored=ignored,
            )
        )
        with psycopg.connect(database, autocommit=True) as owner:
            for name, value in timeouts.items():
                owner.execute(f"ALTER DATABASE {given['dbname']} SET {name} = '{value}'")
        self._owner = Path(str(given["host"])).owner()

    def start(self) -> None:
        program = needs("pgbouncer", package="pgbouncer")
        # It refuses to be root.
        command = [program, *(["-u", self._owner] if os.getuid() == 0 else []), str(self._file)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + SECONDS
        while not self._listens():
            assert self._process.poll() is None, "PgBouncer has ended"
            assert time.monotonic() < deadline, "PgBouncer does not listen"
            time.sleep(0.02)

    def _listens(self) -> bool:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def stop(self) -> None:
        """At once, whatever is under way."""
        self._process.terminate()
        self._process.wait(SECONDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def connections(self) -> int:
        """How many connections PostgreSQL has, and so how many it has to PostgreSQL."""
        with psycopg.connect(self.database) as observer:
            counted = observer.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchone()
        assert counted is not None
        return int(counted[0])


@pytest.fixture(scope="module")
def pgbouncer(postgresql: Postgresql) -> Iterator[PgBouncer]:
    with PgBouncer(postgresql, postgresql.empty()) as pgbouncer:
        yield pgbouncer


@pytest.fixture(scope="module")
def servers(pgbouncer: PgBouncer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoServers]:
    """All that reaches the database goes through PgBouncer, `migrate` too."""
    servers = TwoServers(tmp_path_factory.mktemp("behind"), workers=2, database_url=pgbouncer.url)
    migrate = [*COMMAND, "migrate"]
    subprocess.run(migrate, cwd=servers.folder, env=servers.environment, check=True, timeout=COMMAND_SECONDS)
    with servers:
        yield servers


def test_a_whole_life_passes_and_timeouts_hold(servers: TwoServers, pgbouncer: PgBouncer) -> None:
    with people(servers, 2) as ends:
        time.sleep(0)
    assert ends == [None] * 2
    assert 1 <= pgbouncer.connections() <= CONNECTIONS
    with psycopg.connect(pgbouncer.url) as through:
        for name, value in TIMEOUTS.items():
            assert through.execute(f"SHOW {name}").fetchone() == (value,)


def test_one_code_of_many_requests_at_two_servers_is_accepted_once(servers: TwoServers) -> None:
    with World.of(servers) as world:
        for _ in range(ROUNDS):
            victim = world.victim().has_email().has_backup_codes().begins_totp()
            answers = world.send(*[victim.posts("totp/confirm", {"code": victim.code()})] * PARALLEL)
            assert Counter(answer.status for answer in answers)[200] == 1
            assert {answer.status for answer in answers} <= {200, 403, 404, 409, 429}
            victim.check_state()
            # Those that came too late have used up the attempts.
            victim.clears()
            code = victim.backup_codes[0]
            challenges = victim.challenges(5)
            answers = world.send(*(victim.verifies(challenges[n % 5], code) for n in range(PARALLEL)))
            assert Counter(answer.status for answer in answers)[200] == 1
            assert victim.events().count("backup_code.used") == 1


def test_it_comes_back_with_pgbouncer(servers: TwoServers, pgbouncer: PgBouncer) -> None:
    with servers.client() as user:

        def ask(port: int) -> httpx.Response:
            return user.post(f"http://127.0.0.1:{port}{API}/totp/enable")

        with ThreadPoolExecutor(PARALLEL) as pool:
            assert {answer.status_code for answer in pool.map(ask, servers.ports * MANY)} == {200}
        pgbouncer.stop()
        refused = [ask(port) for port in servers.ports * 2]
        assert {answer.status_code for answer in refused} == {503}
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
        assert max(answer.elapsed.total_seconds() for answer in refused) < ANSWER_SECONDS
        pgbouncer.start()
        # Nor does a connection of before spoil a request.
        assert {ask(port).status_code for port in servers.ports * MANY} == {200}


def test_a_pgbouncer_that_takes_no_options_is_named_and_the_url_may_leave_them_out(
    postgresql: Postgresql, tmp_path: Path
) -> None:
    with PgBouncer(postgresql, postgresql.new(), ignored="extra_float_digits", timeouts={}) as strict:
        operated = Operated(postgresql, f"{strict.url}?options=", tmp_path)
        found = operated.invoke("check").stdout
        assert "database: statement_timeout is 0, so a statement may take for ever. Set it for the role.\n" in found
        assert "database: ok\n" in found
        operated.leave()
        environment = operated.environment | {"MFA_DATABASE_URL": strict.url}
        refused = CliRunner().invoke(main, ["check"], env=environment)
        (line,) = (line for line in refused.stdout.splitlines() if line.startswith("database: "))
        assert "unsupported startup parameter" in line
        assert "options" in line
