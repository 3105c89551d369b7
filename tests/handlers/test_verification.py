"""Challenge, answer, assertion, introspection."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from factors.errors import ChallengeNotFound, InvalidCode, InvalidCredential, NotEnabled, Refusal
from storage.challenge import Challenge
from storage.user import User
from storage.webauthn import WebAuthnCredential
from tests.authenticator import BE, BS, UP, UV, Authenticator, from_base64url
from tests.states import NOW, ORIGIN, Person, World, signing_key

SHOWN = {
    "totp": (["otp"], "mfa"),
    "email": (["urn:mfa-server:amr:email"], "urn:mfa-server:acr:email"),
    "backup_code": (["urn:mfa-server:amr:backup-code"], "urn:mfa-server:acr:backup-code"),
    "webauthn": (["hwk", "user"], "phr"),
}


def claims_of(world: World, assertion: str) -> dict[str, Any]:
    """What a resource server reads with the JWKS alone; the clock is the test's."""
    key = jwt.PyJWK(world.signing_keys[0].public_jwk())
    claims: dict[str, Any] = jwt.decode(
        assertion,
        key,
        ["ES256"],
        audience=world.settings.jwt_audience,
        issuer=world.settings.public_url,
        options={"verify_exp": False, "verify_iat": False},
    )
    return claims


# Challenges.


def test_a_challenge_offers_what_the_user_has_best_first(user_with_everything: Person) -> None:
    opened = user_with_everything.challenge()
    assert opened["methods"] == ["webauthn", "totp", "backup_code", "email"]
    assert opened["expires_at"] == "2026-03-01T12:05:00Z"
    assert opened["options"]["rpId"] == "example.org"
    assert opened["options"]["userVerification"] == "preferred"
    assert len(from_base64url(opened["options"]["challenge"])) == 32
    assert "email" not in opened


@pytest.mark.parametrize("method", ["totp", "backup_code", "webauthn"])
def test_a_challenge_for_one_method_offers_that_alone(user_with_everything: Person, method: str) -> None:
    before = len(user_with_everything.world.mails())
    opened = user_with_everything.challenge(method)
    assert opened["methods"] == [method]
    assert ("options" in opened) == (method == "webauthn")
    assert len(user_with_everything.world.mails()) == before


def test_only_a_challenge_for_email_mails_a_code_and_lasts_ten_minutes(user_with_email: Person, world: World) -> None:
    world.later(minutes=2)
    before = len(world.mails())
    user_with_email.challenge()
    assert len(world.mails()) == before
    opened = user_with_email.challenge("email")
    assert opened == {
        "challenge_id": opened["challenge_id"],
        "methods": ["email"],
        "expires_at": "2026-03-01T12:12:00Z",
        "email": "a•••@example.com",
    }
    assert (world.mails()[-1].template, world.mails()[-1].to) == ("code", "alice@example.com")


def test_stp_05_a_user_without_a_method_gets_a_defined_answer(alice: Person) -> None:
    alice.scan()
    alice.call("email.enable")
    alice.call("webauthn.begin")
    for method in (None, *SHOWN):
        with pytest.raises(NotEnabled):
            alice.challenge(method)
    assert not Challenge.select().exists()


@pytest.mark.parametrize("missing", ["email", "webauthn"])
def test_stp_05_a_method_that_the_user_has_not_is_not_offered(user_with_totp: Person, missing: str) -> None:
    assert user_with_totp.challenge()["methods"] == ["totp", "backup_code"]
    with pytest.raises(NotEnabled):
        user_with_totp.challenge(missing)


def test_war_13_of_more_than_five_open_challenges_the_oldest_are_dropped(user_with_totp: Person, world: World) -> None:
    opened = []
    for _ in range(7):
        opened.append(user_with_totp.challenge())
        world.later(seconds=1)
    for dropped in opened[:2]:
        with pytest.raises(ChallengeNotFound):
            user_with_totp.verify(dropped, code=user_with_totp.code(1))
    for kept in opened[2:]:
        user_with_totp.verify(kept, code=user_with_totp.backup_code())


# Answers.


