"""The steps of the schema: each once, none that a server of the version before would trip over, none in its way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

import storage.database
from storage import schema
from storage.audit import AuditEvent
from storage.database import connection
from storage.database import database as db
from storage.schema import NewerSchema, differences, migrate
from tests.databases import KINDS, Operated, Postgresql, Sqlite
from tests.schemas import FIRST, STEPS, shape, step, write_steps
from tests.storage.rows import ALICE, ensure

SECONDS = 20
REQUEST_TIMEOUT = "1500ms"

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Let the steps of this version be these and no others."""
    monkeypatch.setattr(schema, "STEPS", tmp_path / "steps")
    return partial(write_steps, tmp_path / "steps")


@pytest.fixture(params=KINDS)
def empty(request: pytest.FixtureRequest, folder_in_memory: Path) -> Iterator[str]:
    """A database without any table, connected; its URL."""
    databases: Sqlite | Postgresql
    databases = Sqlite(folder_in_memory) if request.param == "sqlite" else request.getfixturevalue("postgresql")
    url = databases.empty()
    storage.database.connect(url, options=schema.OPTIONS)
    yield url
    storage.database.close()


@pytest.fixture
def old(empty: str, write: Write) -> str:
    """A database as the first version left it, with a user; this version knows more steps."""
    write(FIRST)
    migrate()
    with connection():
        ensure(ALICE)
    write(STEPS)
    return empty


on_postgresql = pytest.mark.parametrize("empty", ["postgresql"], indirect=True)


@pytest.mark.usefixtures("empty")
def test_rel_04_an_empty_database_waits_for_every_step() -> None:
    assert differences() == (list(STEPS), [])
    assert migrate() == list(STEPS)
    assert differences() == ([], [])


@pytest.mark.usefixtures("operated")
def test_rel_04_migrating_again_does_nothing() -> None:
    before = shape()
    assert migrate() == []
    assert shape() == before


def test_rel_04_a_step_that_fails_is_undone_and_those_before_it_stay(operated: Operated, write: Write) -> None:
    broken = "def up(migrator, db):\n    db.execute_sql('CREATE TABLE half_done (id INTEGER)')\n    return 1 / 0\n"
    write(STEPS | {"9001_whole": step("CREATE TABLE whole (id INTEGER)"), "9002_broken": broken})
    with pytest.raises(ZeroDivisionError):
        migrate()
    assert "half_done" not in db.get_tables()
    if storage.database.is_sqlite():
        # There all steps are one transaction.
        assert differences().pending == ["9001_whole", "9002_broken"]
    else:
        assert differences().pending == ["9002_broken"]


# One version back.


def test_rel_04_a_version_goes_on_with_a_newer_schema(operated: Operated, write: Write) -> None:
    more = {"9001_more": step("ALTER TABLE mfa_user ADD COLUMN more TEXT")}
    write(STEPS | more)
    assert migrate() == list(more)
    write(STEPS)
    assert differences() == ([], list(more))
    assert migrate() == []
    with connection():
        ensure(ALICE)
    assert f"database: {next(iter(more))} is of a newer version" in operated.invoke("check").stdout


@pytest.mark.parametrize("command", ["check", "migrate"])
def test_rel_04_a_version_refuses_a_schema_that_has_lost_what_it_needs(
    operated: Operated, write: Write, command: str
) -> None:
    """The last one that used it did not know the step that put another thing in its place."""
    instead = {"9001_instead": step("ALTER TABLE mfa_user ADD COLUMN instead TEXT")}
    write(STEPS | instead | {"9002_drop_handle_needs_9001": step("ALTER TABLE mfa_user DROP COLUMN handle")})
    migrate()
    write(STEPS | instead)
    assert differences() == ([], ["9002_drop_handle_needs_9001"])
    write(STEPS)
    with pytest.raises(NewerSchema):
        differences()
    told = operated.invoke(command)
    assert told.exit_code == 1
    assert "The schema is that of a newer version. Install it." in told.output


