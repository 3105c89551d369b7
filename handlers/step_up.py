"""Which changes need a fresh proof, and what a live assertion is worth (RFC 9470)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from factors import assertion
from factors.assertion import ACR, SigningKey
from factors.errors import InvalidCode, Refusal, StepUpRequired
from handlers import notice
from handlers.settings import Settings
from storage import audit
from storage.database import atomic
from storage.methods import Methods
from storage.user import Caller, User

MAX_AGE = int(assertion.LIFETIME.total_seconds())
BY_ACR = {acr: method for method, acr in ACR.items()}
Changed = Literal["totp", "email", "webauthn"]


@dataclass(frozen=True, slots=True)
class Permit:
    """What a change stands on: an assertion and the epoch in it; a login and the epoch without a method; or nothing,
    where the policy asks for nothing.
    """

    method: str | None = None
    epoch: int | None = None
    refusal: Refusal | None = None

    def change_factors(self, caller: Caller, now: datetime) -> None:
        """Begin the change, within its transaction. Raises `refusal` when factors have changed since that epoch.

        A backup code is there for recovery, and its owner hears of it.
        """
        # Whoever had no row, and no epoch with it, must still have none: then there is nothing of theirs to change.
        as_it_was = User.change_factors(caller, self.epoch) == (self.epoch is not None)
        if self.refusal is not None and not as_it_was:
            raise self.refusal
        if self.method == "backup_code":
            notice.send(caller, "backup_code.recovery", now)


def live(
    caller: Caller, token: str, now: datetime, settings: Settings, signing_keys: Sequence[SigningKey]
) -> dict[str, Any]:
    """The claims of an assertion of the caller's that still lives. Raises InvalidCode."""
    claims = assertion.read(
        token,
        signing_keys,
        expected_issuer=settings.public_url,
        expected_audience=settings.jwt_audience,
        now=now,
    )
    if (claims["sub"], claims.get(settings.jwt_tenant_claim, "")) != (caller.sub, caller.tenant):
        raise InvalidCode(reason="another user's assertion")
    if claims["epoch"] != User.epoch_of(caller):
        raise InvalidCode(reason="factors changed")
    return claims


def accepted_for(changed: Changed, methods: Methods) -> list[str]:
    """The methods whose assertion may change this one, strongest first: e-mail touches nothing stronger (AUZ-04)."""
    strong = methods.totp is not None or bool(methods.credentials)
    weak_is_enough = changed == "email" or not strong
    return ["webauthn", "totp", "backup_code", *(["email"] if weak_is_enough else [])]


def require(
    caller: Caller,
    token: str | None,
    changed: Changed,
    now: datetime,
    settings: Settings,
    signing_keys: Sequence[SigningKey],
) -> Permit:
    """Ask for what the policy asks before a method is added or removed.

    With a method on, that is a live assertion; for the first one, a login that is fresh (AUZ-02, AUZ-03).
    Raises StepUpRequired.
    """
    if settings.step_up == "off":
        return Permit()
    # Before the methods: whatever changes them from here on makes the epoch another.
    epoch = User.epoch_of(caller)
    methods = Methods.of(caller)
    if not methods.enabled:
        oldest = now - timedelta(seconds=settings.enrol_max_age)
        if caller.auth_time is None or caller.auth_time < oldest:
            raise StepUpRequired(max_age=settings.enrol_max_age, reason="login is not fresh")
        return Permit(None, epoch, StepUpRequired(max_age=MAX_AGE, reason="no longer the first method"))
    accepted = accepted_for(changed, methods)
    required = StepUpRequired(acr_values=tuple(ACR[method] for method in accepted), max_age=MAX_AGE)
    if token is None:
        raise required
    try:
        claims = live(caller, token, now, settings, signing_keys)
        method = BY_ACR[claims["acr"]]
        if method not in accepted:
            raise InvalidCode(reason="too weak")
    except InvalidCode as refusal:
        with atomic(however_late=True):
            audit.record(caller, "step_up.refused", now, reason=refusal.reason)
        raise required from refusal
    return Permit(method, claims["epoch"], required)