@pytest.mark.parametrize("method", SHOWN)
def test_a_right_answer_is_worth_an_assertion_that_tells_how(user_with_everything: Person, method: str) -> None:
    alice, world = user_with_everything, user_with_everything.world
    world.later(minutes=2, microseconds=123456)
    opened = alice.challenge(method)
    answer: dict[str, Any] = {"code": alice.code()}
    if method == "webauthn":
        answer = {"credential": alice.answer(opened)}
    elif method != "totp":
        answer = {"code": alice.mailed_code() if method == "email" else alice.backup_code()}
    verified = alice.verify(opened, **answer)
    amr, acr = SHOWN[method]
    claims = claims_of(world, verified.pop("assertion"))
    assert verified == {
        "verified": True,
        "method": method,
        "amr": amr,
        "acr": acr,
        "expires_at": "2026-03-01T12:07:00Z",
    }
    issued = int(world.now.timestamp())
    assert uuid.UUID(claims.pop("jti"))
    assert claims == {
        "iss": "https://mfa.example.org",
        "aud": "app",
        "sub": "alice",
        "amr": amr,
        "acr": acr,
        "epoch": User.get().epoch,
        "iat": issued,
        "auth_time": issued,
        "exp": issued + 300,
    }
    assert datetime.fromtimestamp(claims["exp"], UTC) == datetime.fromisoformat(verified["expires_at"])
    assert alice.events()[-1] == (f"{method}.verified", None)


def test_stp_02_every_assertion_has_a_name_of_its_own(user_with_key: Person, world: World) -> None:
    assert len({claims_of(world, user_with_key.prove("webauthn"))["jti"] for _ in range(4)}) == 4


@pytest.mark.parametrize(("token_amr", "assumed"), [(("pwd",), False), ((), True), (("face", "hwk"), True)])
@pytest.mark.parametrize("method", SHOWN)
def test_stp_03_amr_says_mfa_when_the_login_showed_another_kind(
    user_with_everything: Person, method: str, token_amr: tuple[str, ...], *, assumed: bool
) -> None:
    user_with_everything.claims["amr"] = token_amr
    user_with_everything.world.set(assume_first_factor=assumed)
    claims = claims_of(user_with_everything.world, user_with_everything.prove(method))
    amr, acr = SHOWN[method]
    assert (claims["amr"], claims["acr"]) == ([*amr, "mfa"] if method != "email" else amr, acr)


def test_stp_03_a_key_that_can_be_copied_says_swk(alice: Person, world: World) -> None:
    alice.key = Authenticator(backup_eligible=True)
    alice.enrol_key()
    assert claims_of(world, alice.prove("webauthn"))["amr"] == ["swk", "user"]


def test_the_tenant_is_in_the_assertion_under_the_configured_name(world: World) -> None:
    world.set(jwt_tenant_claim="org")
    person = Person(world, "alice", "acme")
    person.enrol_key()
    assert claims_of(world, person.prove("webauthn"))["org"] == "acme"


def test_the_first_of_several_keys_signs_and_all_are_published(user_with_totp: Person, world: World) -> None:
    world.signing_keys = [world.signing_keys[0], signing_key()]
    assert jwt.get_unverified_header(user_with_totp.prove("totp"))["kid"] == world.signing_keys[0].kid
    published = user_with_totp.call("verification.jwks")["keys"]
    assert published == [key.public_jwk() for key in world.signing_keys]


@pytest.mark.parametrize("shown", ["code", "backup_code", "credential"])
def test_without_a_method_asked_for_code_backup_code_or_key_answers(user_with_everything: Person, shown: str) -> None:
    alice = user_with_everything
    opened = alice.challenge()
    answers: dict[str, Callable[[], dict[str, Any]]] = {
        "code": lambda: {"code": alice.next_code()},
        "backup_code": lambda: {"code": alice.backup_code()},
        "credential": lambda: {"credential": alice.answer(opened)},
    }
    alice.verify(opened, **answers[shown]())


def test_a_mailed_code_answers_only_the_challenge_that_mailed_it(user_with_everything: Person, world: World) -> None:
    alice = user_with_everything
    world.later(minutes=2)
    opened = alice.challenge("email")
    code = alice.mailed_code()
    for other in (alice.challenge(), alice.challenge("totp")):
        with pytest.raises(InvalidCode):
            alice.verify(other, code=code)
    alice.verify(opened, code=code)


