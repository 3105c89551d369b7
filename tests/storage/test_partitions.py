"""Tables partitioned by user, as `docs/partitions.sql` makes them: nothing is lost, all goes on, and each request stays
within one user's partitions. Of SQLite, where there are none, the same is asked by its plans.
"""

from __future__ import annotations

import json
import subprocess
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest

from bench.statements import USERS, Reach, Recording, Statement, reach, recorded
from factors.errors import CredentialExists, InvalidCode, InvalidCredential, Refusal
from storage import rotation, schema
from storage.database import connection
from storage.database import database as db
from storage.outbox import OutboxMail
from storage.purge import purge
from storage.sealing import Keyring
from storage.webauthn import WebAuthnCredential
from tests import operations
from tests.authenticator import Authenticator
from tests.databases import KINDS, PROGRAMS, Operated, Postgresql, Sqlite
from tests.running import TOP
from tests.states import Person

PARTITIONS = 8
COMMAND_SECONDS = 60
# Enough that no partition is likely to stay empty.
MANY = 40


def partition(url: str, partitions: int = PARTITIONS) -> subprocess.CompletedProcess[str]:
    """What the document says an operator does."""
    script = [f"--set=partitions={partitions}", f"--file={TOP / 'docs' / 'partitions.sql'}", url]
    return subprocess.run(
        [PROGRAMS / "psql", "--no-psqlrc", *script],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )


@pytest.fixture
def partitioned(postgresql: Postgresql, quick_hashes: None, tmp_path: Path, cut: Postgresql) -> Iterator[Operated]:
    """A fresh database that is partitioned."""
    operated = Operated(postgresql, cut.new(), tmp_path)
    yield operated
    operated.leave()