def obstacles(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What a server that knows the schema of before would trip over."""
    found = []
    for table, old in before.items():
        new = after.get(table)
        if new is None:
            found.append(f"{table} is gone")
            continue
        found += [
            f"{table}.{name} is not what it was"
            for name in old["columns"]
            if old["columns"][name] != new["columns"].get(name)
        ]
        found += [f"{table}.{name} has lost its default" for name in old["defaults"] - new["defaults"]]
        added = new["columns"].keys() - old["columns"].keys() - new["defaults"]
        found += [f"{table}.{name} has to be given" for name in added if not new["columns"][name][1]]
        found += [f"{table} has more rules" for rule in ("unique", "references") if new[rule] - old[rule]]
    return found


@pytest.mark.usefixtures("empty")
def test_rel_04_no_step_but_those_that_say_so_takes_anything_away(write: Write) -> None:
    for number in range(1, len(STEPS)):
        write(dict(list(STEPS.items())[:number]))
        migrate()
        before = shape()
        write(dict(list(STEPS.items())[: number + 1]))
        [name] = migrate()
        assert schema.NEEDS.search(name) or not obstacles(before, shape()), name


@pytest.mark.parametrize(
    ("sql", "obstacle"),
    [
        ("DROP TABLE totp_secret", "totp_secret is gone"),
        ("ALTER TABLE mfa_user DROP COLUMN handle", "mfa_user.handle is not what it was"),
        ("ALTER TABLE mfa_user RENAME COLUMN handle TO user_handle", "mfa_user.handle is not what it was"),
        ("CREATE UNIQUE INDEX one ON mfa_user (tenant, sub)", "mfa_user has more rules"),
        ("ALTER TABLE outbox_mail ADD COLUMN twin UUID REFERENCES mfa_user (id)", "outbox_mail has more rules"),
    ],
)
@pytest.mark.parametrize("empty", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("empty")
def test_what_takes_something_away_is_found(write: Write, sql: str, obstacle: str) -> None:
    write(STEPS)
    migrate()
    before = shape()
    write(STEPS | {"9001_step": step(sql)})
    migrate()
    assert obstacle in obstacles(before, shape())


# In nobody's way: on PostgreSQL, where requests are answered meanwhile.


@contextmanager
def in_background(function: Callable[[], Any]) -> Iterator[list[Any]]:
    """Call it in a thread; what it returned is there after the block."""
    returned: list[Any] = []
    thread = threading.Thread(target=lambda: returned.append(function()))
    thread.start()
    try:
        yield returned
    finally:
        thread.join(SECONDS)
        assert not thread.is_alive()


@contextmanager
def transaction(url: str, sql: str) -> Iterator[psycopg.Connection[Any]]:
    """Another's transaction, until it is told to commit."""
    with psycopg.connect(url) as other:
        other.execute(sql)
        yield other


def wait_for(url: str, query: str) -> None:
    """Until a statement that begins so waits for a lock."""
    waiting = (
        "SELECT 1 FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE %s"
    )
    deadline = time.monotonic() + SECONDS
    with psycopg.connect(url, autocommit=True) as observer:
        while observer.execute(waiting, [f"{query}%"]).fetchone() is None:
            assert time.monotonic() < deadline, f"no {query} waits"
            time.sleep(0.01)


def change(url: str, sql: str) -> None:
    """What a request does, which may wait, but not for long."""
    with psycopg.connect(url, options=f"-c lock_timeout={REQUEST_TIMEOUT}") as requests:
        requests.execute(sql)


def valid_indexes(url: str) -> dict[str, bool]:
    with psycopg.connect(url) as observer:
        rows = observer.execute("SELECT indexrelid::regclass::text, indisvalid FROM pg_index").fetchall()
    return {str(name): bool(valid) for name, valid in rows}


SOMEONES_EVENT = (
    "INSERT INTO audit_event (user_id, at, id, type, operation, request_id, address)"
    " VALUES (gen_random_uuid(), now(), gen_random_uuid(), 'test', '', '', '')"
)
BUILDING = "CREATE INDEX"


@on_postgresql
def test_events_are_written_while_their_index_is_built(old: str) -> None:
    with transaction(old, SOMEONES_EVENT) as another, in_background(migrate) as taken:
        wait_for(old, BUILDING)
        change(old, SOMEONES_EVENT)
        assert not taken
        another.commit()
    assert taken == [["0002_audit_event_at"]]
    assert valid_indexes(old)["audit_event_at"]
    with connection():
        assert AuditEvent.select().count() == 2


@on_postgresql
def test_who_waits_for_another_to_migrate_is_not_in_the_way_of_an_index(old: str) -> None:
    """The build waits for every statement that has begun, so none may wait for the end of the build."""
    with (
        transaction(old, SOMEONES_EVENT) as another,
        in_background(migrate) as one,
        in_background(migrate) as other,
    ):
        wait_for(old, BUILDING)
        # So that the other one has asked for the lock.
        time.sleep(5 * schema.ASK_SECONDS)
        another.commit()
    assert sorted(one + other) == [[], ["0002_audit_event_at"]]


@on_postgresql
def test_an_index_whose_building_was_cut_short_is_built_anew(old: str) -> None:
    with psycopg.connect(old, autocommit=True) as cut_short, transaction(old, SOMEONES_EVENT):
        cut_short.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            cut_short.execute("CREATE INDEX CONCURRENTLY audit_event_at ON audit_event (at, id)")
    assert valid_indexes(old)["audit_event_at"] is False
    assert migrate() == ["0002_audit_event_at"]
    assert valid_indexes(old)["audit_event_at"] is True


@on_postgresql
def test_no_request_waits_behind_a_step_that_waits_for_a_backup(
    old: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pg_dump does, the other transaction reads a table for as long as it likes."""
    monkeypatch.setattr(schema, "TURN_SECONDS", 0.1)
    write(STEPS | {"9001_more": step("ALTER TABLE mfa_user ADD COLUMN more TEXT")})
    reading = transaction(old, "LOCK TABLE mfa_user IN ACCESS SHARE MODE")
    with reading as another, in_background(migrate) as taken:
        for _ in range(2):
            wait_for(old, "ALTER TABLE")
            change(old, "UPDATE mfa_user SET epoch = epoch + 1")
        assert not taken
        another.commit()
    assert taken == [["0002_audit_event_at", "9001_more"]]
