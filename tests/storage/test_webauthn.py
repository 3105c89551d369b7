"""Security keys: one owner, a sign count that only grows, at most 25; and registrations that are taken once."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from factors.errors import ChallengeNotFound, CredentialExists, DeviceNotFound, InvalidCredential, TooManyDevices
from storage.database import atomic
from storage.user import Caller
from storage.webauthn import WebAuthnCredential, WebAuthnRegistration
from tests.storage.rows import ALICE, BOB, NOW, ensure, key

FIVE_MINUTES = timedelta(minutes=5)


@pytest.fixture(autouse=True)
def users(operated: object) -> None:
    ensure(ALICE, BOB)


def use(used: WebAuthnCredential, sign_count: int, *, backed_up: bool = False, user_verified: bool = False) -> None:
    with atomic():
        used.use(sign_count, backed_up=backed_up, user_verified=user_verified, now=NOW)


def begin(caller: Caller = ALICE, seconds: float = 0) -> WebAuthnRegistration:
    with atomic():
        return WebAuthnRegistration.begin(caller, b"challenge", "preferred", NOW + timedelta(seconds=seconds))


def take(begun: WebAuthnRegistration, caller: Caller = ALICE, after: timedelta = timedelta()) -> WebAuthnRegistration:
    with atomic():
        return WebAuthnRegistration.take(caller, begun.challenge_id, begun.device_id, NOW + after)


def test_war_12_a_record_is_kept_as_it_was() -> None:
    aaguid = uuid.uuid4()
    record = key(sign_count=2**32 - 1, aaguid=aaguid, uv_initialized=True, backup_eligible=True, backed_up=True)
    assert (record.sign_count, record.aaguid, record.transports) == (2**32 - 1, aaguid, "usb nfc")
    assert (record.uv_initialized, record.backup_eligible, record.backed_up) == (True, True, True)
    assert (record.created_at, record.last_used_at, bytes(record.public_key)) == (NOW, None, b"a public key")


def test_war_09_a_credential_has_one_owner_and_nobody_else_learns_of_them() -> None:
    key(credential_id=b"the same")
    with pytest.raises(CredentialExists):
        key(credential_id=b"the same")
    with pytest.raises(InvalidCredential) as caught:
        key(BOB, credential_id=b"the same")
    assert caught.value.detail == InvalidCredential.detail
    assert WebAuthnCredential.select().count() == 1


@pytest.mark.parametrize("length", [1, 1023])
def test_war_09_ids_of_every_length_are_kept(length: int) -> None:
    assert bytes(key(credential_id=b"\x00" * length).credential_id) == b"\x00" * length


def test_war_13_at_most_25_for_each_user() -> None:
    for _ in range(25):
        key()
    with pytest.raises(TooManyDevices):
        key()
    with pytest.raises(TooManyDevices):
        WebAuthnCredential.check_room(ALICE)
    WebAuthnCredential.check_room(BOB)
    key(BOB)
    assert len(WebAuthnCredential.of(ALICE)) == 25


def test_keys_are_listed_in_the_order_in_which_they_came() -> None:
    ids = [key(now=NOW + timedelta(seconds=seconds)).device_id for seconds in range(5)]
    assert [each.device_id for each in WebAuthnCredential.of(ALICE)] == ids


def test_waa_01_only_the_callers_keys_that_were_there_are_allowed() -> None:
    record = key(now=NOW)
    credential_id = bytes(record.credential_id)
    assert WebAuthnCredential.allowed(ALICE, credential_id, NOW).device_id == record.device_id
    for caller, named, offered_at in (
        (BOB, credential_id, NOW),
        (ALICE, credential_id[:-1], NOW),
        (ALICE, b"", NOW),
        (ALICE, credential_id, NOW - timedelta(microseconds=1)),
    ):
        with pytest.raises(InvalidCredential):
            WebAuthnCredential.allowed(caller, named, offered_at)


@pytest.mark.parametrize(("stored", "new"), [(0, 1), (1, 2), (7, 900), (2**31, 2**32 - 1)])
def test_waa_06_a_count_that_grows_is_kept(stored: int, new: int) -> None:
    use(key(sign_count=stored), new)
    assert WebAuthnCredential.get().sign_count == new
    assert WebAuthnCredential.get().last_used_at == NOW


@pytest.mark.parametrize(("stored", "new"), [(1, 1), (2, 1), (1, 0), (2**32 - 1, 0)])
def test_waa_06_a_count_that_does_not_grow_is_refused_and_changes_nothing(stored: int, new: int) -> None:
    with pytest.raises(InvalidCredential) as caught:
        use(key(sign_count=stored), new, backed_up=True, user_verified=True)
    assert caught.value.reason == "sign_count"
    record = WebAuthnCredential.get()
    assert (record.sign_count, record.last_used_at, record.backed_up) == (stored, None, False)


def test_waa_06_a_key_that_counts_nothing_may_be_used_again_and_again() -> None:
    record = key(sign_count=0)
    for _ in range(3):
        use(record, 0)


def test_waa_06_of_two_that_read_the_same_count_one_is_refused() -> None:
    record = key(sign_count=5)
    same = WebAuthnCredential.allowed(ALICE, bytes(record.credential_id), NOW)
    use(record, 7)
    for late in (6, 7):
        with pytest.raises(InvalidCredential):
            use(same, late)
    use(same, 8)


def test_waa_03_the_backup_state_follows_and_verification_is_remembered() -> None:
    record = key(backup_eligible=True)
    for backed_up, verified, remembered in ((True, False, False), (False, True, True), (True, False, True)):
        use(record, 0, backed_up=backed_up, user_verified=verified)
        kept = WebAuthnCredential.get()
        assert (kept.backed_up, kept.uv_initialized) == (backed_up, remembered)


def test_waa_09_a_key_that_is_gone_is_not_used() -> None:
    record = key()
    with atomic():
        WebAuthnCredential.remove(ALICE, record.device_id)
    with pytest.raises(InvalidCredential):
        use(record, 1)


def test_auz_01_a_key_is_removed_by_its_owner_and_once() -> None:
    record, other = key(name="One"), key(name="Two")
    with pytest.raises(DeviceNotFound), atomic():
        WebAuthnCredential.remove(BOB, record.device_id)
    with atomic():
        assert WebAuthnCredential.remove(ALICE, record.device_id) == "One"
    with pytest.raises(DeviceNotFound), atomic():
        WebAuthnCredential.remove(ALICE, record.device_id)
    assert [each.device_id for each in WebAuthnCredential.of(ALICE)] == [other.device_id]


def test_war_02_a_registration_is_taken_once_with_all_that_it_holds() -> None:
    begun = begin()
    taken = take(begun)
    assert bytes(taken.challenge) == b"challenge"
    assert (taken.device_id, taken.user_verification) == (begun.device_id, "preferred")
    with pytest.raises(ChallengeNotFound):
        take(begun)


def test_war_01_a_registration_ends_after_five_minutes() -> None:
    begun = begin()
    assert begun.expires_at == NOW + FIVE_MINUTES
    with pytest.raises(ChallengeNotFound):
        take(begun, after=FIVE_MINUTES)
    take(begun, after=FIVE_MINUTES - timedelta(microseconds=1))


def test_war_03_a_registration_is_its_users_and_its_devices() -> None:
    begun, other = begin(), begin()
    with pytest.raises(ChallengeNotFound):
        take(begun, BOB)
    mixed = WebAuthnRegistration(challenge_id=begun.challenge_id, device_id=other.device_id)
    with pytest.raises(ChallengeNotFound):
        take(mixed)
    take(begun)
    take(other)


def test_war_13_the_five_newest_registrations_of_each_user_stay_open() -> None:
    theirs = begin(BOB)
    begun = [begin(seconds=seconds) for seconds in range(8)]
    kept = {row.challenge_id for row in WebAuthnRegistration.select().where(WebAuthnRegistration.user == ALICE.id)}
    assert kept == {row.challenge_id for row in begun[3:]}
    take(theirs, BOB)
