"""After an older backup was restored: what had been used since the backup was made must not work again (REL-06).

The backup does not know what happened after it. So everything that works once and could have been used is shut, for
all users, and what was open is closed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from storage import audit
from storage.backup import BackupCode
from storage.challenge import Challenge
from storage.database import atomic
from storage.email import EmailFactor
from storage.outbox import OutboxMail
from storage.pages import Page, pages
from storage.totp import TotpSecret
from storage.user import Caller, User
from storage.webauthn import WebAuthnRegistration

BATCH = 200
# Users change their factors less often than this between a backup and its return, so an assertion that was made in
# the meantime names an epoch that does not come.
EPOCHS = 1_000_000
# The user of an event that concerns everyone.
EVERYONE = UUID(int=0)


@dataclass(slots=True)
class Shut:
    """What one batch of users comes to. `share` is how much is done with it, from 0 to 1, of all."""

    share: float
    users: int = 0
    authenticators: int = 0
    closed: int = 0
    backup_codes: int = 0


def shut(operator: Caller, now: datetime, step: int, *, backup_codes: bool) -> Iterator[Shut]:
    """Shut what may have been used, a batch of users in each step. Begun again, it does no harm.

    Args:
        operator: Who does it, as the audit names them.
        now: The time.
        step: The latest TOTP time step of which a code may have been accepted.
        backup_codes: Whether unused backup codes are spent: some may have been used, or replaced by a new set.
    """
    for page in pages(User.id, BATCH):
        with atomic():
            batch = _shut(page, operator, now, step, backup_codes)
        yield batch
    closed = 0
    for page in pages(OutboxMail.id, BATCH):
        with atomic():
            closed += OutboxMail.delete().where(page.holds(OutboxMail.id)).execute()
    with atomic():
        audit.record(operator, "database.restored", now)
    yield Shut(1.0, closed=closed)


def _shut(page: Page, operator: Caller, now: datetime, step: int, backup_codes: bool) -> Shut:
    batch = Shut(page.share)
    batch.users = User.update(epoch=User.epoch + EPOCHS).where(page.holds(User.id)).execute()
    batch.authenticators = (
        TotpSecret.update(last_step=step)
        .where(page.holds(TotpSecret.user), TotpSecret.confirmed_at.is_null(False), TotpSecret.last_step < step)
        .execute()
    )
    for enrolment in (TotpSecret, EmailFactor):
        pending = page.holds(enrolment.user) & enrolment.confirmed_at.is_null()
        batch.closed += enrolment.delete().where(pending).execute()
    for table in (WebAuthnRegistration, Challenge):
        batch.closed += table.delete().where(page.holds(table.user)).execute()
    if backup_codes:
        unused = page.holds(BackupCode.user) & BackupCode.used_at.is_null()
        owners: Any = BackupCode.select(BackupCode.user).where(unused).distinct().tuples()
        spent_by = [user for (user,) in owners]
        batch.backup_codes = BackupCode.update(used_at=now).where(unused).execute()
        for owner in spent_by:
            spent = Caller(owner, "", "", operation=operator.operation, address=operator.address)
            audit.record(spent, "backup_codes.spent", now, reason="restored")
    return batch
