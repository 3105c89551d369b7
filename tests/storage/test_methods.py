"""All that a user has, at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from storage.backup import BackupCode, BackupCodeSet, Counts
from storage.challenge import Challenge
from storage.database import atomic
from storage.methods import Methods, forget_the_rest
from storage.user import Caller
from storage.webauthn import WebAuthnRegistration
from tests.storage.rows import ALICE, BOB, NOW, challenge, ensure, key, mailbox, pending_email, pending_totp, totp


@pytest.fixture(autouse=True)
def users(operated: object) -> None:
    ensure(ALICE, BOB)


def codes(caller: Caller = ALICE, spent: int = 0) -> None:
    with atomic():
        BackupCodeSet.replace_all(caller, bytes(16), [bytes([n]) * 32 for n in range(10)], NOW)
        for n in range(spent):
            BackupCode.spend(caller, bytes([n]) * 32, NOW)


def test_nothing_is_known_of_a_stranger_nor_of_a_user_without_a_method() -> None:
    for caller in (Caller.of("nobody"), ALICE):
        assert Methods.of(caller) == Methods(None, None, [], Counts(0, 0, None))
        assert not Methods.of(caller).enabled


def test_stp_05_what_is_pending_is_not_there() -> None:
    pending_totp()
    pending_email()
    with atomic():
        WebAuthnRegistration.begin(ALICE, b"challenge", "preferred", NOW)
    assert Methods.of(ALICE) == Methods()


def test_everything_is_there_with_its_times() -> None:
    device, address = totp(), mailbox(now=NOW + timedelta(seconds=1))
    keys = [key(now=NOW + timedelta(seconds=seconds)).device_id for seconds in range(3)]
    codes(spent=3)
    methods = Methods.of(ALICE)
    assert methods.totp is not None
    assert (methods.totp.device_id, methods.totp.since, methods.totp.last_used_at) == (device.device_id, NOW, NOW)
    assert methods.email is not None
    assert (methods.email.device_id, methods.email.address) == (address.device_id, "alice@example.com")
    assert methods.email.since == NOW + timedelta(seconds=1)
    assert [each.device_id for each in methods.credentials] == keys
    assert methods.backup_codes == Counts(10, 7, NOW)
    assert methods.names() == ["webauthn", "totp", "backup_code", "email"]
    assert Methods.of(BOB) == Methods()


def test_bck_06_spent_codes_are_no_method() -> None:
    totp()
    codes(spent=10)
    assert Methods.of(ALICE).names() == ["totp"]
    assert Methods.of(ALICE).backup_codes == Counts(10, 0, NOW)


def test_auz_05_backup_codes_alone_are_no_method() -> None:
    codes()
    assert not Methods.of(ALICE).enabled


@pytest.mark.parametrize("left", [totp, mailbox, key])
def test_auz_05_while_a_method_is_left_nothing_is_forgotten(left: object) -> None:
    assert callable(left)
    left()
    codes()
    opened = challenge()
    with atomic():
        assert forget_the_rest(ALICE)
    assert BackupCode.remaining(ALICE) == 10
    Challenge.find(ALICE, opened.challenge_id, NOW)


def test_auz_05_with_the_last_method_go_codes_challenges_and_registrations_of_that_user_alone() -> None:
    for caller in (ALICE, BOB):
        codes(caller)
        challenge(caller)
        with atomic():
            WebAuthnRegistration.begin(caller, b"challenge", "preferred", NOW)
    with atomic():
        assert not forget_the_rest(ALICE)
    tables: list[Any] = [BackupCodeSet, BackupCode, Challenge, WebAuthnRegistration]
    for table in tables:
        assert {row.user_id for row in table.select()} == {BOB.id}