def test_eml_03_a_new_challenge_by_mail_kills_the_code_before(user_with_email: Person, world: World) -> None:
    world.later(minutes=2)
    first, code = user_with_email.challenge("email"), user_with_email.mailed_code()
    world.later(minutes=1)
    second = user_with_email.challenge("email")
    with pytest.raises(ChallengeNotFound):
        user_with_email.verify(first, code=code)
    with pytest.raises(InvalidCode):
        user_with_email.verify(second, code=code)
    user_with_email.verify(second, code=user_with_email.mailed_code())


@pytest.mark.parametrize("method", SHOWN)
def test_a_challenge_for_one_method_takes_no_answer_by_another(user_with_everything: Person, method: str) -> None:
    alice = user_with_everything
    alice.world.later(minutes=2)
    opened = alice.challenge(method)
    key_answer = alice.answer(alice.challenge("webauthn"))
    codes = {"totp": alice.code(), "backup_code": alice.backup_codes[0]}
    for name, code in codes.items():
        if name != method:
            with pytest.raises(InvalidCode):
                alice.verify(opened, code=code)
    if method != "webauthn":
        with pytest.raises(InvalidCredential):
            alice.verify(opened, credential=key_answer)
        with pytest.raises(ChallengeNotFound):
            alice.verify(opened, code=codes.get(method, "000000"))
    assert alice.listed()["backup_codes"]["remaining"] == 10


def test_a_wrong_code_leaves_the_challenge_open(user_with_totp: Person) -> None:
    opened = user_with_totp.challenge()
    with pytest.raises(InvalidCode):
        user_with_totp.verify(opened, code=user_with_totp.wrong_code())
    user_with_totp.verify(opened, code=user_with_totp.next_code())


def test_waa_05_a_refused_credential_uses_the_challenge_up(user_with_key: Person) -> None:
    opened = user_with_key.challenge()
    with pytest.raises(InvalidCredential):
        user_with_key.verify(
            opened, credential=user_with_key.answer(opened, client_data={"origin": "https://a.example"})
        )
    assert user_with_key.events()[-1][0] == "proof.refused"
    with pytest.raises(ChallengeNotFound):
        user_with_key.verify(opened, credential=user_with_key.answer(opened))
    with pytest.raises(ChallengeNotFound):
        user_with_key.verify(opened, code=user_with_key.backup_codes[0])


@pytest.mark.parametrize("method", SHOWN)
def test_stp_01_a_challenge_is_satisfied_once(user_with_everything: Person, method: str) -> None:
    alice = user_with_everything
    alice.world.later(minutes=2)
    opened = alice.challenge(method)
    answers: dict[str, Callable[[], dict[str, Any]]] = {
        "totp": lambda: {"code": alice.next_code()},
        "email": lambda: {"code": alice.mailed_code()},
        "backup_code": lambda: {"code": alice.backup_code()},
        "webauthn": lambda: {"credential": alice.answer(opened)},
    }
    alice.verify(opened, **answers[method]())
    with pytest.raises(ChallengeNotFound):
        alice.verify(opened, **answers[method]())


@pytest.mark.parametrize(("method", "minutes"), [("totp", 5), ("backup_code", 5), ("webauthn", 5), ("email", 10)])
def test_stp_01_a_challenge_ends(user_with_everything: Person, method: str, minutes: int) -> None:
    alice, world = user_with_everything, user_with_everything.world
    world.later(minutes=2)
    opened = alice.challenge(method)
    world.later(minutes=minutes)
    answer: dict[str, Any] = {"code": "000000"}
    if method == "webauthn":
        answer = {"credential": alice.answer(opened)}
    elif method == "backup_code":
        answer = {"code": alice.backup_codes[0]}
    elif method == "email":
        answer = {"code": alice.mailed_code()}
    elif method == "totp":
        answer = {"code": alice.code()}
    with pytest.raises(ChallengeNotFound):
        alice.verify(opened, **answer)
    world.later(microseconds=-1)
    if method != "totp":
        alice.verify(opened, **answer)


