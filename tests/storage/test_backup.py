"""A set of backup codes: each works once, for its owner, until the next set."""

from __future__ import annotations

from datetime import timedelta

import pytest

from factors.errors import InvalidCode
from storage.backup import BackupCode, BackupCodeSet
from storage.database import atomic
from storage.user import Caller
from tests.storage.rows import ALICE, BOB, NOW, ensure

SALT = bytes(16)
DIGESTS = [bytes([n]) * 32 for n in range(10)]


@pytest.fixture(autouse=True)
def users(operated: object) -> None:
    ensure(ALICE, BOB)
    for caller in (ALICE, BOB):
        with atomic():
            BackupCodeSet.replace_all(caller, SALT, DIGESTS, NOW)


def spend(digest: bytes, caller: Caller = ALICE) -> None:
    with atomic():
        BackupCode.spend(caller, digest, NOW)


def test_bck_03_each_code_works_once() -> None:
    for left, digest in enumerate(reversed(DIGESTS)):
        spend(digest)
        assert BackupCode.remaining(ALICE) == 9 - left
    for digest in DIGESTS:
        with pytest.raises(InvalidCode):
            spend(digest)


def test_bck_04_a_code_is_spent_for_its_owner_alone() -> None:
    spend(DIGESTS[0])
    assert BackupCode.remaining(BOB) == 10
    spend(DIGESTS[0], BOB)
    with pytest.raises(InvalidCode):
        spend(DIGESTS[1], Caller.of("nobody"))


@pytest.mark.parametrize("digest", [bytes(31), b"", bytes([10]) * 32])
def test_what_is_no_digest_of_the_set_is_wrong(digest: bytes) -> None:
    with pytest.raises(InvalidCode):
        spend(digest)


def test_bck_05_a_new_set_kills_the_old_one_spent_or_not() -> None:
    spend(DIGESTS[0])
    later = NOW + timedelta(days=1)
    with atomic():
        BackupCodeSet.replace_all(ALICE, bytes(15) + b"\x01", [bytes([n]) * 32 for n in range(100, 110)], later)
    code_set = BackupCodeSet.of(ALICE)
    assert code_set is not None
    assert (bytes(code_set.salt), code_set.generated_at) == (bytes(15) + b"\x01", later)
    assert BackupCode.remaining(ALICE) == 10
    assert BackupCode.remaining(BOB) == 10
    with pytest.raises(InvalidCode):
        spend(DIGESTS[1])
    spend(bytes([100]) * 32)


def test_auz_05_a_set_that_is_forgotten_takes_its_codes_along() -> None:
    with atomic():
        BackupCodeSet.forget(ALICE)
    assert BackupCodeSet.of(ALICE) is None
    assert BackupCode.select().where(BackupCode.user == ALICE.id).count() == 0
    assert BackupCode.remaining(BOB) == 10


def test_atm_02_a_replacement_that_is_refused_leaves_the_old_set() -> None:
    def fail() -> None:
        with atomic():
            BackupCodeSet.replace_all(ALICE, SALT, [bytes(32)] * 10, NOW)

    with pytest.raises(Exception, match=r"(?i)unique"):
        fail()
    assert BackupCode.remaining(ALICE) == 10
    spend(DIGESTS[0])
