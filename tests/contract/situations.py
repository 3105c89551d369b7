"""The situations in which an operation is called with valid data, and the status that each must get.

A situation takes the case that Schemathesis made, gives it the one who speaks and whatever must be real, and leaves the
rest as it was made. Blind data never meets a right code; here every operation has somebody for whom it works.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.contract.document import Json
from tests.contract.people import WRONG_CODES_UNTIL_LOCKED, Person, World

Case = Any  # schemathesis.Case, whose parameter is not public.
Arrange = Callable[[Case, World], "Caller"]
HOUR = 3600
ASSERTION = "MFA-Assertion"


class Caller(NamedTuple):
    """Who speaks, and with which access token."""

    person: Person
    token: str


class Situation(NamedTuple):
    status: int
    arrange: Arrange

    @property
    def name(self) -> str:
        return self.arrange.__name__.replace("_", " ")


SITUATIONS: dict[str, list[Situation]] = defaultdict(list)


def situation(status: int, *operation_ids: str) -> Callable[[Arrange], Arrange]:
    def register(arrange: Arrange) -> Arrange:
        for operation_id in operation_ids:
            SITUATIONS[operation_id].append(Situation(status, arrange))
        return arrange

    return register


def user(person: Person, **claims: Any) -> Caller:
    return Caller(person, person.token(**claims))


def backend(case: Case, person: Person, scope: str = "mfa:verify") -> Caller:
    """The app's backend speaks about `person`."""
    case.path_parameters = {"sub": quote(person.sub, safe="")}
    return Caller(person, person.server.token("backend", scope=scope))


def proven(case: Case, person: Person) -> Caller:
    """`person` speaks, with a live assertion if they have a method."""
    if person.has_method:
        case.headers[ASSERTION] = person.prove()
    return user(person)


def unproven(case: Case, person: Person) -> Caller:
    case.headers.pop(ASSERTION, None)
    return user(person)


# What the user has.


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


# Confirming.


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
        world.someone(lambda person: _is_open(person.registration, case))
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


def _is_open(opened: Json | None, case: Case) -> bool:
    """Whether it is this that the case names: a link has led here."""
    return opened is not None and opened["challenge_id"] == case.body.get("challenge_id")


def _registration(person: Person, credential: Json) -> Json:
    opened = person.registration or {}
    return {"device_id": opened["device_id"], "challenge_id": opened["challenge_id"], "credential": credential}


# Removing.


@situation(200, "handlers.totp.disable")
def a_code_of_the_app(case: Case, world: World) -> Caller:
    person = world.keyholder(_can_show_a_code).with_app()
    case.body = {"code": person.code()}
    return user(person)


def _can_show_a_code(person: Person) -> bool:
    return person.secret is None or person.can_show_a_code()


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


# Verification, by the user and by an app's backend.


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

        named = world.someone(lambda person: _is_open(person.challenge, case) and can(person) and fits(person))
        return named or world.keyholder(lambda person: can(person) and fits(person))

    @situation(200, operation_id)
    def the_answer_of_their_key(case: Case, world: World) -> Caller:
        person = with_challenge(case, world, "webauthn", lambda person: bool(person.keys))
        case.body = {"challenge_id": _open(person, by)["challenge_id"], "credential": person.signature()}
        return speak(case, person)

    @situation(200, operation_id)
    def a_code_of_their_app(case: Case, world: World) -> Caller:
        person = with_challenge(case, world, "totp", _can_show_a_code).with_app()
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