def test_prv_01_unknown_expired_used_up_and_foreign_challenges_get_one_answer(
    user_with_everything: Person, mallory: Person, world: World
) -> None:
    alice = user_with_everything
    expired = alice.challenge()
    world.later(minutes=6)
    used_up = alice.challenge()
    alice.verify(used_up, code=alice.code())
    answers = []
    for opened in ({"challenge_id": str(uuid.uuid4())}, expired, used_up, mallory.challenge()):
        for answer in ({"code": "000000"}, {"credential": alice.answer(alice.challenge("webauthn"))}):
            with pytest.raises(Refusal) as caught:
                alice.verify(opened, **answer)
            refusal = caught.value
            answers.append((refusal.status, refusal.code, refusal.title, refusal.detail, refusal.retry_after))
    assert set(answers) == {(404, "challenge_not_found", "Challenge not found", ChallengeNotFound.detail, None)}


def test_stp_01_another_users_challenge_is_not_found_and_stays_open(user_with_totp: Person, mallory: Person) -> None:
    opened = user_with_totp.challenge()
    with pytest.raises(ChallengeNotFound):
        mallory.verify(opened, code=mallory.code(1))
    user_with_totp.verify(opened, code=user_with_totp.code(1))


@pytest.mark.parametrize(("asked_by", "answered_by"), [("one", "other"), ("one", ""), ("", "one")])
def test_stp_01_only_the_session_that_asked_can_answer(
    user_with_everything: Person, asked_by: str, answered_by: str
) -> None:
    alice = user_with_everything
    alice.world.later(minutes=2)
    alice.claims["session"] = asked_by
    opened, by_mail = alice.challenge(), alice.challenge("email")
    alice.claims["session"] = answered_by
    with pytest.raises(ChallengeNotFound):
        alice.verify(opened, credential=alice.answer(opened))
    with pytest.raises(ChallengeNotFound):
        alice.verify(by_mail, code=alice.mailed_code())
    alice.claims["session"] = asked_by
    alice.verify(opened, credential=alice.answer(opened))
    alice.verify(by_mail, code=alice.mailed_code())


def test_stp_01_a_code_mailed_for_one_session_changes_nothing_in_another(user_with_email: Person, world: World) -> None:
    world.later(minutes=2)
    user_with_email.claims["session"] = "one"
    user_with_email.challenge("email")
    code = user_with_email.mailed_code()
    user_with_email.claims["session"] = "other"
    with pytest.raises(InvalidCode):
        user_with_email.call("email.disable", code=code)
    user_with_email.claims["session"] = "one"
    user_with_email.call("email.disable", code=code)


# Keys.


def test_waa_09_a_key_that_was_removed_does_not_answer_what_offered_it(
    user_with_everything: Person,
) -> None:
    opened = user_with_everything.challenge("webauthn")
    user_with_everything.call("webauthn.remove", device_id=user_with_everything.device_id("webauthn"))
    with pytest.raises(InvalidCredential):
        user_with_everything.verify(opened, credential=user_with_everything.answer(opened))


def test_waa_01_a_key_that_was_not_offered_does_not_answer(user_with_key: Person, world: World) -> None:
    opened = user_with_key.challenge("webauthn")
    world.later(seconds=1)
    later = Authenticator()
    user_with_key.enrol_key(later)
    allowed = [
        {"type": "public-key", "id": user_with_key.challenge("webauthn")["options"]["allowCredentials"][1]["id"]}
    ]
    with pytest.raises(InvalidCredential):
        user_with_key.verify(
            opened, credential=later.authenticate({**opened["options"], "allowCredentials": allowed}, origin=ORIGIN)
        )
    assert user_with_key.events()[-1] == ("proof.refused", "unknown_credential")


def test_waa_01_another_users_key_does_not_answer(user_with_key: Person, mallory: Person) -> None:
    mallory.enrol_key()
    opened = user_with_key.challenge("webauthn")
    foreign = {**opened["options"], "allowCredentials": mallory.challenge("webauthn")["options"]["allowCredentials"]}
    with pytest.raises(InvalidCredential):
        user_with_key.verify(opened, credential=mallory.key.authenticate(foreign, origin=ORIGIN))


