"""Verification, by the user and by an app's backend."""

from __future__ import annotations

from collections.abc import Callable

from tests.contract.document import Json
from tests.contract.people import Person
from tests.contract.situations.situation import Caller, Case, backend, can_show_a_code, is_named, situation, user
from tests.contract.world import World


@situation(200, "handlers.verification.challenge")
def whatever_they_have(case: Case, world: World) -> Caller:
    case.body = _without_mail(case.body)
    return user(world.keyholder(lambda person: bool(person.backup_codes)).with_app())


@situation(200, "handlers.service.challenge")
def whatever_they_have_for_a_backend(case: Case, world: World) -> Caller:
    case.body = _without_mail(case.body)
    return backend(case, world.keyholder(lambda person: bool(person.backup_codes)).with_app())


def _without_mail(body: Json) -> Json:
    return {} if body.get("method") == "email" else body


@situation(409, "handlers.verification.challenge")
def nothing_to_ask_for(_case: Case, world: World) -> Caller:
    return user(world.passer_by())


@situation(409, "handlers.service.challenge")
def nobody_of_that_name(case: Case, world: World) -> Caller:
    return Caller(world.passer_by(), world.server.token("backend", scope="mfa:verify", tenant_id="elsewhere"))


@situation(429, "handlers.verification.challenge")
def a_second_mail_within_a_minute(case: Case, world: World) -> Caller:
    case.body = {"method": "email"}
    return user(_mailed_just_now(world))


@situation(429, "handlers.service.challenge")
def a_second_mail_within_a_minute_for_a_backend(case: Case, world: World) -> Caller:
    case.body = {"method": "email"}
    return backend(case, _mailed_just_now(world))


def _mailed_just_now(world: World) -> Person:
    """The mail that enrolled them counts too; where that is a minute ago, one more is asked for."""
    person = world.mailbox_owner()
    person.ask("handlers.verification.challenge", {"method": "email"})
    return person


def _open(person: Person, by: str) -> Json:
    """The challenge that is open for them, opened by whom it must be."""
    if person.challenge is None or person.challenged_by_service != (by == "service"):
        if by == "service":
            person.do("handlers.service.challenge", {}, sub=person.sub)
        else:
            person.do("handlers.verification.challenge", {})
    return person.challenge or {}


def _verifications(by: str, speak: Callable[[Case, Person], Caller]) -> None:
    """Both verify operations are the same to a user; what differs is who speaks, and that a scope can be missing."""
    operation_id = f"handlers.{by}.verify"

    def with_challenge(
        case: Case, world: World, method: str, fits: Callable[[Person], bool] = lambda _: True
    ) -> Person:
        """Somebody who can answer by `method`: the one whose challenge the case names, if they can."""

        def can(person: Person) -> bool:
            return person.challenge is None or method in person.challenge["methods"]

        named = world.someone(lambda person: is_named(person.challenge, case) and can(person) and fits(person))
        return named or world.keyholder(lambda person: can(person) and fits(person))

    @situation(200, operation_id)
    def the_answer_of_their_key(case: Case, world: World) -> Caller:
        person = with_challenge(case, world, "webauthn", lambda person: bool(person.keys))
        case.body = {"challenge_id": _open(person, by)["challenge_id"], "credential": person.signature()}
        return speak(case, person)

    @situation(200, operation_id)
    def a_code_of_their_app(case: Case, world: World) -> Caller:
        person = with_challenge(case, world, "totp", can_show_a_code).with_app()
        case.body = {"challenge_id": _open(person, by)["challenge_id"], "code": person.code()}
        return speak(case, person)

    @situation(200, operation_id)
    def one_of_their_backup_codes(case: Case, world: World) -> Caller:
        person = with_challenge(case, world, "backup_code", lambda person: bool(person.backup_codes))
        case.body = {"challenge_id": _open(person, by)["challenge_id"], "code": person.backup_code()}
        return speak(case, person)

    @situation(403, operation_id)
    def a_wrong_answer(case: Case, world: World) -> Caller:
        person = world.keyholder()
        person.prove()
        case.body = {**case.body, "challenge_id": _open(person, by)["challenge_id"]}
        # A code leaves the challenge, a credential uses it up.
        if "credential" in case.body:
            person.challenge = None
        return speak(case, person)

    @situation(404, operation_id)
    def no_open_challenge(case: Case, world: World) -> Caller:
        return speak(case, world.passer_by())

    @situation(429, operation_id)
    def a_challenge_after_five_wrong_codes(case: Case, world: World) -> Caller:
        person = world.owner_of_everything
        person.prove()
        opened = _open(person, by)
        person.lock()
        case.body = {"challenge_id": opened["challenge_id"], "code": "000000"}
        return speak(case, person)


_verifications("verification", lambda _case, person: user(person))
_verifications("service", backend)


@situation(403, "handlers.service.challenge", "handlers.service.verify")
def a_backend_without_the_scope(case: Case, world: World) -> Caller:
    return backend(case, world.keyholder(), scope="mfa:introspect")


@situation(200, "handlers.verification.introspect")
def a_live_assertion(case: Case, world: World) -> Caller:
    person = world.keyholder()
    case.body = {**case.body, "token": person.prove()}
    return Caller(person, world.server.token("resource-server", scope="mfa:introspect"))


@situation(200, "handlers.verification.introspect")
def something_that_is_no_assertion(_case: Case, world: World) -> Caller:
    return Caller(world.passer_by(), world.server.token("resource-server", scope="mfa:introspect"))


@situation(403, "handlers.verification.introspect")
def a_resource_server_without_the_scope(_case: Case, world: World) -> Caller:
    return Caller(world.passer_by(), world.server.token("resource-server", scope="mfa:verify"))
