"""The model of what turns on and off with codes: the authenticator app, the mailbox; and of new backup codes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tests.model.rules import (
    Steps,
    accepted_for,
    attempt,
    change,
    first_codes,
    forget_the_rest,
    look_around,
    mailed,
    new_step,
    permit,
    shown,
    spend_mail,
)
from tests.model.state import Answer, App, Lives, Mailbox, Refused, Request

TEN_MINUTES = timedelta(minutes=10)


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
