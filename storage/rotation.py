"""The keys that seal: what each of them holds, and everything sealed anew with the newest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import peewee

from storage.challenge import Challenge
from storage.database import atomic, is_sqlite
from storage.email import EmailFactor
from storage.outbox import OutboxMail
from storage.pages import Page, pages
from storage.sealing import Keyring, Unsealable
from storage.statement import Change
from storage.totp import TotpSecret

# Rows that one transaction changes: SQLite's only writer is held for some milliseconds.
BATCH = 200
# Rows that one statement counts.
COUNTED = 10_000
CODES = "codes"


class Sealed(NamedTuple):
    """A table with a column `sealed`, and what binds a value to its place (SEC-01)."""

    model: Any
    user: Any
    row: Any
    change: Change

    @property
    def name(self) -> str:
        return str(self.model._meta.table_name)

    @property
    def key(self) -> Any:
        return self.model._meta.primary_key

    def read(self, page: Page) -> list[tuple[UUID, UUID, str]]:
        """User, row and sealed value of each row on a page."""
        query = self.model.select(self.user, self.row, self.model.sealed).where(page.holds(self.key))
        return list(query.order_by(self.key).tuples())


# Guarded by the value that was read: whatever has changed since wins, and was sealed by the server that changed it.
SEALED = (
    Sealed(
        TotpSecret,
        TotpSecret.user,
        TotpSecret.device_id,
        Change(
            lambda user, row, old, new: TotpSecret.update(sealed=new).where(
                TotpSecret.user == user, TotpSecret.device_id == row, TotpSecret.sealed == old
            )
        ),
    ),
    Sealed(
        OutboxMail,
        OutboxMail.user_id,
        OutboxMail.id,
        Change(
            lambda user, row, old, new: OutboxMail.update(sealed=new).where(
                OutboxMail.id == row, OutboxMail.user_id == user, OutboxMail.sealed == old
            )
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A sealed value that does not open: its key is not configured, or it was tampered with or moved (SEC-03)."""

    table: str
    user_id: UUID
    row: UUID
    key_id: str


@dataclass(slots=True)
class Batch:
    """What became of one batch. `share` is how much is done with it, from 0 to 1, of all."""

    share: float
    read: int = 0
    resealed: int = 0
    changed_meanwhile: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)
    opened_by: Counter[str] = field(default_factory=Counter)


def reseal(keyring: Keyring) -> Iterator[Batch]:
    """Open everything sealed, and seal anew what an older key had sealed, a batch in each step.

    Nothing is remembered of it: begun again after a stop, it reads what is done already and leaves it. What does not
    open is reported, and left as it is.
    """
    for done, table in enumerate(SEALED):
        for page in pages(table.key, BATCH):
            batch, older = _look(table, page, keyring)
            if older:
                with atomic():
                    batch.resealed = sum(table.change(**values) for values in older)
                batch.changed_meanwhile = len(older) - batch.resealed
            batch.share = (done + page.share) / len(SEALED)
            yield batch


def sample(keyring: Keyring) -> Batch:
    """Open the first rows of each table, and change none: whether the keys are those that sealed."""
    found = Batch(1.0)
    for table in SEALED:
        batch, _ = _look(table, next(pages(table.key, BATCH)), keyring)
        found.read += batch.read
        found.unreadable += batch.unreadable
        found.opened_by += batch.opened_by
    return found


def _look(table: Sealed, page: Page, keyring: Keyring) -> tuple[Batch, list[dict[str, Any]]]:
    """Open each row of a page. Returns also the changes that seal anew what an older key had sealed."""
    batch = Batch(0.0)
    older = []
    for user, row, sealed in table.read(page):
        batch.read += 1
        key_id = sealed.partition(":")[0]
        try:
            plaintext = keyring.unseal(sealed, table=table.name, user=user, row=row)
        except Unsealable:
            batch.unreadable.append(Unreadable(table.name, user, row, key_id))
            continue
        batch.opened_by[key_id] += 1
        if key_id != keyring.current:
            new = keyring.seal(plaintext, table=table.name, user=user, row=row)
            older.append({"user": user, "row": row, "old": sealed, "new": new})
    return batch, older


def count_by_key(now: datetime) -> dict[str, Counter[str]]:
    """By key id: how many rows of each table it has sealed, and how many codes that are still good it has digested."""
    counted: dict[str, Counter[str]] = {}
    for table in SEALED:
        for page in pages(table.key, COUNTED):
            _count(counted, table.name, table.model.sealed, page.holds(table.key))
    # Few codes are open at a time, and an index finds them.
    for model in (EmailFactor, Challenge):
        _count(counted, CODES, model.code_digest, model.code_digest.is_null(False) & (model.expires_at > now))
    return counted


def _count(counted: dict[str, Counter[str]], name: str, value: Any, condition: Any) -> None:
    key_id = _before_the_colon(value)
    query = value.model.select(key_id, peewee.fn.COUNT(value)).where(condition).group_by(peewee.SQL("1"))
    for found, rows in query.tuples():
        counted.setdefault(found, Counter())[name] += rows


def _before_the_colon(value: Any) -> Any:
    """The databases have no one function that cuts a text at a character."""
    if is_sqlite():
        return peewee.fn.SUBSTR(value, 1, peewee.fn.INSTR(value, ":") - 1)
    return peewee.fn.SPLIT_PART(value, ":", 1)