def test_waa_07_unknown_key_bad_signature_and_foreign_origin_get_one_answer(user_with_key: Person) -> None:
    answers = []
    for deviation in (
        {"credential": {"id": "AAAA", "rawId": "AAAA"}},
        {"signature": lambda signature: signature[:-1] + bytes([signature[-1] ^ 1])},
        {"client_data": {"origin": "https://evil.example"}},
        {"client_data": {"type": "webauthn.create"}},
        {"client_data": {"challenge": "AAAA"}},
        {"clear_flags": UP},
        {"set_flags": BE | BS},
        {"rp_id": "evil.example"},
        {"response": {"userHandle": "AAAA"}},
    ):
        opened = user_with_key.challenge("webauthn")
        with pytest.raises(InvalidCredential) as caught:
            user_with_key.verify(opened, credential=user_with_key.answer(opened, **deviation))
        answers.append((caught.value.code, caught.value.detail, caught.value.retry_after))
        assert user_with_key.events()[-1][0] == "proof.refused"
    assert len(set(answers)) == 1


def test_waa_02_user_verification_is_what_the_setting_was_when_the_challenge_was_opened(
    user_with_key: Person, world: World
) -> None:
    world.set(user_verification="required")
    opened = user_with_key.challenge()
    assert opened["options"]["userVerification"] == "required"
    world.set(user_verification="discouraged")
    with pytest.raises(InvalidCredential):
        user_with_key.verify(opened, credential=user_with_key.answer(opened, clear_flags=UV))
    opened = user_with_key.challenge()
    user_with_key.verify(opened, credential=user_with_key.answer(opened, clear_flags=UV))


def test_waa_06_a_sign_count_that_does_not_grow_is_refused_and_on_record(user_with_key: Person) -> None:
    user_with_key.prove("webauthn")
    [count] = [key.sign_count for key in WebAuthnCredential.select()]
    for copied in (count, count - 1, 0):
        opened = user_with_key.challenge()
        with pytest.raises(InvalidCredential):
            user_with_key.verify(opened, credential=user_with_key.answer(opened, sign_count=copied))
        assert user_with_key.events()[-1] == ("proof.refused", "sign_count")
    assert WebAuthnCredential.get().sign_count == count
    user_with_key.prove("webauthn")


def test_waa_06_a_key_without_a_counter_works_again_and_again(alice: Person) -> None:
    alice.key = Authenticator(counts=False)
    alice.enrol_key()
    for _ in range(3):
        alice.prove("webauthn")
    assert WebAuthnCredential.get().sign_count == 0


def test_waa_03_the_backup_state_is_kept_up_to_date(alice: Person) -> None:
    alice.key = Authenticator(backup_eligible=True)
    alice.enrol_key()
    assert not alice.listed()["methods"][0]["backed_up"]
    alice.key.backed_up = True
    alice.prove("webauthn")
    assert alice.listed()["methods"][0]["backed_up"]


def test_a_key_notes_its_use_and_that_it_has_verified_its_user(alice: Person, world: World) -> None:
    begun = alice.call("webauthn.begin")
    alice.complete(begun, clear_flags=UV)
    assert not WebAuthnCredential.get().uv_initialized
    world.later(hours=1)
    alice.prove("webauthn")
    record = WebAuthnCredential.get()
    assert (record.uv_initialized, record.last_used_at) == (True, NOW + timedelta(hours=1))
    opened = alice.challenge()
    alice.verify(opened, credential=alice.answer(opened, clear_flags=UV))
    assert WebAuthnCredential.get().uv_initialized


# Introspection.


@pytest.fixture
def resource_server(world: World) -> Person:
    """A service of the app, with a token of its own and no tenant."""
    return Person(world, "resource-server")


def introspected(service: Person, assertion: str) -> dict[str, Any]:
    return service.call("verification.introspect", token=assertion)


@pytest.mark.parametrize("method", SHOWN)
def test_introspection_tells_what_a_live_assertion_says(
    user_with_everything: Person, resource_server: Person, method: str
) -> None:
    assertion = user_with_everything.prove(method)
    claims = claims_of(user_with_everything.world, assertion)
    del claims["epoch"]
    assert introspected(resource_server, assertion) == {"active": True, **claims}
    assert introspected(resource_server, assertion)["active"], "it may be used more than once"


def test_an_assertion_dies_after_five_minutes(user_with_totp: Person, resource_server: Person, world: World) -> None:
    assertion = user_with_totp.prove("totp")
    world.later(minutes=5, microseconds=-1)
    assert introspected(resource_server, assertion)["active"]
    world.later(microseconds=1)
    assert introspected(resource_server, assertion) == {"active": False}


