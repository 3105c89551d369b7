"""The database: times, transactions, and a schema that is what the models say."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import peewee
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

import storage.database
from storage.audit import AuditEvent
from storage.backup import BackupCode, BackupCodeSet
from storage.challenge import Challenge
from storage.database import UtcDateTimeField, atomic, connection
from storage.database import database as db
from storage.email import EmailFactor
from storage.mail_quota import MailQuota
from storage.outbox import OutboxMail
from storage.totp import TotpSecret
from storage.user import User
from storage.webauthn import WebAuthnCredential, WebAuthnRegistration
from tests.databases import Postgresql, on_sqlite_only
from tests.storage.rows import ALICE, NOW, ensure, key

MODELS = [
    User,
    TotpSecret,
    EmailFactor,
    BackupCodeSet,
    BackupCode,
    WebAuthnCredential,
    WebAuthnRegistration,
    Challenge,
    MailQuota,
    OutboxMail,
    AuditEvent,
]


def set_created_at(at: datetime) -> datetime:
    with atomic():
        User.update(created_at=at).where(User.id == ALICE.id).execute()
    kept: datetime = User.get_by_id(ALICE.id).created_at
    return kept


# Times.


@pytest.mark.parametrize(
    "at",
    [
        NOW,
        NOW + timedelta(microseconds=1),
        NOW + timedelta(microseconds=999_999),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2000, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    ],
    ids=str,
)
@pytest.mark.usefixtures("operated")
def test_a_time_comes_back_as_it_was_and_is_utc(at: datetime) -> None:
    ensure(ALICE)
    kept = set_created_at(at)
    assert kept == at
    assert kept.tzinfo is UTC


@pytest.mark.usefixtures("operated")
def test_a_time_from_elsewhere_is_the_same_moment_in_utc() -> None:
    ensure(ALICE)
    kept = set_created_at(NOW.astimezone(timezone(timedelta(hours=-9, minutes=-30))))
    assert (kept, kept.tzinfo, kept.hour) == (NOW, UTC, 12)


@pytest.mark.usefixtures("operated")
def test_times_are_ordered_and_compared_as_times() -> None:
    moments = [
        datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        NOW - timedelta(microseconds=1),
        NOW,
        NOW + timedelta(microseconds=1),
        NOW + timedelta(microseconds=10),
        NOW + timedelta(seconds=1),
        datetime(9999, 1, 1, tzinfo=UTC),
    ]
    ensure(ALICE)
    for at in reversed(moments):
        key(now=at)
    found = WebAuthnCredential.select().order_by(WebAuthnCredential.created_at)
    assert [each.created_at for each in found] == moments
    for place, at in enumerate(moments):
        assert WebAuthnCredential.select().where(WebAuthnCredential.created_at < at).count() == place
        local = at.astimezone(timezone(timedelta(hours=5)))
        assert WebAuthnCredential.select().where(WebAuthnCredential.created_at <= local).count() == place + 1


def test_no_time_is_no_time() -> None:
    assert UtcDateTimeField().db_value(None) is None
    assert UtcDateTimeField().python_value(None) is None


# Transactions.


@pytest.mark.usefixtures("operated")
def test_atm_02_what_raises_has_written_nothing() -> None:
    def fail() -> None:
        with atomic():
            User.ensure(ALICE, NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not User.select().exists()


@pytest.mark.usefixtures("operated")
def test_rel_05_what_has_ended_is_there_for_everyone_else() -> None:
    ensure(ALICE)
    seen: list[bool] = []

    def look() -> None:
        with connection():
            seen.append(User.select().exists())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [True]


@pytest.mark.usefixtures("operated")
def test_atm_03_changes_of_one_user_at_once_happen_one_after_the_other() -> None:
    ensure(ALICE)
    before = User.get().epoch
    start = threading.Barrier(8)

    def change() -> None:
        with connection():
            start.wait()
            for _ in range(5):
                with atomic():
                    User.change_factors(ALICE)

    threads = [threading.Thread(target=change) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert User.get().epoch == before + 40


@pytest.mark.usefixtures("operated")
def test_foreign_keys_hold_and_a_deleted_user_takes_everything_along() -> None:
    with pytest.raises(peewee.IntegrityError), atomic():
        TotpSecret.begin(ALICE, bytes(20), NOW)
    ensure(ALICE)
    key()
    with atomic():
        TotpSecret.begin(ALICE, bytes(20), NOW)
        BackupCodeSet.replace_all(ALICE, bytes(16), [bytes(32)], NOW)
        User.delete().execute()
    for model in (TotpSecret, WebAuthnCredential, BackupCodeSet, BackupCode):
        assert not model.select().exists()


@on_sqlite_only
@pytest.mark.usefixtures("database")
def test_sqlite_loses_nothing_that_was_acknowledged() -> None:
    """Write-ahead log, flushed at each commit; on the connection that writes as on those that read."""
    ensure(ALICE)
    pragmas = {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2}
    with atomic():
        writing = {name: db.execute_sql(f"PRAGMA {name}").fetchone()[0] for name in pragmas}
    reading = {name: db.execute_sql(f"PRAGMA {name}").fetchone()[0] for name in pragmas}
    assert writing == reading == pragmas


# Failover.


def test_rel_02_a_server_that_takes_no_writes_is_not_connected_to(postgresql: Postgresql) -> None:
    """A standby, or a primary that is none any more: the connection would be kept, and nothing could be done on it."""
    url = postgresql.new()
    with psycopg.connect(url, autocommit=True) as administrator:
        name = Identifier(str(conninfo_to_dict(url)["dbname"]))
        administrator.execute(SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    storage.database.connect(url)
    try:
        with pytest.raises(peewee.OperationalError), connection():
            pass
    finally:
        storage.database.close()


def test_rel_02_a_dead_machine_is_noticed_in_seconds_unless_the_url_says_otherwise(postgresql: Postgresql) -> None:
    url = postgresql.new()
    separator = "&" if "?" in url else "?"
    storage.database.connect(f"{url}{separator}tcp_user_timeout=2500")
    try:
        with connection():
            used = db.connection().info.get_parameters()
    finally:
        storage.database.close()
    assert used["tcp_user_timeout"] == "2500"
    assert int(used["keepalives_idle"]) + int(used["keepalives_interval"]) * int(used["keepalives_count"]) <= 10


# The schema.


@pytest.mark.usefixtures("operated")
def test_rel_04_the_migrations_make_the_columns_that_the_models_describe() -> None:
    for meta in metas():
        primary = {field.column_name for field in meta.get_primary_keys()}
        described = {field.column_name: (field.null, field.column_name in primary) for field in meta.sorted_fields}
        made = {column.name: (column.null, column.primary_key) for column in db.get_columns(meta.table_name)}
        assert made == described, meta.table_name


TEXT_AND_BLOB = {"uuid": "TEXT", "bytes": "BLOB", "time": "TEXT", "flag": "INTEGER", "text": "TEXT"}
POSTGRESQL = {"uuid": "uuid", "bytes": "bytea", "time": "timestamp with time zone", "flag": "boolean", "text": "text"}
KINDS: dict[type[peewee.Field], str] = {
    peewee.UUIDField: "uuid",
    peewee.BlobField: "bytes",
    UtcDateTimeField: "time",
    peewee.BooleanField: "flag",
    peewee.TextField: "text",
}


@pytest.mark.usefixtures("operated")
def test_rel_04_the_columns_have_the_types_of_the_fields() -> None:
    names = TEXT_AND_BLOB if storage.database.is_sqlite() else POSTGRESQL
    for meta in metas():
        types = {column.name: column.data_type for column in db.get_columns(meta.table_name)}
        for field in meta.sorted_fields:
            while isinstance(field, peewee.ForeignKeyField):
                types[field.rel_field.column_name] = types[field.column_name]
                field = field.rel_field
            found = types[field.column_name]
            if type(field) in KINDS:
                assert found == names[KINDS[type(field)]], (meta.table_name, field.name)
            else:
                assert found.lower() in ("bigint", "integer"), (meta.table_name, field.name)


def metas() -> Iterator[Any]:
    """What Peewee knows of each model."""
    for model in MODELS:
        yield model._meta


@pytest.mark.usefixtures("operated")
def test_rel_04_there_are_the_tables_of_the_models_and_no_others() -> None:
    tables = {table for table in db.get_tables() if "migration" not in table}
    assert tables == {model._meta.table_name for model in MODELS}


@pytest.mark.usefixtures("operated")
def test_rel_04_every_foreign_key_of_a_model_is_one_of_the_schema_and_cascades() -> None:
    for model in MODELS:
        described = {
            (field.column_name, field.rel_model._meta.table_name)
            for field in model._meta.sorted_fields
            if isinstance(field, peewee.ForeignKeyField)
        }
        assert {(each.column, each.dest_table) for each in db.get_foreign_keys(model._meta.table_name)} == described


@pytest.mark.usefixtures("operated")
def test_what_is_unique_is_so_in_the_schema() -> None:
    unique = [index for index in db.get_indexes("webauthn_credential") if index.unique]
    assert ["credential_id"] in [index.columns for index in unique]
