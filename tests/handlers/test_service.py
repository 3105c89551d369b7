"""An app's backend that verifies a user of whom it has no token: same rules, same budget, and nothing mixes."""

from __future__ import annotations

from typing import Any

import pytest

from factors.errors import (
    ChallengeNotFound,
    InvalidCode,
    InvalidCredential,
    NotEnabled,
    TooManyAttempts,
    TooManyEmails,
    TotpRequired,
)
from storage.audit import AuditEvent
from storage.user import User
from tests.calling import Json
from tests.states import Person, World


@pytest.fixture
def backend(world: World) -> Person:
    """The app's backend, with a service token; its own name and mailbox are nobody's business."""
    return Person(world, "backend", session="of the backend")


def challenge(backend: Person, sub: str, method: str | None = None) -> Json:
    given: Json = {"method": method} if method else {}
    return backend.call("service.challenge", sub=sub, **given)


def verify(backend: Person, sub: str, opened: Json, **answer: Any) -> Json:
    return backend.call("service.verify", sub=sub, challenge_id=opened["challenge_id"], **answer)


@pytest.mark.parametrize("method", ["totp", "email", "backup_code", "webauthn"])
def test_a_backend_verifies_a_user_by_each_method(user_with_everything: Person, backend: Person, method: str) -> None:
    alice = user_with_everything
    alice.world.later(minutes=2)
    opened = challenge(backend, "alice", method)
    answer: Json = {"code": alice.code()}
    if method == "webauthn":
        answer = {"credential": alice.answer(opened)}
    elif method != "totp":
        answer = {"code": alice.mailed_code() if method == "email" else alice.backup_code()}
    verified = verify(backend, "alice", opened, **answer)
    assert verified["method"] == method
    claims = backend.call("verification.introspect", token=verified["assertion"])
    assert (claims["active"], claims["sub"]) == (True, "alice")
    assert alice.events()[-1] == (f"{method}.verified", None)


def test_without_a_method_asked_for_anything_answers_at_once(user_with_everything: Person, backend: Person) -> None:
    opened = challenge(backend, "alice")
    assert opened["methods"] == ["webauthn", "totp", "backup_code", "email"]
    verify(backend, "alice", opened, credential=user_with_everything.answer(opened))


def test_a_mailed_code_goes_to_the_users_confirmed_mailbox(user_with_email: Person, backend: Person) -> None:
    user_with_email.world.later(minutes=2)
    opened = challenge(backend, "alice", "email")
    assert opened["email"] == "a•••@example.com"
    assert user_with_email.world.mails()[-1].to == "alice@example.com"


def test_stp_05_a_user_without_a_method_or_unknown_gets_one_answer(alice: Person, backend: Person) -> None:
    alice.scan()
    for sub in ("alice", "nobody", "backend"):
        with pytest.raises(NotEnabled):
            challenge(backend, sub)
    assert User.select().count() == 1


def test_auz_01_a_backend_reaches_only_users_of_its_own_tenant(world: World) -> None:
    acme = Person(world, "alice", "acme")
    acme.enrol_totp()
    opened = challenge(Person(world, "backend", "acme"), "alice")
    for tenant in ("", "other", "ACME"):
        stranger = Person(world, "backend", tenant)
        with pytest.raises(NotEnabled):
            challenge(stranger, "alice")
        with pytest.raises(ChallengeNotFound):
            verify(stranger, "alice", opened, code=acme.next_code())
    verified = verify(Person(world, "another backend", "acme"), "alice", opened, code=acme.code())
    assert acme.call("totp.disable", code=verified["assertion"])


def test_stp_01_what_the_user_asked_for_the_backend_cannot_answer_and_the_reverse(
    user_with_everything: Person, backend: Person
) -> None:
    alice = user_with_everything
    by_user, by_backend = alice.challenge(), challenge(backend, "alice")
    for code in (alice.code(1), alice.backup_codes[0]):
        with pytest.raises(ChallengeNotFound):
            verify(backend, "alice", by_user, code=code)
        with pytest.raises(ChallengeNotFound):
            alice.verify(by_backend, code=code)
    with pytest.raises(ChallengeNotFound):
        verify(backend, "alice", by_user, credential=alice.answer(by_user))
    with pytest.raises(ChallengeNotFound):
        alice.verify(by_backend, credential=alice.answer(by_backend))
    alice.verify(by_user, credential=alice.answer(by_user))
    verify(backend, "alice", by_backend, credential=alice.answer(by_backend))


def test_stp_01_a_backends_own_challenge_is_none_of_the_user_it_names(user_with_totp: Person, world: World) -> None:
    """A backend that is a user itself does not mix the two."""
    backend = Person(world, "backend")
    backend.enrol_totp()
    own = backend.challenge()
    with pytest.raises(ChallengeNotFound):
        verify(backend, "backend", own, code=backend.next_code())
    with pytest.raises(ChallengeNotFound):
        verify(backend, "alice", own, code=user_with_totp.code())
    named = challenge(backend, "alice")
    with pytest.raises(ChallengeNotFound):
        verify(backend, "backend", named, code=backend.code())