CHANGES: dict[str, Callable[[Person], object]] = {
    "an authenticator removed": lambda alice: alice.call("totp.disable", code=alice.next_code()),
    "a mailbox removed": lambda alice: alice.call("email.disable", code=alice.next_code()),
    "a key removed": lambda alice: alice.call("webauthn.remove", device_id=alice.device_id("webauthn")),
    "a key added": lambda alice: alice.enrol_key(Authenticator()),
    "codes made anew": lambda alice: alice.call("backup.regenerate", code=alice.next_code()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_stp_02_an_assertion_dies_as_soon_as_a_factor_changes(
    user_with_everything: Person, resource_server: Person, change: str
) -> None:
    alice = user_with_everything
    assertion = alice.prove("webauthn")
    CHANGES[change](alice)
    assert introspected(resource_server, assertion) == {"active": False}
    with pytest.raises(InvalidCode):
        alice.call("backup.regenerate", code=assertion)
    assert alice.events()[-1] == ("proof.refused", "factors changed")


@pytest.mark.parametrize("enrol", [Person.enrol_totp, Person.enrol_email])
def test_stp_02_an_assertion_dies_as_soon_as_a_factor_is_added(
    user_with_key: Person, resource_server: Person, enrol: Callable[[Person], object]
) -> None:
    assertion = user_with_key.prove("webauthn")
    enrol(user_with_key)
    assert introspected(resource_server, assertion) == {"active": False}


def test_what_changes_no_factor_kills_no_assertion(user_with_everything: Person, resource_server: Person) -> None:
    alice = user_with_everything
    assertion = alice.prove("webauthn")
    alice.call("webauthn.begin")
    alice.prove("totp")
    alice.prove("backup_code")
    with pytest.raises(InvalidCode):
        alice.call("totp.disable", code=alice.wrong_code())
    assert introspected(resource_server, assertion)["active"]


def test_an_assertion_of_a_user_who_is_gone_is_dead(user_with_totp: Person, resource_server: Person) -> None:
    assertion = user_with_totp.prove("totp")
    User.delete().execute()
    assert introspected(resource_server, assertion) == {"active": False}


@pytest.mark.parametrize(("tenant", "asking"), [("", "acme"), ("acme", ""), ("acme", "other"), ("a", "A")])
def test_introspection_stays_within_the_tenant_of_the_token(world: World, tenant: str, asking: str) -> None:
    person = Person(world, "alice", tenant)
    person.enrol_totp()
    assertion = person.prove("totp")
    assert introspected(Person(world, "service", asking), assertion) == {"active": False}
    assert introspected(Person(world, "service", tenant), assertion)["active"]


def test_introspection_of_a_same_named_user_elsewhere_is_not_confused(world: World) -> None:
    """Another tenant's user of this name has the same epoch; the assertion is not theirs."""
    one, other = Person(world, "alice", "one"), Person(world, "alice", "other")
    one.enrol_totp()
    other.enrol_totp()
    User.update(epoch=1).execute()
    assertion = one.prove("totp")
    with pytest.raises(InvalidCode):
        other.call("totp.disable", code=assertion)
    assert introspected(Person(world, "service", "other"), assertion) == {"active": False}


@pytest.mark.parametrize("token", ["a.b.c", "x", "." * 4096, "é" * 100, "null"])
def test_whatever_is_no_assertion_is_not_active(resource_server: Person, token: str) -> None:
    assert introspected(resource_server, token) == {"active": False}


def test_an_assertion_that_was_signed_by_the_key_before_lives_until_that_is_removed(
    user_with_totp: Person, resource_server: Person, world: World
) -> None:
    assertion = user_with_totp.prove("totp")
    world.signing_keys.insert(0, type(world.signing_keys[0])("another", signing_key().private))
    assert introspected(resource_server, assertion)["active"]
    user_with_totp.call("backup.regenerate", code=assertion)
    fresh = user_with_totp.prove("totp")
    del world.signing_keys[1]
    assert introspected(resource_server, fresh)["active"]
    assert introspected(resource_server, assertion) == {"active": False}
