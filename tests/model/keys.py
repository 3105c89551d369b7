"""The model of security keys."""

from __future__ import annotations

from datetime import timedelta

from tests.model.rules import Steps, change, first_codes, forget_the_rest, oldest, permit, without
from tests.model.state import Key, Lives, Opened, Refused, Request

FIVE_MINUTES = timedelta(minutes=5)


def begin(lives: Lives, request: Request) -> Steps:
    life, now, chosen = lives[request.who], request.now, request.chosen
    yield (yield from permit(life, request, "webauthn"))
    life.epoch = life.epoch or 0
    opened = Opened(
        chosen.get("challenge_id", ""),
        now,
        now + FIVE_MINUTES,
        device_id=chosen.get("device_id", ""),
        challenge=chosen.get("challenge"),
    )
    dropped = oldest((*life.registrations, opened))
    yield dropped
    life.registrations = without(dropped, (*life.registrations, opened))
    return ("ok",)


def complete(lives: Lives, request: Request) -> Steps:
    life, response = lives[request.who], request.response
    stands_on = yield from permit(life, request, "webauthn")
    yield stands_on
    ids = (request.given["challenge_id"], request.given["device_id"])
    opened = next((each for each in life.registrations if (each.id, each.device_id) == ids), None)
    if opened is None or opened.expires_at <= request.now:
        raise Refused("challenge_not_found")
    life.registrations = without((opened,), life.registrations)
    yield stands_on, opened
    assert response is not None
    try:
        with life.transaction():
            if not response.genuine or response.challenge != opened.challenge:
                raise Refused("invalid_credential")
            change(life, stands_on)
            for owner in lives:
                if response.credential_id in [key.credential_id for key in owner.keys]:
                    raise Refused("credential_exists" if owner is life else "invalid_credential")
            key = Key(opened.device_id, response.credential_id, response.sign_count, request.now)
            life.keys = (*life.keys, key)
            life.record("webauthn.enabled")
            life.notify("webauthn.enabled")
            return ("ok", first_codes(life, request))
    except Refused as refused:
        if refused.code == "invalid_credential":
            life.record("proof.refused")
        raise


def remove(lives: Lives, request: Request) -> Steps:
    life, device_id = lives[request.who], request.given["device_id"]
    stands_on = yield from permit(life, request, "webauthn")
    yield stands_on
    with life.transaction():
        change(life, stands_on)
        if device_id not in [key.device_id for key in life.keys]:
            raise Refused("device_not_found")
        life.keys = tuple(key for key in life.keys if key.device_id != device_id)
        life.record("webauthn.disabled")
        life.notify("webauthn.disabled")
        return ("ok", forget_the_rest(life))