def test_eml_04_a_code_mailed_for_a_backend_changes_nothing(user_with_email: Person, backend: Person) -> None:
    alice = user_with_email
    alice.world.later(minutes=2)
    opened = challenge(backend, "alice", "email")
    code = alice.mailed_code()
    with pytest.raises(InvalidCode):
        alice.call("email.disable", code=code)
    with pytest.raises(TotpRequired):
        alice.call("backup.regenerate", code=code)
    with pytest.raises(InvalidCode):
        alice.verify(alice.challenge(), code=code)
    verify(backend, "alice", opened, code=code)


def test_eml_06_user_and_backend_share_the_quota_of_mails(user_with_email: Person, backend: Person) -> None:
    user_with_email.world.later(minutes=2)
    user_with_email.challenge("email")
    with pytest.raises(TooManyEmails):
        challenge(backend, "alice", "email")


def test_thr_01_user_and_backend_share_the_budget_of_wrong_codes(user_with_totp: Person, backend: Person) -> None:
    by_user, by_backend = user_with_totp.challenge(), challenge(backend, "alice")
    for _ in range(3):
        with pytest.raises(InvalidCode):
            verify(backend, "alice", by_backend, code=user_with_totp.wrong_code())
    for _ in range(2):
        with pytest.raises(InvalidCode):
            user_with_totp.verify(by_user, code=user_with_totp.wrong_code())
    with pytest.raises(TooManyAttempts):
        verify(backend, "alice", by_backend, code=user_with_totp.code(1))
    with pytest.raises(TooManyAttempts):
        user_with_totp.verify(by_user, code=user_with_totp.code(1))


def test_otp_03_a_step_that_the_backend_saw_is_shut_for_the_user(user_with_totp: Person, backend: Person) -> None:
    verify(backend, "alice", challenge(backend, "alice"), code=user_with_totp.next_code())
    with pytest.raises(InvalidCode):
        user_with_totp.call("totp.disable", code=user_with_totp.code())


def test_waa_05_a_refused_key_uses_the_backends_challenge_up(user_with_key: Person, backend: Person) -> None:
    opened = challenge(backend, "alice")
    with pytest.raises(InvalidCredential):
        verify(backend, "alice", opened, credential=user_with_key.answer(opened, rp_id="b"))
    with pytest.raises(ChallengeNotFound):
        verify(backend, "alice", opened, credential=user_with_key.answer(opened))


def test_the_session_of_the_backend_binds_nothing(user_with_totp: Person, world: World) -> None:
    """Its token is renewed whenever it likes; the challenge is the user's."""
    opened = challenge(Person(world, "backend", session="one"), "alice")
    verify(Person(world, "backend", session="two"), "alice", opened, code=user_with_totp.next_code())


def test_stp_03_the_backends_own_login_says_nothing_of_the_users(user_with_totp: Person, world: World) -> None:
    backend = Person(world, "backend", amr=("pwd", "pin"))
    verified = verify(backend, "alice", challenge(backend, "alice"), code=user_with_totp.next_code())
    assert verified["amr"] == ["otp"]
    world.set(assume_first_factor=True)
    verified = verify(backend, "alice", challenge(backend, "alice"), code=user_with_totp.next_code())
    assert verified["amr"] == ["otp", "mfa"]


def test_not_03_the_users_trail_names_the_operation_and_the_address_of_the_backend(
    user_with_totp: Person, backend: Person
) -> None:
    verify(backend, "alice", challenge(backend, "alice"), code=user_with_totp.next_code())
    event = AuditEvent.get(AuditEvent.type == "totp.verified")
    assert (event.user_id, event.operation) == (user_with_totp.caller.id, "handlers.service.verify")
    assert (event.request_id, event.address) == ("request-1", "192.0.2.1")
    assert backend.events() == []


def test_not_01_a_user_with_a_mailbox_hears_what_happens_through_the_backend(
    user_with_email: Person, backend: Person
) -> None:
    verify(backend, "alice", challenge(backend, "alice"), code=user_with_email.backup_code())
    opened = challenge(backend, "alice")
    for _ in range(5):
        with pytest.raises(InvalidCode):
            verify(backend, "alice", opened, code=user_with_email.wrong_code())
    assert user_with_email.notices() == {"email.enabled": 1, "backup_code.used": 1, "locked": 1}


@pytest.mark.parametrize("sub", ["ålice 🔑", "a/b", "auth0|1", "%00", "..", "a" * 255])
def test_tok_05_any_name_that_the_provider_gives_is_reached(world: World, backend: Person, sub: str) -> None:
    person = Person(world, sub, email=None)
    person.enrol_totp()
    verify(backend, sub, challenge(backend, sub), code=person.next_code())
    with pytest.raises(NotEnabled):
        challenge(backend, f"{sub[:-1]}?")
