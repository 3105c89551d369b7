"""The confirmation of something that was begun."""

from __future__ import annotations

from tests.contract.document import Json
from tests.contract.people import WRONG_CODES_UNTIL_LOCKED, Person
from tests.contract.situations.situation import Caller, Case, is_named, proven, situation, unproven, user
from tests.contract.world import World


@situation(200, "handlers.totp.confirm")
def the_code_of_the_secret(case: Case, world: World) -> Caller:
    person = world.someone(lambda person: person.pending_secret is not None)
    person = person or world.keyholder().without_app()
    if person.pending_secret is None:
        person.do("handlers.totp.enable")
    caller = proven(case, person)
    case.body = {"code": person.code()}
    return caller


@situation(403, "handlers.totp.confirm")
def a_code_of_no_secret(_case: Case, world: World) -> Caller:
    person = world.passer_by()
    person.do("handlers.totp.enable")
    return user(person)


@situation(200, "handlers.email.confirm")
def the_code_that_was_mailed(case: Case, world: World) -> Caller:
    person = world.someone(lambda person: person.mail_pending and not person.has_method)
    if person is None:
        person = world.newcomer(with_email=True)
        person.do("handlers.email.enable")
    case.body = {"code": person.mailed_code()}
    return user(person)


@situation(403, "handlers.email.confirm")
def a_code_that_was_not_mailed(_case: Case, world: World) -> Caller:
    person = world.passer_by(with_email=True)
    person.do("handlers.email.enable")
    return user(person)


@situation(409, "handlers.totp.confirm", "handlers.email.confirm")
def nothing_to_confirm(_case: Case, world: World) -> Caller:
    return user(world.passer_by())


@situation(401, "handlers.totp.confirm", "handlers.email.confirm")
def a_confirmation_without_an_assertion(case: Case, world: World) -> Caller:
    return unproven(case, world.keyholder())


@situation(429, "handlers.totp.confirm")
def a_secret_after_five_wrong_codes(_case: Case, world: World) -> Caller:
    person = world.passer_by()
    person.do("handlers.totp.enable")
    return _locked_while_enrolling(person, "handlers.totp.confirm")


@situation(429, "handlers.email.confirm")
def a_mailed_code_after_five_wrong_ones(_case: Case, world: World) -> Caller:
    person = world.passer_by(with_email=True)
    person.do("handlers.email.enable")
    return _locked_while_enrolling(person, "handlers.email.confirm")


def _locked_while_enrolling(person: Person, operation_id: str) -> Caller:
    for _ in range(WRONG_CODES_UNTIL_LOCKED):
        person.ask(operation_id, {"code": "000000"})
    return user(person)


@situation(200, "handlers.webauthn.complete")
def the_answer_of_a_key(case: Case, world: World) -> Caller:
    person = (
        world.someone(lambda person: is_named(person.registration, case))
        or world.someone(lambda person: person.registration is not None)
        or world.keyholder_with_room()
    )
    if person.registration is None:
        person.do("handlers.webauthn.begin")
    caller = proven(case, person)
    case.body = _registration(person, person.credential())
    return caller


@situation(401, "handlers.webauthn.complete")
def the_answer_of_a_key_without_an_assertion(case: Case, world: World) -> Caller:
    return unproven(case, world.keyholder())


@situation(403, "handlers.webauthn.complete")
def the_answer_of_no_key(case: Case, world: World) -> Caller:
    person = world.passer_by()
    person.do("handlers.webauthn.begin")
    case.body = _registration(person, case.body["credential"])
    return user(person)


@situation(404, "handlers.webauthn.complete")
def no_open_registration(_case: Case, world: World) -> Caller:
    return user(world.passer_by())


@situation(409, "handlers.webauthn.complete")
def the_answer_of_a_key_that_is_known(case: Case, world: World) -> Caller:
    person = world.keyholder_with_room()
    person.do("handlers.webauthn.begin")
    [known, *_] = person.keys.values()
    options = {**(person.registration or {})["options"], "excludeCredentials": []}
    answer = known.register(options, origin=person.server.origin, credential_id=known.credentials[0].id)
    known.credentials.pop()
    case.body = _registration(person, answer)
    person.registration = None
    return proven(case, person)


def _registration(person: Person, credential: Json) -> Json:
    opened = person.registration or {}
    return {"device_id": opened["device_id"], "challenge_id": opened["challenge_id"], "credential": credential}
