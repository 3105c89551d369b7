"""What is seen of a user: in the database's tables, in the mail and in the audit trail; and the same of the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from storage import sealing
from storage.audit import AuditEvent
from storage.backup import BackupCode, BackupCodeSet
from storage.challenge import Challenge
from storage.email import EmailFactor
from storage.mail_quota import MailQuota
from storage.outbox import OutboxMail
from storage.statement import Query
from storage.totp import TotpSecret
from storage.user import Caller, User
from storage.webauthn import WebAuthnCredential, WebAuthnRegistration
from tests.authenticator import base64url
from tests.model.state import Life
from tests.states import NOW


def _of(model: Any, field: Any, order: Any = None) -> Query[Any]:
    return Query(lambda user: model.select().where(field == user).order_by(*[order or field]), model)


USER = _of(User, User.id)
APP = _of(TotpSecret, TotpSecret.user)
MAILBOX = _of(EmailFactor, EmailFactor.user)
CODE_SET = _of(BackupCodeSet, BackupCodeSet.user)
CODES = _of(BackupCode, BackupCode.user)
QUOTA = _of(MailQuota, MailQuota.key)
KEYS = _of(WebAuthnCredential, WebAuthnCredential.user)
REGISTRATIONS = _of(WebAuthnRegistration, WebAuthnRegistration.user)
CHALLENGES = _of(Challenge, Challenge.user)
MAIL = _of(OutboxMail, OutboxMail.user_id, OutboxMail.created_at)
EVENTS = Query(
    lambda user, since: AuditEvent.select().where(AuditEvent.user_id == user, AuditEvent.at > since), AuditEvent
)


@dataclass
class Watched:
    """A user's rows, mail and audit trail; the mail is taken as it is seen.

    Args:
        stranger: Another user, under whom nothing of this one's may open.
    """

    caller: Caller
    stranger: Caller
    first_epoch: int | None = None
    last_event: datetime = NOW

    def mail(self) -> tuple[list[str], list[str]]:
        """Codes and events of the mail that has come since."""
        mails = MAIL.all(user=self.caller.id)
        opened = [mail.open() for mail in mails]
        for mail in mails:
            self._is_sealed(mail.sealed, "outbox_mail", mail.id)
            mail.remove()
        codes = [str(mail.values["code"]) for mail in opened if mail.template == "code"]
        return codes, sorted(str(mail.values["event"]) for mail in opened if mail.template == "notice")

    def events(self) -> list[str]:
        """Types of the audit events since."""
        rows = EVENTS.all(user=self.caller.id, since=self.last_event)
        self.last_event = max([self.last_event, *(row.at for row in rows)])
        return sorted(row.type for row in rows)

    def rows(self) -> dict[str, Any]:
        """What the tables hold, in the words of `of_model`."""
        of = self.caller.id
        user, app, mailbox, codes, quota = (table.first(user=of) for table in (USER, APP, MAILBOX, CODE_SET, QUOTA))
        if user is not None and self.first_epoch is None:
            self.first_epoch = user.epoch
        if app is not None:
            self._is_sealed(app.sealed, "totp_secret", app.device_id)
        keys, registrations, challenges = KEYS.all(user=of), REGISTRATIONS.all(user=of), CHALLENGES.all(user=of)
        unused = [code for code in CODES.all(user=of) if code.used_at is None]
        return {
            "epoch": None if user is None else user.epoch - (self.first_epoch or 0),
            "failures": user.failures if user else 0,
            "locked_until": user.locked_until if user else None,
            "app": app and (app.secret(), app.expires_at, app.last_step),
            "mailbox": mailbox and (mailbox.created_at, mailbox.expires_at, mailbox.confirmed_at),
            "codes": None if codes is None else len(unused),
            "keys": sorted((str(key.device_id), base64url(bytes(key.credential_id)), key.sign_count) for key in keys),
            "registrations": sorted(str(each.challenge_id) for each in registrations),
            "challenges": sorted((str(each.challenge_id), each.method, each.expires_at) for each in challenges),
            "mailed_at": [datetime.fromisoformat(at) for at in json.loads(quota.sent_at)] if quota else [],
        }

    def _is_sealed(self, sealed: str, table: str, row: Any) -> None:
        with pytest.raises(sealing.Unsealable):
            sealing.unseal(sealed, table=table, user=self.stranger.id, row=row)


def of_model(life: Life) -> dict[str, Any]:
    """What the database must hold of such a life."""
    app, mailbox = life.app, life.mailbox
    return {
        "epoch": life.epoch,
        "failures": life.failures,
        "locked_until": life.locked_until,
        "app": app and (app.secret, app.expires_at, app.last_step),
        "mailbox": mailbox and (mailbox.created_at, mailbox.expires_at, mailbox.since),
        "codes": None if life.codes is None else len(life.codes),
        "keys": sorted((key.device_id, key.credential_id, key.sign_count) for key in life.keys),
        "registrations": sorted(each.id for each in life.registrations),
        "challenges": sorted((each.id, each.method, each.expires_at) for each in life.challenges),
        "mailed_at": list(life.mailed_at),
    }
