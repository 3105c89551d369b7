"""Open challenges: one user, one who asked, one session; taken once."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from factors.errors import ChallengeNotFound, InvalidCode
from storage.challenge import Challenge
from storage.database import atomic
from storage.user import Caller
from tests.storage.rows import ALICE, BOB, NOW, challenge, ensure

BACKEND = replace(ALICE, purpose="service")
SESSION = replace(ALICE, session="one")


@pytest.fixture(autouse=True)
def users(operated: object) -> None:
    ensure(ALICE, BOB)


def test_an_open_challenge_is_found_as_it_was() -> None:
    with atomic():
        opened = Challenge.open(
            ALICE, NOW, method="webauthn", user_verification="required", webauthn_challenge=b"\x00challenge"
        )
    found = Challenge.find(ALICE, opened.challenge_id, NOW)
    assert (found.method, found.user_verification, found.code_digest) == ("webauthn", "required", None)
    assert found.webauthn_challenge is not None
    assert bytes(found.webauthn_challenge) == b"\x00challenge"
    assert (found.created_at, found.expires_at) == (NOW, NOW + timedelta(minutes=5))


@pytest.mark.parametrize("asked", [ALICE, BACKEND, SESSION])
def test_stp_01_only_who_asked_finds_it(asked: Caller) -> None:
    opened = challenge(asked)
    for caller in (ALICE, BACKEND, SESSION, replace(ALICE, session="other"), BOB):
        if caller == asked:
            Challenge.find(caller, opened.challenge_id, NOW)
        else:
            with pytest.raises(ChallengeNotFound):
                Challenge.find(caller, opened.challenge_id, NOW)
    with pytest.raises(ChallengeNotFound):
        Challenge.find(asked, uuid.uuid4(), NOW)


@pytest.mark.parametrize(("code", "minutes"), [(None, 5), ("012345", 10)])
def test_stp_01_it_ends(code: str | None, minutes: int) -> None:
    opened = challenge(code=code)
    end = NOW + timedelta(minutes=minutes)
    assert opened.expires_at == end
    Challenge.find(ALICE, opened.challenge_id, end - timedelta(microseconds=1))
    with pytest.raises(ChallengeNotFound):
        Challenge.find(ALICE, opened.challenge_id, end)


def test_atm_01_it_is_taken_once() -> None:
    opened = challenge()
    same = Challenge.find(ALICE, opened.challenge_id, NOW)
    with atomic():
        assert opened.take()
        assert not opened.take()
        assert not same.take()
    with pytest.raises(ChallengeNotFound):
        Challenge.find(ALICE, opened.challenge_id, NOW)


def test_eml_04_a_mailed_code_fits_its_challenge_alone() -> None:
    first, other = challenge(code="012345"), challenge(BOB, code="012345")
    first.check("012345")
    for code in ("012346", "12345", ""):
        with pytest.raises(InvalidCode):
            first.check(code)
    moved = Challenge(**{**other.__data__, "code_digest": first.code_digest})
    with pytest.raises(InvalidCode):
        moved.check("012345")
    with pytest.raises(InvalidCode):
        challenge().check("012345")


def test_eml_03_a_new_mailed_code_kills_the_one_before_whoever_asked() -> None:
    first = challenge(code="012345")
    plain, theirs = challenge(), challenge(BOB, code="012345")
    second = challenge(BACKEND, code="678901")
    with pytest.raises(ChallengeNotFound):
        Challenge.find(ALICE, first.challenge_id, NOW)
    assert Challenge.mailed(ALICE, NOW) is None
    mailed = Challenge.mailed(BACKEND, NOW)
    assert mailed is not None
    assert mailed.challenge_id == second.challenge_id
    Challenge.find(ALICE, plain.challenge_id, NOW)
    Challenge.find(BOB, theirs.challenge_id, NOW)


def test_the_mailed_challenge_is_found_until_it_ends_and_without_its_name() -> None:
    challenge()
    assert Challenge.mailed(ALICE, NOW) is None
    opened = challenge(code="012345")
    found = Challenge.mailed(ALICE, NOW + timedelta(minutes=10, microseconds=-1))
    assert found is not None
    assert found.challenge_id == opened.challenge_id
    assert Challenge.mailed(ALICE, NOW + timedelta(minutes=10)) is None
    assert Challenge.mailed(SESSION, NOW) is None


def test_the_five_newest_of_each_user_stay_open() -> None:
    theirs = challenge(BOB)
    opened = [challenge(now=NOW + timedelta(seconds=seconds)) for seconds in range(8)]
    kept = {row.challenge_id for row in Challenge.select().where(Challenge.user == ALICE.id)}
    assert kept == {row.challenge_id for row in opened[3:]}
    Challenge.find(BOB, theirs.challenge_id, NOW)
