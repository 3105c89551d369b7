"""The model of what the factors are for, and of what a user can see of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tests.model.rules import Steps, attempt, live, look_around, oldest, spend, spend_mail, without
from tests.model.state import Answer, Assertion, Lives, Opened, Refused, Request

METHODS = ("webauthn", "totp", "backup_code", "email")
TEN_MINUTES, FIVE_MINUTES = timedelta(minutes=10), timedelta(minutes=5)


def challenge(lives: Lives, request: Request) -> Steps:
    life, now, method = lives[request.who], request.now, request.given.get("method", "")
    seen = yield from look_around(life)
    names = [name for name in seen.methods if name != "email"]
    names += ["backup_code"] if seen.codes else []
    names += ["email"] if seen.mailbox_on else []
    if not seen.methods or method not in ("", *names):
        raise Refused("not_enabled")
    asks_key = bool(seen.keys) and method in ("", "webauthn")
    yield asks_key, tuple(names)
    length = TEN_MINUTES if method == "email" else FIVE_MINUTES
    opened = Opened(
        request.chosen.get("challenge_id", ""),
        now,
        now + length,
        method,
        challenge=request.chosen.get("challenge", "") if asks_key else None,
        code=request.chosen.get("code", "no mail") if method == "email" else None,
    )
    # A new mailed code kills the one before, which then takes no place among the five.
    dropped = tuple(each for each in life.challenges if each.code) if method == "email" else ()
    dropped += oldest((*without(dropped, life.challenges), opened))
    yield asks_key, tuple(names), dropped
    if method == "email":
        spend_mail(life, now)
    life.challenges = without(dropped, (*life.challenges, opened))
    return ("ok", (method,) if method else tuple(names), asks_key)


def verify(lives: Lives, request: Request) -> Steps:
    life, now = lives[request.who], request.now
    wanted = request.given["challenge_id"]
    opened = next((each for each in life.challenges if each.id == wanted and each.expires_at > now), None)
    if opened is None:
        raise Refused("challenge_not_found")

    def verified(method: str) -> Answer:
        assert life.epoch is not None
        life.record(f"{method}.verified")
        until = datetime.fromtimestamp(int(now.timestamp()), UTC) + FIVE_MINUTES
        life.assertions += (Assertion(request.chosen.get("assertion", ""), method, life.epoch, until),)
        return ("ok", method, life.epoch)

    def judge() -> Answer:
        kinds = (opened.method,) if opened.method else ("totp", "backup_code")
        method = spend(life, request, kinds, opened)
        if method != "email":
            if opened not in life.challenges:
                raise Refused("challenge_not_found")
            life.challenges = without((opened,), life.challenges)
        return verified(method)

    if request.response is None:
        yield opened
        return (yield from attempt(life, request, judge))
    life.challenges = without((opened,), life.challenges)
    yield opened
    response = request.response
    genuine = response.genuine and opened.challenge is not None and response.challenge == opened.challenge
    key = next((each for each in life.keys if each.credential_id == response.credential_id), None)
    if not genuine or key is None or key.since > opened.created_at or response.sign_count <= key.sign_count:
        life.record("proof.refused")
        raise Refused("invalid_credential")
    life.failures, life.locked_until = 0, None
    used = replace(key, sign_count=response.sign_count)
    life.keys = tuple(used if each == key else each for each in life.keys)
    return verified("webauthn")


def introspect(lives: Lives, request: Request) -> Steps:
    """Whose assertion it is stands in it."""
    alive = [live(life, request.given["token"], request.now, METHODS) for life in lives]
    return ("ok", any(alive))
    yield


def list_all(lives: Lives, request: Request) -> Steps:
    seen = yield from look_around(lives[request.who])
    codes = None if seen.codes is None else len(seen.codes)
    return ("ok", tuple(sorted(seen.methods)), tuple(key.device_id for key in seen.keys), codes)
