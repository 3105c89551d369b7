"""Security keys: registered in two steps, limited, removed. What an answer must say is tested in tests/factors."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from factors.errors import ChallengeNotFound, CredentialExists, DeviceNotFound, InvalidCredential, TooManyDevices
from storage.webauthn import WebAuthnCredential, WebAuthnRegistration
from tests.authenticator import BS, UV, Authenticator, base64url, from_base64url
from tests.states import NOW, Person, World


def test_begin_says_what_the_browser_is_to_be_asked_for_and_turns_nothing_on(alice: Person) -> None:
    alice.claims["name"] = "Alice Example"
    begun = alice.call("webauthn.begin")
    options = begun["options"]
    assert begun["expires_at"] == "2026-03-01T12:05:00Z"
    assert options["rp"] == {"id": "example.org", "name": "Example"}
    assert (options["user"]["name"], options["user"]["displayName"]) == ("alice@example.com", "Alice Example")
    assert options["excludeCredentials"] == []
    assert options["authenticatorSelection"]["userVerification"] == "preferred"
    assert alice.methods() == []


def test_war_11_the_user_handle_is_random_and_stays(alice: Person, world: World) -> None:
    handles = {alice.call("webauthn.begin")["options"]["user"]["id"] for _ in range(2)}
    alice.enrol_key()
    handles.add(alice.call("webauthn.begin")["options"]["user"]["id"])
    [handle] = handles
    other = Person(world, "bob").call("webauthn.begin")["options"]["user"]["id"]
    assert handle != other
    assert 16 <= len(from_base64url(handle)) <= 64
    assert b"alice" not in from_base64url(handle)


def test_war_01_every_registration_has_a_challenge_of_its_own(alice: Person) -> None:
    challenges = {alice.call("webauthn.begin")["options"]["challenge"] for _ in range(5)}
    assert len(challenges) == 5
    assert {len(from_base64url(challenge)) for challenge in challenges} == {32}


def test_complete_registers_the_key(alice: Person) -> None:
    begun = alice.call("webauthn.begin")
    answer = alice.complete(begun)
    assert answer["device_id"] == begun["device_id"]
    assert len(answer["backup_codes"]) == 10
    assert alice.methods() == ["webauthn"]
    assert alice.events() == [("webauthn.enabled", None)]
    assert alice.notices() == {"webauthn.enabled": 1}


def test_war_11_keys_that_are_there_are_excluded(user_with_key: Person) -> None:
    user_with_key.world.later(seconds=1)
    user_with_key.enrol_key(Authenticator(transports=("nfc", "ble")))
    excluded = user_with_key.call("webauthn.begin")["options"]["excludeCredentials"]
    assert [entry["transports"] for entry in excluded] == [["usb"], ["nfc", "ble"]]
    assert excluded[0]["id"] == base64url(user_with_key.key.credentials[0].id)


def test_war_02_a_registration_works_once(alice: Person) -> None:
    begun = alice.call("webauthn.begin")
    alice.complete(begun)
    with pytest.raises(ChallengeNotFound):
        alice.complete(begun, Authenticator())


def test_war_02_a_refused_answer_has_used_it_up_and_is_on_record(alice: Person) -> None:
    begun = alice.call("webauthn.begin")
    with pytest.raises(InvalidCredential):
        alice.complete(begun, client_data={"origin": "https://example.org.evil.example"})
    [(kind, reason)] = alice.events()
    assert (kind, bool(reason)) == ("proof.refused", True)
    with pytest.raises(ChallengeNotFound):
        alice.complete(begun)
    assert alice.methods() == []


def test_war_01_a_registration_ends_after_five_minutes(alice: Person, world: World) -> None:
    begun = alice.call("webauthn.begin")
    world.later(minutes=5)
    with pytest.raises(ChallengeNotFound):
        alice.complete(begun)
    world.later(microseconds=-1)
    alice.complete(begun)


def test_war_03_a_registration_of_another_user_or_of_none_is_not_found(alice: Person, mallory: Person) -> None:
    begun = alice.call("webauthn.begin")
    with pytest.raises(ChallengeNotFound):
        mallory.complete(begun)
    other = alice.call("webauthn.begin")
    for mixed in (
        {**begun, "device_id": other["device_id"]},
        {**begun, "challenge_id": other["challenge_id"]},
        {**begun, "challenge_id": str(uuid.uuid4())},
    ):
        with pytest.raises(ChallengeNotFound):
            alice.complete(mixed)
    alice.complete(begun)
    alice.complete(other, Authenticator())


def test_war_03_a_registration_does_not_verify_and_a_challenge_does_not_register(user_with_key: Person) -> None:
    begun = user_with_key.call("webauthn.begin")
    opened = user_with_key.challenge("webauthn")
    with pytest.raises(ChallengeNotFound):
        user_with_key.verify(begun, credential=user_with_key.answer(opened))
    with pytest.raises(ChallengeNotFound):
        user_with_key.complete({**begun, "challenge_id": opened["challenge_id"]}, Authenticator())


def test_war_03_the_answer_to_another_registration_is_refused(alice: Person) -> None:
    first, second = alice.call("webauthn.begin"), alice.call("webauthn.begin")
    with pytest.raises(InvalidCredential):
        alice.complete({**first, "options": second["options"]})


def test_war_13_of_more_than_five_open_registrations_the_oldest_are_dropped(alice: Person, world: World) -> None:
    begun = []
    for _ in range(7):
        begun.append(alice.call("webauthn.begin"))
        world.later(seconds=1)
    for dropped in begun[:2]:
        with pytest.raises(ChallengeNotFound):
            alice.complete(dropped, Authenticator())
    for kept in begun[2:]:
        alice.complete(kept, Authenticator())


def test_war_13_other_users_registrations_are_not_counted(alice: Person, world: World) -> None:
    begun = alice.call("webauthn.begin")
    for n in range(6):
        Person(world, f"user {n}").call("webauthn.begin")
    alice.complete(begun)


def test_war_13_a_user_has_at_most_25_keys(alice: Person, mallory: Person) -> None:
    for _ in range(24):
        alice.enrol_key(Authenticator())
    last, beyond = alice.call("webauthn.begin"), alice.call("webauthn.begin")
    alice.complete(last, Authenticator())
    with pytest.raises(TooManyDevices):
        alice.call("webauthn.begin")
    with pytest.raises(TooManyDevices):
        alice.complete(beyond, Authenticator())
    assert len(alice.methods()) == 25
    assert len(alice.challenge("webauthn")["options"]["allowCredentials"]) == 25
    mallory.enrol_key()
    alice.call("webauthn.remove", device_id=alice.device_id("webauthn"))
    alice.enrol_key(Authenticator())


def test_war_09_a_key_registers_once(user_with_key: Person) -> None:
    registered = user_with_key.key.credentials[0].id
    begun = user_with_key.call("webauthn.begin")
    with pytest.raises(CredentialExists):
        user_with_key.complete(begun, Authenticator(), credential_id=registered)
    assert len(user_with_key.methods()) == 1


def test_prv_02_a_key_of_another_user_is_refused_like_any_bad_one(user_with_key: Person, mallory: Person) -> None:
    registered = user_with_key.key.credentials[0].id
    begun = mallory.call("webauthn.begin")
    with pytest.raises(InvalidCredential) as foreign:
        mallory.complete(begun, Authenticator(), credential_id=registered)
    with pytest.raises(InvalidCredential) as broken:
        mallory.complete(
            mallory.call("webauthn.begin"), Authenticator(), client_data={"origin": "https://evil.example"}
        )
    assert foreign.value.detail == broken.value.detail
    assert mallory.methods() == ["totp"]
    assert mallory.events()[-2] == ("proof.refused", "registered to another user")
    user_with_key.prove("webauthn")


def test_atm_02_a_refused_registration_leaves_no_backup_codes(
    alice: Person, user_with_key: Person, world: World
) -> None:
    bob = Person(world, "bob")
    begun = bob.call("webauthn.begin")
    with pytest.raises(InvalidCredential):
        bob.complete(begun, Authenticator(), credential_id=user_with_key.key.credentials[0].id)
    assert bob.listed()["backup_codes"]["total"] == 0


@pytest.mark.parametrize("demand", ["required", "preferred", "discouraged"])
def test_war_06_user_verification_is_what_the_setting_was_when_it_began(
    alice: Person, world: World, demand: str
) -> None:
    world.set(user_verification=demand)
    begun = alice.call("webauthn.begin")
    assert begun["options"]["authenticatorSelection"]["userVerification"] == demand
    world.set(user_verification="preferred")
    if demand == "required":
        with pytest.raises(InvalidCredential):
            alice.complete(begun, clear_flags=UV)
        begun = alice.call("webauthn.begin")
    alice.complete(begun, clear_flags=0 if demand == "required" else UV)


def test_war_12_what_the_key_said_is_kept(alice: Person) -> None:
    key = Authenticator(transports=("internal", "hybrid"), backup_eligible=True, backed_up=True, counts=False)
    alice.enrol_key(key)
    record = WebAuthnCredential.get()
    assert bytes(record.credential_id) == key.credentials[0].id
    assert set(record.transports.split()) == {"internal", "hybrid"}
    assert (record.uv_initialized, record.backup_eligible, record.backed_up, record.sign_count) == (True, True, True, 0)
    assert (record.created_at, record.last_used_at) == (NOW, None)


def test_remove_takes_a_key_away(user_with_everything: Person) -> None:
    device = user_with_everything.device_id("webauthn")
    answer = user_with_everything.call("webauthn.remove", device_id=device)
    assert answer == {"type": "webauthn", "device_id": device, "enabled": False, "mfa_enabled": True}
    assert user_with_everything.methods() == ["totp", "email"]
    assert user_with_everything.events()[-1] == ("webauthn.disabled", None)
    assert user_with_everything.notices()["webauthn.disabled"] == 1
    with pytest.raises(DeviceNotFound):
        user_with_everything.call("webauthn.remove", device_id=device)


def test_auz_05_with_the_last_key_go_backup_codes_and_all_that_is_open(user_with_key: Person) -> None:
    begun, opened = user_with_key.call("webauthn.begin"), user_with_key.challenge()
    answer = user_with_key.call("webauthn.remove", device_id=user_with_key.device_id("webauthn"))
    assert not answer["mfa_enabled"]
    assert user_with_key.listed()["backup_codes"]["total"] == 0
    with pytest.raises(ChallengeNotFound):
        user_with_key.complete(begun, Authenticator())
    with pytest.raises(ChallengeNotFound):
        user_with_key.verify(opened, code=user_with_key.backup_code())


def test_auz_01_another_users_key_and_no_key_are_not_found_alike(
    user_with_key: Person, mallory: Person, world: World
) -> None:
    device = user_with_key.device_id("webauthn")
    refusals = []
    for person, name in ((mallory, device), (mallory, str(uuid.uuid4())), (Person(world, "alice", "else"), device)):
        with pytest.raises(DeviceNotFound) as caught:
            person.call("webauthn.remove", device_id=name)
        refusals.append((caught.value.code, caught.value.detail, caught.value.retry_after))
    assert len(set(refusals)) == 1
    assert user_with_key.methods() == ["webauthn"]


def test_only_keys_are_removed_by_their_id(user_with_everything: Person) -> None:
    for kind in ("totp", "email"):
        with pytest.raises(DeviceNotFound):
            user_with_everything.call("webauthn.remove", device_id=user_with_everything.device_id(kind))
    assert len(user_with_everything.methods()) == 3


def test_a_removed_key_can_be_registered_again(user_with_key: Person) -> None:
    credential_id = user_with_key.key.credentials[0].id
    user_with_key.call("webauthn.remove", device_id=user_with_key.device_id("webauthn"))
    begun = user_with_key.call("webauthn.begin")
    user_with_key.complete(begun, Authenticator(), credential_id=credential_id)


def test_a_notice_names_the_key(user_with_key: Person, world: World) -> None:
    name = user_with_key.listed()["methods"][0]["name"]
    user_with_key.call("webauthn.remove", device_id=user_with_key.device_id("webauthn"))
    named = {str(mail.values["event"]): mail.values["name"] for mail in world.mails()}
    assert named == {"webauthn.enabled": name, "webauthn.disabled": name}


def test_registrations_that_are_used_up_leave_nothing(alice: Person) -> None:
    for _ in range(3):
        alice.enrol_key(Authenticator())
    assert not WebAuthnRegistration.select().exists()


def test_war_06_a_key_that_says_it_is_backed_up_though_it_cannot_be_is_refused(alice: Person) -> None:
    with pytest.raises(InvalidCredential):
        alice.complete(alice.call("webauthn.begin"), set_flags=BS)


def test_the_registrations_lifetime_is_that_of_the_options(alice: Person) -> None:
    assert timedelta(milliseconds=alice.call("webauthn.begin")["options"]["timeout"]) == timedelta(minutes=5)
