"""The model: what each operation does to a user's life.

A `yield` is where others may come in between, and hands out what was seen. There are few of them: what
a request looks at first may be over when it is counted, an attempt is counted before it is judged, a challenge is taken
before its answer is looked at, and two that are opened at the same moment do not see each other: then more than five
may be open until the next one. All else happens at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tests.model.rules import (
    Steps,
    accepted_for,
    attempt,
    change,
    first_codes,
    forget_the_rest,
    live,
    look_around,
    mailed,
    new_step,
    oldest,
    permit,
    shown,
    spend,
    spend_mail,
    without,
)
from tests.model.state import Answer, App, Assertion, Key, Life, Mailbox, Opened, Refused, Request

TEN_MINUTES, FIVE_MINUTES = timedelta(minutes=10), timedelta(minutes=5)
METHODS = ("webauthn", "totp", "backup_code", "email")
Lives = list[Life]


def totp_enable(lives: Lives, request: Request) -> Steps:
    life = lives[request.who]
    yield (yield from permit(life, request, "totp"))
    if life.app_on:
        raise Refused("already_enabled")
    life.epoch = life.epoch or 0
    life.app = App(request.chosen.get("secret", b""), request.now + TEN_MINUTES)
    life.record("totp.begun")
    return ("ok",)


def totp_confirm(lives: Lives, request: Request) -> Steps:
    life = lives[request.who]
    stands_on = yield from permit(life, request, "totp")
    yield stands_on
    pending = life.app
    if life.app_on:
        raise Refused("already_enabled")
    if pending is None or pending.expires_at is None or pending.expires_at <= request.now:
        raise Refused("no_pending_enrolment")
    yield stands_on, pending

    def judge() -> Answer:
        step = new_step(pending, request.given["code"], request.now)
        change(life, stands_on)
        if life.app != pending:
            raise Refused("invalid_code")
        life.app = replace(pending, expires_at=None, last_step=step)
        life.record("totp.enabled")
        life.notify("totp.enabled")
        return ("ok", first_codes(life, request))

    return (yield from attempt(life, request, judge))


def totp_disable(lives: Lives, request: Request) -> Steps:
    life = lives[request.who]
    device = life.app
    if device is None or not life.app_on:
        raise Refused("not_enabled")
    accepted = accepted_for((yield from look_around(life)), "totp")
    yield device, accepted

    def remove() -> Answer:
        if life.app is None or life.app.secret != device.secret:
            raise Refused("not_enabled")
        life.app = None
        life.record("totp.disabled")
        life.notify("totp.disabled")
        return ("ok", forget_the_rest(life))

    return (yield from shown(life, request, ("totp", "backup_code"), accepted, remove))


def email_enable(lives: Lives, request: Request) -> Steps:
    life = lives[request.who]
    yield (yield from permit(life, request, "email"))
    if life.mailbox_on:
        raise Refused("already_enabled")
    spend_mail(life, request.now)
    life.epoch = life.epoch or 0
    life.mailbox = Mailbox(request.chosen.get("code", ""), request.now, request.now + TEN_MINUTES)
    life.record("email.begun")
    return ("ok",)


def email_confirm(lives: Lives, request: Request) -> Steps:
    life = lives[request.who]
    stands_on = yield from permit(life, request, "email")
    yield stands_on
    pending = life.mailbox
    if life.mailbox_on:
        raise Refused("already_enabled")
    if pending is None or pending.expires_at is None or pending.expires_at <= request.now:
        raise Refused("no_pending_enrolment")
    yield stands_on, pending

    def judge() -> Answer:
        if request.given["code"] != pending.code:
            raise Refused("invalid_code")
        change(life, stands_on)
        if life.mailbox != pending:
            raise Refused("invalid_code")
        life.mailbox = replace(pending, code="", expires_at=None, since=request.now)
        life.record("email.enabled")
        life.notify("email.enabled")
        return ("ok", first_codes(life, request))

    return (yield from attempt(life, request, judge))


def email_disable(lives: Lives, request: Request) -> Steps:
    life = lives[request.who]
    mailbox = life.mailbox
    if mailbox is None or not life.mailbox_on:
        raise Refused("not_enabled")
    seen = yield from look_around(life)
    kinds, accepted = ("totp",) if seen.app_on else ("backup_code", "email"), accepted_for(seen, "email")
    yield mailbox, accepted, kinds

    def remove() -> Answer:
        if life.mailbox != mailbox:
            raise Refused("not_enabled")
        life.mailbox = None
        life.record("email.disabled")
        life.notify("email.disabled")
        return ("ok", forget_the_rest(life))

    return (yield from shown(life, request, kinds, accepted, remove))


def regenerate(lives: Lives, request: Request) -> Steps:
    life = lives[request.who]
    seen = yield from look_around(life)
    if not seen.methods:
        raise Refused("not_enabled")
    too_weak = bool(seen.keys) and request.step_up == "required"
    mail_will_do = seen.mailbox_on and not too_weak and mailed(life, request.now) is not None
    if not (seen.app_on or mail_will_do or "." in request.given["code"]):
        raise Refused("totp_required")
    kinds = ("totp",) if seen.app_on else ("email",)
    accepted = accepted_for(seen, "totp") - {"backup_code"}
    yield kinds, accepted

    def make() -> Answer:
        life.codes = frozenset(request.chosen.get("backup_codes", ()))
        life.record("backup_codes.regenerated")
        life.notify("backup_codes.regenerated")
        return ("ok",)

    return (yield from shown(life, request, kinds, accepted, make))


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
    dropped = oldest((*life.challenges, opened))
    yield asks_key, tuple(names), dropped
    if method == "email":
        spend_mail(life, now)
        dropped += tuple(each for each in life.challenges if each.code)
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


def purge(lives: Lives, request: Request) -> Steps:
    """What has expired goes; no answer depends on it."""
    for life in lives:
        life.app = life.app if life.app_on or not expired(life.app, request) else None
        life.mailbox = life.mailbox if life.mailbox_on or not expired(life.mailbox, request) else None
        life.registrations = tuple(each for each in life.registrations if not expired(each, request))
        life.challenges = tuple(each for each in life.challenges if not expired(each, request))
        if life.mailed_at and life.mailed_at[-1] <= request.now - timedelta(days=1):
            life.mailed_at = ()
    return ("ok",)
    yield


def expired(it: App | Mailbox | Opened | None, request: Request) -> bool:
    return it is not None and it.expires_at is not None and it.expires_at <= request.now


OPERATIONS: Mapping[str, Callable[[Lives, Request], Steps]] = {
    "totp.enable": totp_enable,
    "totp.confirm": totp_confirm,
    "totp.disable": totp_disable,
    "email.enable": email_enable,
    "email.confirm": email_confirm,
    "email.disable": email_disable,
    "backup.regenerate": regenerate,
    "webauthn.begin": begin,
    "webauthn.complete": complete,
    "webauthn.remove": remove,
    "verification.challenge": challenge,
    "verification.verify": verify,
    "verification.introspect": introspect,
    "methods.list_all": list_all,
    "purge": purge,
}
