"""The removal of what is on, and new backup codes."""

from __future__ import annotations

import uuid

from tests.contract.situations.situation import Caller, Case, can_show_a_code, proven, situation, unproven, user
from tests.contract.world import World


@situation(200, "handlers.totp.disable")
def a_code_of_the_app(case: Case, world: World) -> Caller:
    person = world.keyholder(can_show_a_code).with_app()
    case.body = {"code": person.code()}
    return user(person)


@situation(200, "handlers.totp.disable")
def a_backup_code(case: Case, world: World) -> Caller:
    person = world.keyholder(lambda person: bool(person.backup_codes)).with_app()
    case.body = {"code": person.backup_code().lower().replace("-", " ")}
    return user(person)


@situation(200, "handlers.totp.disable")
def an_assertion_in_place_of_a_code(case: Case, world: World) -> Caller:
    person = world.keyholder().with_app()
    case.body = {"code": person.prove()}
    return user(person)


@situation(200, "handlers.email.disable")
def a_backup_code_without_an_app(case: Case, world: World) -> Caller:
    person = world.mailbox_owner()
    case.body = {"code": person.backup_code()}
    return user(person)


@situation(200, "handlers.email.disable")
def an_assertion_by_a_backup_code(case: Case, world: World) -> Caller:
    person = world.mailbox_owner()
    case.body = {"code": person.prove()}
    return user(person)


@situation(403, "handlers.totp.disable", "handlers.backup.regenerate")
def a_wrong_code(_case: Case, world: World) -> Caller:
    person = world.keyholder().with_app()
    person.prove()
    return user(person)


@situation(403, "handlers.email.disable")
def a_wrong_code_for_the_mailbox(_case: Case, world: World) -> Caller:
    world.owner_of_everything.prove()
    return user(world.owner_of_everything)


@situation(409, "handlers.totp.disable", "handlers.email.disable", "handlers.backup.regenerate")
def nothing_is_on(_case: Case, world: World) -> Caller:
    return user(world.passer_by())


@situation(429, "handlers.totp.disable", "handlers.email.disable", "handlers.backup.regenerate")
def a_code_after_five_wrong_ones(case: Case, world: World) -> Caller:
    person = world.owner_of_everything
    person.prove()
    person.lock()
    case.body = {"code": "000000"}
    return user(person)


@situation(200, "handlers.webauthn.remove")
def a_key_with_an_assertion(case: Case, world: World) -> Caller:
    named = case.path_parameters["device_id"]
    person = world.someone(lambda person: named in person.keys) or world.keyholder().with_key()
    case.path_parameters = {"device_id": named if named in person.keys else next(reversed(person.keys))}
    return proven(case, person)


@situation(401, "handlers.webauthn.remove")
def a_key_without_an_assertion(case: Case, world: World) -> Caller:
    person = world.keyholder()
    case.path_parameters = {"device_id": next(iter(person.keys))}
    return unproven(case, person)


@situation(404, "handlers.webauthn.remove")
def no_such_key(case: Case, world: World) -> Caller:
    person = world.keyholder()
    # Schemathesis also tries ids that it has seen, and this may be one of theirs.
    if case.path_parameters["device_id"] in person.keys:
        case.path_parameters = {"device_id": str(uuid.uuid4())}
    return proven(case, person)


@situation(404, "handlers.webauthn.remove")
def the_key_of_somebody_else(case: Case, world: World) -> Caller:
    case.path_parameters = {"device_id": next(iter(world.keyholder().keys))}
    return user(world.passer_by())


# Backup codes.


@situation(200, "handlers.backup.regenerate")
def an_assertion_by_a_key(case: Case, world: World) -> Caller:
    person = world.keyholder()
    case.body = {"code": person.prove()}
    return user(person)


@situation(200, "handlers.backup.regenerate")
def a_code_of_the_app_for_new_ones(case: Case, world: World) -> Caller:
    return a_code_of_the_app(case, world)


@situation(409, "handlers.backup.regenerate")
def a_code_where_no_app_is_on(case: Case, world: World) -> Caller:
    case.body = {"code": "000000"}
    return user(world.keyholder().without_app())
