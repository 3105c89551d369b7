"""What the factors are for: a challenge, its answer, and an assertion that says how it was answered."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from factors import assertion, email
from factors.assertion import SigningKey
from factors.errors import ChallengeNotFound, InvalidCode, InvalidCredential, NotEnabled
from factors.webauthn_assertion import verify_assertion
from factors.webauthn_options import request_options
from factors.webauthn_response import credential_id_of
from handlers import proof
from handlers.email import mail, new_code
from handlers.settings import Settings
from handlers.webauthn import CHALLENGE_BYTES
from storage import audit
from storage.challenge import Challenge
from storage.database import atomic
from storage.methods import Methods
from storage.user import Caller, User
from storage.webauthn import WebAuthnCredential

ANY = ""


def challenge(caller: Caller, body: dict[str, Any], now: datetime, settings: Settings) -> dict[str, Any]:
    """Ask the user for one method, or for any they have. Only `email` mails a code, and only when asked for by name."""
    methods = Methods.of(caller)
    names = methods.names()
    method = body.get("method", ANY)
    if not methods.enabled or method not in (ANY, *names):
        raise NotEnabled
    offers_key = bool(methods.credentials) and method in (ANY, "webauthn")
    key_challenge = secrets.token_bytes(CHALLENGE_BYTES) if offers_key else None
    code = new_code() if method == "email" else None
    with atomic():
        opened = Challenge.open(
            caller,
            now,
            method=method,
            user_verification=settings.user_verification,
            webauthn_challenge=key_challenge,
            code=code,
        )
        if methods.email and code:
            mail(caller, methods.email.address, code, now, opened.expires_at)
    answer: dict[str, Any] = {
        "challenge_id": opened.challenge_id,
        "methods": [method] if method else names,
        "expires_at": opened.expires_at,
    }
    if key_challenge:
        answer["options"] = request_options(
            challenge=key_challenge,
            rp_id=settings.rp_id,
            allow_credentials=[(bytes(key.credential_id), key.transports.split()) for key in methods.credentials],
            user_verification=settings.user_verification,
        )
    if methods.email and code:
        answer["email"] = email.masked(methods.email.address)
    return answer


def verify(
    caller: Caller, body: dict[str, Any], now: datetime, settings: Settings, signing_keys: Sequence[SigningKey]
) -> dict[str, Any]:
    """Judge the answer to a challenge; a right one is worth an assertion. The challenge is satisfied once."""
    opened = Challenge.find(caller, UUID(body["challenge_id"]), now)
    if "credential" in body:
        method, shown, epoch = _by_credential(caller, opened, body["credential"], now, settings)
    else:
        method, shown, epoch = _by_code(caller, opened, body["code"], now, settings)
    amr = assertion.amr_of(method, shown, caller.amr, assume_first_factor=settings.assume_first_factor)
    claims = {
        "iss": settings.public_url,
        "aud": settings.jwt_audience,
        "sub": caller.sub,
        "amr": amr,
        "acr": assertion.ACR[method],
        "epoch": epoch,
    }
    if caller.tenant:
        claims[settings.jwt_tenant_claim] = caller.tenant
    return {
        "verified": True,
        "method": method,
        "amr": amr,
        "acr": claims["acr"],
        "assertion": assertion.sign(signing_keys[0], claims, jti=uuid.uuid4().hex, now=now),
        "expires_at": now.replace(microsecond=0) + assertion.LIFETIME,
    }


def _by_code(
    caller: Caller, opened: Challenge, code: str, now: datetime, settings: Settings
) -> tuple[str, Sequence[str], int]:
    kinds = ("totp", "backup_code") if opened.method == ANY else (opened.method,)
    with proof.attempt(caller, now) as accepted:
        method, spend = proof.look(caller, code, kinds, now, settings, opened)
        with accepted() as epoch:
            spend()
            # The mailed code of a challenge is spent by taking the challenge.
            if method != "email" and not opened.take():
                raise ChallengeNotFound
            audit.record(caller, f"{method}.verified", now)
    return method, assertion.AMR[method], epoch


def _by_credential(
    caller: Caller, opened: Challenge, credential: dict[str, Any], now: datetime, settings: Settings
) -> tuple[str, Sequence[str], int]:
    """Used up first: a refused answer needs a new challenge. It costs no attempt, since it cannot be guessed."""
    with atomic():
        if not opened.take():
            raise ChallengeNotFound
    device_id = None
    try:
        if opened.webauthn_challenge is None:
            raise InvalidCredential(reason="not asked for")
        key = WebAuthnCredential.allowed(caller, credential_id_of(credential), opened.created_at)
        device_id = key.device_id
        verified = verify_assertion(
            credential,
            expected_challenge=bytes(opened.webauthn_challenge),
            expected_rp_id=settings.rp_id,
            expected_origins=settings.origins,
            require_user_verification=opened.user_verification == "required",
            expected_user_handle=User.handle_of(caller),
            credential_id=bytes(key.credential_id),
            public_key=bytes(key.public_key),
            sign_count=key.sign_count,
            backup_eligible=key.backup_eligible,
        )
        with atomic():
            epoch = User.clear_attempts(caller)
            key.use(verified.sign_count, backed_up=verified.backed_up, user_verified=verified.user_verified, now=now)
            audit.record(caller, "webauthn.verified", now, device_id=device_id)
    except InvalidCredential as refusal:
        with atomic(however_late=True):
            audit.record(caller, "proof.refused", now, device_id=device_id, reason=refusal.reason)
        raise
    return "webauthn", assertion.webauthn_amr(backup_eligible=key.backup_eligible), epoch


def introspect(
    caller: Caller, body: dict[str, Any], now: datetime, settings: Settings, signing_keys: Sequence[SigningKey]
) -> dict[str, Any]:
    """Whether an assertion still lives, to a resource server of the same tenant (RFC 7662)."""
    try:
        claims = assertion.read(
            body["token"],
            signing_keys,
            expected_issuer=settings.public_url,
            expected_audience=settings.jwt_audience,
            now=now,
        )
    except InvalidCode:
        return {"active": False}
    subject = caller.on_behalf_of(claims["sub"])
    same_tenant = claims.get(settings.jwt_tenant_claim, "") == caller.tenant
    if not same_tenant or claims.pop("epoch") != User.epoch_of(subject):
        return {"active": False}
    return {"active": True, **claims}


def jwks(signing_keys: Sequence[SigningKey]) -> dict[str, Any]:
    """The public keys that verify assertions, the one that signs first (RFC 7517)."""
    return {"keys": [key.public_jwk() for key in signing_keys]}
