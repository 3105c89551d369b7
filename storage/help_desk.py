"""What the help desk sees of one user, and may do for them. Each change is one transaction, and audited in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from storage import audit, audit_trail
from storage.audit import AuditEvent
from storage.backup import BackupCodeSet
from storage.challenge import Challenge
from storage.database import atomic
from storage.email import EmailFactor
from storage.mail_quota import MailQuota
from storage.methods import Methods
from storage.outbox import Mail, OutboxMail
from storage.totp import TotpSecret
from storage.user import Caller, User
from storage.webauthn import WebAuthnCredential, WebAuthnRegistration

NOTICE_LIFETIME = timedelta(hours=24)
LATEST_EVENTS = 10
OWNED = (TotpSecret, EmailFactor, BackupCodeSet, WebAuthnCredential, WebAuthnRegistration, Challenge)


class UnknownUser(Exception):
    """There is no such user in this tenant: nobody who has ever begun to set up a method."""


@dataclass(frozen=True, slots=True)
class Account:
    """One user as the help desk sees them; nothing in it is a secret.

    `pending` names the methods whose enrolment is open.
    """

    user: User
    pending: list[str]
    open_challenges: int
    latest_events: list[AuditEvent]


def look_up(caller: Caller, now: datetime) -> Account:
    """Raises UnknownUser."""
    user = User.get_or_none(User.id == caller.id)
    if user is None:
        raise UnknownUser
    enrolments = {"totp": TotpSecret, "email": EmailFactor, "webauthn": WebAuthnRegistration}
    return Account(
        user,
        [kind for kind, table in enrolments.items() if _open(table, caller, now)],
        _open(Challenge, caller, now),
        audit_trail.latest(caller.id, LATEST_EVENTS),
    )


def reset(caller: Caller, now: datetime) -> None:
    """Remove every method, code, challenge and pending enrolment; assertions die, and wrong codes are forgotten.

    The WebAuthn user handle stays, so that a key that is registered again takes the place of its old passkey.
    A confirmed mailbox hears of it (NOT-01). Raises UnknownUser.
    """
    with atomic():
        if not User.change_factors(caller):
            raise UnknownUser
        methods = Methods.of(caller)
        for table in OWNED:
            table.delete().where(table.user == caller.id).execute()
        OutboxMail.delete().where(OutboxMail.user_id == caller.id, OutboxMail.template == "code").execute()
        User.clear_attempts(caller)
        removed = {"totp.disabled": methods.totp, "email.disabled": methods.email}
        for kind, method in removed.items():
            if method is not None:
                audit.record(caller, kind, now, device_id=method.device_id)
        for key in methods.credentials:
            audit.record(caller, "webauthn.disabled", now, device_id=key.device_id)
        audit.record(caller, "user.reset", now)
        if methods.email is not None:
            notice = Mail("notice", methods.email.address, {"event": "user.reset", "at": now})
            OutboxMail.put(caller, notice, now, now + NOTICE_LIFETIME)


def unlock(caller: Caller, now: datetime) -> None:
    """Make the budget of wrong codes whole again. Raises UnknownUser."""
    with atomic():
        if User.get_or_none(User.id == caller.id) is None:
            raise UnknownUser
        User.clear_attempts(caller)
        audit.record(caller, "user.unlocked", now)


def delete(caller: Caller, now: datetime) -> None:
    """Forget the user (PRV-04). Raises UnknownUser.

    What stays is the audit trail, which names them by an id that tells nothing of who they were, until retention ends;
    and for a day when their mailbox was last sent codes, under a digest of the address.
    """
    with atomic():
        if User.delete().where(User.id == caller.id).execute() != 1:
            raise UnknownUser
        OutboxMail.delete().where(OutboxMail.user_id == caller.id).execute()
        MailQuota.delete().where(MailQuota.key == caller.id).execute()
        audit.record(caller, "user.deleted", now)


def _open(table: Any, caller: Caller, now: datetime) -> int:
    return int(table.select().where(table.user == caller.id, table.expires_at > now).count())
