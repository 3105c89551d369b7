"""What the user has, and the beginning of something new."""

from __future__ import annotations

import time

from tests.contract.situations.situation import Caller, Case, proven, situation, unproven, user
from tests.contract.world import World

HOUR = 3600


@situation(200, "handlers.methods.list_all")
def somebody_with_a_method(_case: Case, world: World) -> Caller:
    return user(world.keyholder())


@situation(200, "handlers.methods.list_all")
def somebody_with_everything(_case: Case, world: World) -> Caller:
    return user(world.owner_of_everything)


@situation(200, "handlers.methods.list_all")
def somebody_with_nothing(_case: Case, world: World) -> Caller:
    return user(world.passer_by())


# Setting up.


@situation(200, "handlers.totp.enable", "handlers.webauthn.begin")
def a_first_method(_case: Case, world: World) -> Caller:
    return user(world.newcomer())


@situation(200, "handlers.totp.enable", "handlers.webauthn.begin")
def one_more_method_with_an_assertion(case: Case, world: World) -> Caller:
    return proven(case, world.keyholder_with_room().without_app())


@situation(401, "handlers.totp.enable", "handlers.email.enable", "handlers.webauthn.begin")
def one_more_method_without_an_assertion(case: Case, world: World) -> Caller:
    return unproven(case, world.keyholder())


@situation(401, "handlers.totp.enable", "handlers.email.enable", "handlers.webauthn.begin")
def a_first_method_long_after_the_login(_case: Case, world: World) -> Caller:
    return user(world.passer_by(), auth_time=int(time.time()) - HOUR)


@situation(409, "handlers.totp.enable")
def an_app_is_on(case: Case, world: World) -> Caller:
    return proven(case, world.keyholder().with_app())


@situation(409, "handlers.webauthn.begin")
def as_many_keys_as_one_may_have(case: Case, world: World) -> Caller:
    return proven(case, world.collector)


@situation(200, "handlers.email.enable")
def an_address_in_the_token(_case: Case, world: World) -> Caller:
    return user(world.newcomer(with_email=True))


@situation(409, "handlers.email.enable")
def no_address_in_the_token(_case: Case, world: World) -> Caller:
    return user(world.passer_by())


@situation(409, "handlers.email.enable")
def a_mailbox_is_on(case: Case, world: World) -> Caller:
    return proven(case, world.owner_of_everything)


@situation(429, "handlers.email.enable")
def a_mail_was_sent_just_now(_case: Case, world: World) -> Caller:
    person = world.passer_by(with_email=True)
    person.do("handlers.email.enable")
    return user(person)
