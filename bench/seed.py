"""Users straight into the databases, as if they had enrolled."""

from __future__ import annotations

import base64
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import peewee

from bench.people import People, Person
from server.settings import Settings
from storage import database, schema, sealing
from storage.backup import BackupCode, BackupCodeSet
from storage.challenge import LIFETIME, Challenge
from storage.outbox import OutboxMail
from storage.totp import TotpSecret
from storage.user import User
from storage.webauthn import WebAuthnCredential
from tests.cose import ES256, cbor, cose_key, new_key

CHUNK = 500
CODES = 10
DIGEST_BYTES = 32
KEY_BYTES = 77


@contextmanager
def storage(data: Path, database_url: str) -> Iterator[None]:
    """Our storage with the schema and the keys of a data folder, which are made where there are none."""
    settings = Settings(data_dir=data, database_url=database_url)
    database.connect(settings.database_url)
    try:
        schema.migrate()
        sealing.use(settings.secret_keys)
        with database.connection():
            yield
    finally:
        database.close()


def people(seeded: People) -> None:
    """Users with an authenticator app or a key, and backup codes."""
    now = datetime.now(UTC)
    with database.atomic():
        everybody = [*seeded.with_totp, *seeded.with_key]
        _insert(User, (_user(person, now) for person in everybody))
        _insert(TotpSecret, (_totp_secret(person, now) for person in seeded.with_totp))
        _insert(WebAuthnCredential, (_credential(person, now) for person in seeded.with_key))
        sets = [{"user": person.caller.id, "salt": os.urandom(16), "generated_at": now} for person in everybody]
        _insert(BackupCodeSet, sets)
        codes = ({"user": each["user"], "digest": os.urandom(DIGEST_BYTES)} for each in sets for _ in range(CODES))
        _insert(BackupCode, codes)


def challenges(asked: Sequence[Person]) -> list[UUID]:
    """Open challenges, since a prepared request cannot wait for the answer of the one before it."""
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = [
        {
            "challenge_id": uuid.uuid4(),
            "user": person.caller.id,
            "purpose": person.caller.purpose,
            "session": person.caller.session,
            "method": "totp",
            "user_verification": "preferred",
            "created_at": now,
            "expires_at": now + LIFETIME,
        }
        for person in asked
    ]
    with database.atomic():
        _insert(Challenge, rows)
    return [row["challenge_id"] for row in rows]


def no_mail() -> None:
    with database.atomic():
        OutboxMail.delete().execute()


def _insert(model: type[peewee.Model], rows: Iterable[dict[str, Any]]) -> None:
    for chunk in peewee.chunked(rows, CHUNK):
        model.insert_many(chunk).execute()


def _user(person: Person, now: datetime) -> dict[str, Any]:
    return {"id": person.caller.id, "tenant": "", "sub": person.sub, "handle": os.urandom(32), "created_at": now}


def _totp_secret(person: Person, now: datetime) -> dict[str, Any]:
    user, device_id = person.caller.id, uuid.uuid4()
    sealed = sealing.seal(person.secret, table="totp_secret", user=user, row=device_id)
    return {"user": user, "device_id": device_id, "sealed": sealed, "created_at": now, "confirmed_at": now}


def _credential(person: Person, now: datetime) -> dict[str, Any]:
    return {
        "device_id": uuid.uuid4(),
        "user": person.caller.id,
        "credential_id": os.urandom(32),
        "public_key": os.urandom(KEY_BYTES),
        "sign_count": 0,
        "aaguid": UUID(int=0),
        "name": "Security key",
        "transports": "usb",
        "uv_initialized": True,
        "backup_eligible": False,
        "backed_up": False,
        "created_at": now,
    }


def floor_people(connection: sqlite3.Connection, seeded: People) -> None:
    """The same users in the database of a floor."""
    now = time.time()
    public_key = cbor(cose_key(new_key(ES256), ES256))
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO totp VALUES (?, ?, ?, 0, ?, ?, NULL)",
        [
            (person.sub, str(uuid.uuid4()), base64.b32encode(person.secret).decode(), now, now)
            for person in seeded.with_totp
        ],
    )
    connection.executemany(
        "INSERT INTO security_key VALUES (?, ?, ?, ?, 0, ?, NULL)",
        [(person.sub, os.urandom(32), str(uuid.uuid4()), public_key, now) for person in seeded.with_key],
    )
    connection.execute("COMMIT")
    connection.close()