@pytest.fixture(scope="module")
def cut(postgresql: Postgresql) -> Postgresql:
    """The same server, that makes new databases of a partitioned one."""
    url = postgresql.new()
    done = partition(url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    other = Postgresql(postgresql.folder, postgresql.server)
    other.template = url.partition("?")[0].rpartition("/")[2]
    return other


def places(caller_id: uuid.UUID) -> dict[str, set[str]]:
    """In which of its partitions each table has rows of a user."""
    found = {}
    for table, column in USERS.items():
        found[table] = {name.rpartition("_")[2] for name in partitions_of(table, f"{column} = %s", caller_id)}
    return found


def partitions_of(table: str, condition: str = "true", *parameters: object) -> list[str]:
    """The partitions in which there are such rows."""
    query = f"SELECT DISTINCT tableoid::regclass::text FROM {table} WHERE {condition}"  # noqa: S608
    return [name for (name,) in db.execute_sql(query, parameters).fetchall()]


def claimed() -> int:
    return int(db.execute_sql("SELECT count(*) FROM webauthn_credential_id").fetchone()[0])


def at_once(acts: Sequence[Callable[[], object]]) -> Counter[str]:
    """What comes of acts that begin together, by the name of the refusal, or "done"."""
    start, seen = threading.Barrier(len(acts)), []

    def run(act: Callable[[], object]) -> None:
        with connection():
            start.wait()
            try:
                act()
                seen.append("done")
            except Refusal as refusal:
                seen.append(type(refusal).__name__)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == len(acts)
    return Counter(seen)


# How far a request reaches.


@pytest.fixture(params=KINDS)
def watched(request: pytest.FixtureRequest, quick_hashes: None, tmp_path: Path) -> Iterator[tuple[Operated, Recording]]:
    """A database of either kind, PostgreSQL's partitioned, with all that is asked of it."""
    databases: Sqlite | Postgresql = Sqlite(tmp_path)
    if request.param == "postgresql":
        databases = request.getfixturevalue("cut")
    with recorded() as recording:
        operated = Operated(databases, databases.new(), tmp_path)
        yield operated, recording
        operated.leave()


def test_no_request_reaches_beyond_one_user(watched: tuple[Operated, Recording]) -> None:
    """But for the quota of a mailbox, which several users may share: that is one row, by the mailbox's own key."""
    operated, recording = watched
    world, beyond, asked = operated.world(), [], set()
    for name, prepare in operations.ALL.items():
        act = prepare(Person(world, name))
        recording.clear()
        act()
        assert recording.statements, name
        for statement in list(recording.statements):
            asked.add(statement.shape)
            far = reach(statement)
            if far is Reach.MORE or (far is Reach.ROW and "mail_quota" not in statement.sql):
                beyond.append((name, far, statement.shape))
    assert beyond == []
    assert len(asked) > MANY


def test_what_reaches_further_is_seen(watched: tuple[Operated, Recording]) -> None:
    operated, recording = watched
    alice, now = Person(operated.world(), "alice"), datetime.now(UTC)
    alice.enrol_totp()
    alice.enrol_key()
    recording.clear()
    [known] = WebAuthnCredential.select().where(WebAuthnCredential.device_id == alice.device_id("webauthn"))
    assert known.user_id == alice.caller.id
    purge(now)
    OutboxMail.claim(now)
    list(rotation.reseal(Keyring(operated.keys)))
    far = {statement.shape: reach(statement) for statement in list(recording.statements)}
    tables = ("webauthn_credential", "challenge", "mail_quota", "outbox_mail", "totp_secret")
    for table in tables:
        assert any(f'FROM "{table}"' in shape for shape, reached in far.items() if reached is Reach.MORE), table


def test_two_users_are_more_than_one(partitioned: Operated) -> None:
    """The plan tells it even where each of two users is found by their id."""
    ids = [uuid.UUID(int=n << 64) for n in range(MANY)]
    statement = Statement(f"SELECT * FROM mfa_user WHERE id IN ({', '.join(['%s'] * MANY)})", ids)  # noqa: S608
    assert reach(statement) is Reach.MORE


# What partitions must not change.


def test_a_user_lives_in_one_place_and_leaves_nothing_there(partitioned: Operated) -> None:
    world = partitioned.world()
    alice, bob = Person(world, "alice"), Person(world, "bob")
    bob.enrol_key()
    alice.enrol_totp()
    alice.enrol_email()
    alice.enrol_key()
    for method in ("totp", "backup_code", "webauthn", "email"):
        alice.prove(method)
    alice.call("backup.regenerate", code=alice.next_code())
    alice.challenge()
    alice.call("webauthn.begin")
    found = places(alice.caller.id)
    assert set(map(frozenset, found.values())) == {frozenset(found["mfa_user"])}
    assert len(found["mfa_user"]) == 1
    alice.call("webauthn.remove", device_id=alice.device_id("webauthn"))
    assert claimed() == 1
    alice.call("totp.disable", code=alice.next_code())
    assert alice.methods() == ["email"]
    alice.enrol_key(Authenticator())
    assert partitioned.invoke("user", "delete", "alice", "--yes").exit_code == 0
    assert {table for table, where in places(alice.caller.id).items() if where} == {"audit_event"}
    assert claimed() == 1
    bob.prove("webauthn")


def test_users_spread_over_all_partitions(partitioned: Operated) -> None:
    world = partitioned.world()
    taken = set()
    for n in range(MANY):
        person = Person(world, f"user {n}")
        person.call("totp.enable")
        taken |= places(person.caller.id)["mfa_user"]
    assert taken == set(map(str, range(PARTITIONS)))


def test_a_credential_id_is_registered_once_whoever_the_user_is(partitioned: Operated) -> None:
    world = partitioned.world()
    alice, bob, carol = (Person(world, name) for name in ("alice", "bob", "carol"))
    alice.enrol_key()
    [known] = alice.key.credentials

    def register(person: Person) -> None:
        person.complete(person.call("webauthn.begin"), Authenticator(), credential_id=known.id)

    with pytest.raises(CredentialExists):
        register(alice)
    with pytest.raises(InvalidCredential) as caught:
        register(bob)
    assert caught.value.reason == "registered to another user"
    assert (WebAuthnCredential.select().count(), claimed()) == (1, 1)
    # Removed, reset or deleted, it is free again.
    alice.call("webauthn.remove", device_id=alice.device_id("webauthn"))
    register(bob)
    assert partitioned.invoke("user", "reset", "bob", "--yes").exit_code == 0
    register(carol)
    assert partitioned.invoke("user", "delete", "carol", "--yes").exit_code == 0
    register(alice)
    assert (WebAuthnCredential.select().count(), claimed()) == (1, 1)


def test_of_many_users_who_register_one_credential_at_once_one_has_it(partitioned: Operated) -> None:
    world = partitioned.world()
    people = [Person(world, f"user {n}") for n in range(PARTITIONS)]
    begun = [person.call("webauthn.begin") for person in people]
    same = b"the same credential id"
    acts = [partial(person.complete, opened, credential_id=same) for person, opened in zip(people, begun, strict=True)]
    assert at_once(acts) == {"done": 1, "InvalidCredential": PARTITIONS - 1}
    assert (WebAuthnCredential.select().count(), claimed()) == (1, 1)


def test_what_works_once_works_once(partitioned: Operated) -> None:
    world = partitioned.world()
    alice = Person(world, "alice")
    alice.enrol_totp()
    for code in (alice.next_code(), alice.backup_code()):
        opened = [alice.challenge() for _ in range(3)]
        came = at_once([partial(alice.verify, each, code=code) for each in opened])
        assert came == {"done": 1, "InvalidCode": 2}
    one, codes = alice.challenge(), [alice.backup_code() for _ in range(3)]
    came = at_once([partial(alice.verify, one, code=code) for code in codes])
    assert came == {"done": 1, "ChallengeNotFound": 2}
    with pytest.raises(InvalidCode):
        alice.verify(alice.challenge(), code=alice.code())


# What goes through all partitions.


def test_what_is_done_for_everyone_reaches_everyone(partitioned: Operated) -> None:
    world = partitioned.world()
    people = [Person(world, f"user {n}") for n in range(MANY)]
    for person in people:
        person.enrol_totp()
        person.challenge()
    partitioned.new_key()
    done = partitioned.invoke("rotate-keys")
    assert done.exit_code == 0, done.output
    counted = rotation.count_by_key(world.now)
    assert {name: counts["totp_secret"] for name, counts in counted.items()} == {"key-1": MANY}
    events = [json.loads(line) for line in partitioned.invoke("audit").stdout.splitlines()]
    assert len({event["sub"] for event in events}) == MANY
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
    gone = purge(world.now + timedelta(days=2), timedelta(days=1))
    assert gone >= len(events) + MANY
    assert not partitions_of("challenge")
    assert not partitions_of("audit_event")
    assert people[0].methods() == ["totp"]


# How they come to be.


def test_a_database_that_is_in_use_keeps_everything(postgresql: Postgresql, quick_hashes: None, tmp_path: Path) -> None:
    operated = Operated(postgresql, postgresql.new(), tmp_path)
    try:
        alice, bob = Person(operated.world(), "alice"), Person(operated.world(), "bob")
        alice.enrol_totp()
        alice.enrol_key()
        listed, before = alice.listed(), _rows(operated.url)
        assert partition(operated.url).returncode == 0
        after = _rows(operated.url)
        assert after.pop("webauthn_credential_id") == 1
        assert after == before
        assert alice.listed() == listed
        alice.prove("webauthn")
        with pytest.raises(InvalidCredential):
            bob.complete(bob.call("webauthn.begin"), credential_id=alice.key.credentials[0].id)
    finally:
        operated.leave()


def test_the_tables_keep_their_keys_and_indexes_but_for_the_one_that_a_trigger_stands_for(
    postgresql: Postgresql, cut: Postgresql
) -> None:
    before, after = _rules(postgresql.new()), _rules(cut.new())
    assert before - after == {"webauthn_credential: UNIQUE (credential_id)"}
    assert after - before == {"webauthn_credential_id: PRIMARY KEY (credential_id)"}


def test_partitioned_tables_are_left_as_they_are(cut: Postgresql) -> None:
    again = partition(cut.new())
    assert again.returncode != 0
    assert "The tables are partitioned already." in again.stderr


def test_what_cannot_be_done_leaves_everything_as_it_was(postgresql: Postgresql) -> None:
    url = postgresql.new()
    before = _rules(url)
    none = partition(url, 0)
    assert none.returncode != 0
    assert "There must be a partition." in none.stderr
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("CREATE TABLE webauthn_credential_id ()")
        assert partition(url).returncode != 0
        other.execute("DROP TABLE webauthn_credential_id")
    assert _rules(url) == before


def test_a_backup_brings_partitions_back_with_their_rules(partitioned: Operated) -> None:
    alice, bob = Person(partitioned.world(), "alice"), Person(partitioned.world(), "bob")
    alice.enrol_key()
    before = _rows(partitioned.url), _rules(partitioned.url)
    partitioned.use(partitioned.databases.restore(partitioned.databases.back_up(partitioned.url)))
    assert (_rows(partitioned.url), _rules(partitioned.url)) == before
    with pytest.raises(InvalidCredential):
        bob.complete(bob.call("webauthn.begin"), credential_id=alice.key.credentials[0].id)
    alice.call("webauthn.remove", device_id=alice.device_id("webauthn"))
    assert claimed() == 0


def test_a_later_step_builds_its_index_on_every_partition(
    postgresql: Postgresql, quick_hashes: None, tmp_path: Path
) -> None:
    """Beside requests, which PostgreSQL does for one partition at a time; also when it was cut short before."""
    operated = Operated(postgresql, postgresql.new(), tmp_path)
    try:
        db.execute_sql("DROP INDEX audit_event_at")
        db.execute_sql("DELETE FROM schema_migration WHERE name = '0002_audit_event_at'")
        assert partition(operated.url).returncode == 0
        db.execute_sql("CREATE INDEX audit_event_at ON ONLY audit_event (at, id)")
        db.execute_sql("CREATE INDEX audit_event_at_0 ON audit_event_0 (at)")
        assert schema.migrate() == ["0002_audit_event_at"]
        built = db.execute_sql(
            "SELECT indrelid::regclass::text, indisvalid FROM pg_index"
            " WHERE pg_get_indexdef(indexrelid) ~ 'USING btree .at, id.$'"
        ).fetchall()
        tables = ["audit_event", *(f"audit_event_{n}" for n in range(PARTITIONS))]
        assert dict(built) == dict.fromkeys(tables, True)
    finally:
        operated.leave()


def _rows(url: str) -> dict[str, int]:
    with psycopg.connect(url) as looking:
        names = looking.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p') AND NOT relispartition"
        )
        tables = [str(name) for (name,) in names.fetchall()]
        counts = [looking.execute(f"SELECT count(*) FROM {name}".encode()).fetchone() for name in tables]  # noqa: S608
    return {name: count[0] for name, count in zip(tables, counts, strict=True) if count is not None}


def _rules(url: str) -> set[str]:
    """Keys, references and indexes of the tables themselves, whatever they are called."""
    constraints = (
        "SELECT conrelid::regclass || ': ' || pg_get_constraintdef(c.oid) FROM pg_constraint c"
        " JOIN pg_class t ON t.oid = conrelid WHERE NOT relispartition AND conparentid = 0 AND contype <> 'n'"
    )
    indexes = (
        "SELECT tablename || ': ' || regexp_replace(indexdef, '.* USING ', '') FROM pg_indexes"
        " JOIN pg_class ON oid = (quote_ident(schemaname) || '.' || quote_ident(tablename))::regclass"
        " WHERE schemaname = 'public' AND NOT relispartition AND indexdef NOT LIKE '%UNIQUE%'"
    )
    with psycopg.connect(url) as looking:
        found = [looking.execute(query.encode()).fetchall() for query in (constraints, indexes)]
    return {str(rule) for rows in found for (rule,) in rows}
