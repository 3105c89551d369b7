"""The model: what each operation does to a user's life.

A `yield` is where others may come in between, and hands out what was seen. There are few of them: what a request looks
at first may be over when it is counted, an attempt is counted before it is judged, a challenge is taken before its
answer is looked at, the list of methods is read in two looks, and two challenges that are opened at the same moment do
not see each other, so that more than five may be open until the next one. All else happens at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

from tests.model import codes, keys, verification
from tests.model.rules import Steps
from tests.model.state import App, Lives, Mailbox, Opened, Request


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
    "totp.enable": codes.totp_enable,
    "totp.confirm": codes.totp_confirm,
    "totp.disable": codes.totp_disable,
    "email.enable": codes.email_enable,
    "email.confirm": codes.email_confirm,
    "email.disable": codes.email_disable,
    "backup.regenerate": codes.regenerate,
    "webauthn.begin": keys.begin,
    "webauthn.complete": keys.complete,
    "webauthn.remove": keys.remove,
    "verification.challenge": verification.challenge,
    "verification.verify": verification.verify,
    "verification.introspect": verification.introspect,
    "methods.list_all": verification.list_all,
    "purge": purge,
}
