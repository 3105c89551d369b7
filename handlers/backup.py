"""Backup codes: made with the first method, and anew on request."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from factors import backup
from factors.assertion import SigningKey
from factors.errors import NotEnabled, TotpRequired
from handlers import notice, proof, step_up
from handlers.hashing import digests, may_hash
from handlers.settings import Settings
from storage import audit
from storage.backup import BackupCodeSet
from storage.challenge import Challenge
from storage.methods import Methods
from storage.user import Caller


@may_hash
def regenerate(
    caller: Caller, body: dict[str, Any], now: datetime, settings: Settings, signing_keys: Sequence[SigningKey]
) -> dict[str, Any]:
    """Make a new set of codes once an authenticator's code is shown, or, without one, a mailed code; the old is dead.

    Never for a backup code, nor for an assertion by one: one that leaked would make ten. Nor, where changes take a
    proof, for a mailed code beside a key, which the new codes could remove (AUZ-04).
    """
    methods = Methods.of(caller)
    if not methods.enabled:
        raise NotEnabled
    code = body["code"]
    kinds = ("totp",) if methods.totp else ("email",)
    too_weak = bool(methods.credentials) and settings.step_up == "required"
    mail_will_do = methods.email is not None and not too_weak and Challenge.mailed(caller, now) is not None
    if not methods.totp and not proof.is_assertion(code) and not mail_will_do:
        raise TotpRequired
    assertions_by = set(step_up.accepted_for("totp", methods)) - {"backup_code"}
    with proof.shown(caller, code, kinds, assertions_by, now, settings, signing_keys, NewSet.make) as new:
        new.keep(caller, now)
        audit.record(caller, "backup_codes.regenerated", now)
        notice.send(caller, "backup_codes.regenerated", now)
    return {"backup_codes": new.codes, "generated_at": now}


@dataclass(frozen=True, slots=True)
class NewSet:
    """Codes that nobody knows yet, with the digests that will be kept of them.

    Making one takes ten slow hashes, so it is done before a transaction and kept within it.
    """

    codes: list[str]
    salt: bytes
    digests: list[bytes]

    @classmethod
    def make(cls) -> NewSet:
        salt = secrets.token_bytes(backup.SALT_BYTES)
        codes = backup.codes_of(secrets.token_bytes(backup.COUNT * backup.CODE_BYTES))
        return cls(codes, salt, digests(codes, salt))

    @classmethod
    def for_first_method(cls, caller: Caller) -> NewSet | None:
        """A set if the user has none yet, since every user with a method has one."""
        return None if BackupCodeSet.of(caller) else cls.make()

    def keep(self, caller: Caller, now: datetime) -> None:
        BackupCodeSet.replace_all(caller, self.salt, self.digests, now)


def keep_first(caller: Caller, new: NewSet | None, now: datetime) -> dict[str, Any]:
    """Keep the set that was made for a first method, and show it; nothing when the user has one."""
    if BackupCodeSet.of(caller):
        return {}
    # One that was there a moment ago went with the last method: too rare to begin anew, so this transaction hashes.
    new = new or NewSet.make()
    new.keep(caller, now)
    return {"backup_codes": new.codes}
