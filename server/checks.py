"""What `mfa-server check` tries: each part returns facts, or raises ValueError, in one sentence, when it is no use."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime

import peewee

from server.mail import Delayed
from server.setting_types import KEY_ID
from server.settings import Settings
from server.tokens import Verifier
from server.transport import transport
from storage import database, rotation, schema
from storage.sealing import Keyring

NEWER = "The schema is that of a newer version. Install it."


def check_database(settings: Settings) -> Iterable[str]:
    """Raises ValueError as well when the schema is none that this version can work with."""
    database.connect(settings.database_url)
    try:
        pending, unknown = schema.differences()
        gives_up = database.gives_up()
    except peewee.DatabaseError as error:
        raise ValueError(f"MFA_DATABASE_URL cannot be opened: {str(error).splitlines()[0]}.") from error
    except schema.NewerSchema as error:
        raise ValueError(NEWER) from error
    finally:
        database.close()
    if pending:
        raise ValueError("The schema is not current. Run `mfa-server migrate`.")
    facts = [f"{step} is of a newer version. This one goes on without it." for step in unknown]
    if not gives_up:
        facts.append("statement_timeout is 0, so a statement may take for ever. Set it for the role.")
    return facts


def check_sealing(settings: Settings) -> Iterator[str]:
    database.connect(settings.database_url)
    try:
        with database.connection():
            yield from sealing_keys(settings.secret_keys)
    except peewee.DatabaseError as error:
        raise ValueError(f"The database failed: {str(error).splitlines()[0]}.") from error
    finally:
        database.close()


def sealing_keys(keys: Mapping[str, bytes]) -> Iterator[str]:
    """What each key holds, in the database that is connected; then raises ValueError if one is missing or wrong."""
    held = rotation.count_by_key(datetime.now(UTC))
    unknown = {key: rows for key, rows in held.items() if key not in keys}
    for place, key in enumerate(keys):
        rows = held.get(key, Counter())
        yield f"key {key} holds {_listed(rows)}. {_advice(rows) if place else 'It seals.'}"
    for key, rows in unknown.items():
        yield f"key {_key_id(key)} holds {_listed(rows)}. It is not in MFA_SECRET_KEYS."
    lacking = [_key_id(key) for key, rows in unknown.items() if _sealed(rows)]
    wrong = [f"MFA_SECRET_KEYS lacks {key}: add it at the end." for key in lacking]
    sample = rotation.sample(Keyring(keys))
    wrong += [
        f"The key {key} of MFA_SECRET_KEYS opens nothing of what {key} sealed: it is another key."
        for key in sorted({row.key_id for row in sample.unreadable} & set(keys))
        if not sample.opened_by[key]
    ]
    if wrong:
        raise ValueError(" ".join(wrong))


def _advice(rows: Counter[str]) -> str:
    if not rows:
        return "It may be taken out of MFA_SECRET_KEYS when no server seals with it any more."
    return "`mfa-server rotate-keys` seals it anew." if _sealed(rows) else "They expire within ten minutes."


def _sealed(rows: Counter[str]) -> int:
    return rows.total() - rows[rotation.CODES]


def _listed(rows: Counter[str]) -> str:
    return ", ".join(f"{table} {count}" for table, count in rows.items()) or "nothing"


def _key_id(found: str) -> str:
    """What stands in a row where a key id should, if it has the form of one."""
    return found if KEY_ID.fullmatch(found) else "(none)"


def check_keys(settings: Settings) -> Iterable[str]:
    if not asyncio.run(Verifier.from_settings(settings).keys.ready()):
        raise ValueError("MFA_JWT_JWKS_URL gives no key for MFA_JWT_ALGORITHMS.")
    return ()


def check_mail(settings: Settings) -> Iterable[str]:
    try:
        transport(settings).check()
    except Delayed as error:
        raise ValueError(f"Mail would not be taken: {error}.") from error
    return ()


PARTS: dict[str, Callable[[Settings], Iterable[str]]] = {
    "database": check_database,
    "sealing": check_sealing,
    "keys": check_keys,
    "mail": check_mail,
}
# A part that is no use without another.
NEEDS = {"sealing": "database"}
