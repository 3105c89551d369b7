"""One place where codes are judged, and one budget of wrong ones over all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from factors.errors import (
    AlreadyEnabled,
    ChallengeNotFound,
    InvalidCode,
    InvalidCredential,
    NotEnabled,
    Refusal,
    TooManyAttempts,
)
from handlers import backup as backup_handlers
from storage.backup import BackupCodeSet
from storage.challenge import Challenge
from storage.database import connection
from storage.user import User
from tests.authenticator import UP, Authenticator
from tests.calling import CONTRACT, validator
from tests.states import Person, World

# Every operation that looks at a code, and what must be there first.
JUDGES: dict[str, Callable[[Person], object]] = {
    "totp.confirm": Person.scan,
    "email.confirm": lambda person: person.call("email.enable"),
    "totp.disable": Person.enrol_totp,
    "email.disable": Person.enrol_email,
    "backup.regenerate": Person.enrol_totp,
    "verification.verify": Person.enrol_totp,
}


def guess(person: Person, operation: str, **given: str) -> None:
    with pytest.raises(InvalidCode):
        person.call(operation, code=person.wrong_code(), **given)


def lock(person: Person) -> None:
    """Spend the whole budget of a user with an authenticator app."""
    for _ in range(5):
        guess(person, "totp.disable")


def locked_for(person: Person, operation: str = "totp.disable", **given: str) -> int:
    with pytest.raises(TooManyAttempts) as caught:
        person.call(operation, code=person.wrong_code(), **given)
    assert caught.value.retry_after is not None
    return caught.value.retry_after


@pytest.mark.parametrize("operation", JUDGES)
def test_thr_04_every_operation_that_looks_at_a_code_allows_five_wrong_ones(alice: Person, operation: str) -> None:
    JUDGES[operation](alice)
    given = {"challenge_id": alice.challenge()["challenge_id"]} if operation == "verification.verify" else {}
    for _ in range(5):
        guess(alice, operation, **given)
    assert locked_for(alice, operation, **given) == 30


def test_thr_01_the_budget_is_one_over_all_operations_and_challenges(user_with_everything: Person) -> None:
    alice = user_with_everything
    guess(alice, "totp.disable")
    guess(alice, "email.disable")
    guess(alice, "backup.regenerate")
    with pytest.raises(InvalidCode):
        alice.call("totp.disable", code="0000-0000-0000-0000")
    guess(alice, "verification.verify", challenge_id=alice.challenge("totp")["challenge_id"])
    for operation in ("totp.disable", "email.disable", "backup.regenerate"):
        assert locked_for(alice, operation) == 30
    assert locked_for(alice, "verification.verify", challenge_id=alice.challenge()["challenge_id"]) == 30


def test_thr_01_every_further_wrong_code_locks_twice_as_long_up_to_an_hour(
    user_with_totp: Person, world: World
) -> None:
    lock(user_with_totp)
    lengths = []
    for _ in range(10):
        lengths.append(locked_for(user_with_totp))
        world.later(seconds=lengths[-1])
        guess(user_with_totp, "totp.disable")
    assert lengths == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_api_07_retry_after_is_exact(user_with_totp: Person, world: World) -> None:
    lock(user_with_totp)
    world.later(seconds=29.5)
    assert locked_for(user_with_totp) == 1
    world.later(seconds=0.499999)
    assert locked_for(user_with_totp) == 1
    world.later(microseconds=1)
    user_with_totp.call("totp.disable", code=user_with_totp.code())


def test_thr_08_a_locked_answer_is_the_same_for_right_and_wrong_codes(user_with_totp: Person) -> None:
    lock(user_with_totp)
    answers = []
    for code in (user_with_totp.code(1), user_with_totp.backup_codes[0], user_with_totp.wrong_code(), "000000"):
        with pytest.raises(TooManyAttempts) as caught:
            user_with_totp.call("totp.disable", code=code)
        answers.append((caught.value.detail, caught.value.retry_after, caught.value.reason))
    assert len(set(answers)) == 1


def test_thr_08_a_locked_answer_spends_nothing_and_locks_no_longer(user_with_totp: Person, world: World) -> None:
    lock(user_with_totp)
    for _ in range(20):
        locked_for(user_with_totp)
    world.later(seconds=30)
    user_with_totp.verify(user_with_totp.challenge(), code=user_with_totp.backup_codes[0])


def test_thr_01_a_right_code_makes_the_budget_whole(user_with_totp: Person) -> None:
    for _ in range(3):
        for _ in range(4):
            guess(user_with_totp, "totp.disable")
        user_with_totp.prove("totp")
    lock(user_with_totp)
    assert locked_for(user_with_totp) == 30


def test_thr_06_a_key_works_while_codes_are_locked_and_makes_the_budget_whole(user_with_everything: Person) -> None:
    lock(user_with_everything)
    user_with_everything.prove("webauthn")
    for _ in range(4):
        guess(user_with_everything, "totp.disable")
    user_with_everything.verify(user_with_everything.challenge(), code=user_with_everything.code(1))


def test_thr_06_a_refused_key_is_no_wrong_code(user_with_everything: Person) -> None:
    for _ in range(9):
        opened = user_with_everything.challenge("webauthn")
        with pytest.raises(InvalidCredential):
            user_with_everything.verify(opened, credential=user_with_everything.answer(opened, clear_flags=UP))
    user_with_everything.prove("totp")


def test_thr_06_a_locked_users_assertion_still_changes_factors(user_with_everything: Person) -> None:
    assertion = user_with_everything.prove("totp")
    lock(user_with_everything)
    user_with_everything.call("email.disable", code=assertion)


def test_a_wrong_assertion_is_no_wrong_code_since_it_cannot_be_guessed(user_with_totp: Person) -> None:
    for _ in range(9):
        with pytest.raises(InvalidCode):
            user_with_totp.call("totp.disable", code="a.b.c")
    assert user_with_totp.events()[-1] == ("proof.refused", "assertion")
    user_with_totp.prove("totp")


def test_thr_01_one_users_wrong_codes_are_not_anothers(user_with_totp: Person, mallory: Person) -> None:
    lock(user_with_totp)
    mallory.prove("totp")


def test_thr_07_what_breaks_the_contract_or_the_state_is_no_guess(user_with_totp: Person) -> None:
    for _ in range(9):
        with pytest.raises(AlreadyEnabled):
            user_with_totp.call("totp.confirm", code="000000")
        with pytest.raises(NotEnabled):
            user_with_totp.call("email.disable", code="000000")
    user_with_totp.prove("totp")


@pytest.mark.parametrize("failed_before", [0, 3, 4, 6])
def test_thr_07_an_error_of_ours_gives_the_attempt_and_its_lock_back(
    user_with_totp: Person, world: World, monkeypatch: pytest.MonkeyPatch, failed_before: int
) -> None:
    for _ in range(failed_before):
        world.later(hours=1)
        guess(user_with_totp, "totp.disable")
    world.later(hours=1)

    def broken() -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(backup_handlers.NewSet, "make", broken)
        for _ in range(9):
            with pytest.raises(ZeroDivisionError):
                user_with_totp.call("backup.regenerate", code=user_with_totp.code())
    assert User.get().failures == failed_before
    user_with_totp.call("backup.regenerate", code=user_with_totp.code())


def test_atm_02_an_error_of_ours_after_the_code_was_right_spends_nothing(
    user_with_totp: Person, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = user_with_totp.listed()
    world.later(minutes=1)
    code, backup_code = user_with_totp.code(), user_with_totp.backup_code()

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("storage.audit.record", broken)
        for shown in (code, backup_code):
            with pytest.raises(ZeroDivisionError):
                user_with_totp.call("totp.disable", code=shown)
    assert user_with_totp.listed() == before
    assert user_with_totp.notices() == {"totp.enabled": 1}
    opened = user_with_totp.challenge()
    user_with_totp.verify(opened, code=code)
    user_with_totp.call("totp.disable", code=backup_code)


def test_not_03_a_refusal_and_the_lock_it_brings_are_on_record_and_the_user_is_told(user_with_totp: Person) -> None:
    lock(user_with_totp)
    refused = ("proof.refused", "wrong")
    assert user_with_totp.events()[-6:] == [*[refused] * 5, ("proof.locked", None)]
    assert user_with_totp.notices()["locked"] == 1
    locked_for(user_with_totp)
    assert user_with_totp.notices()["locked"] == 1


def test_prv_01_wrong_replayed_foreign_expired_and_impossible_codes_get_one_answer(
    user_with_everything: Person, mallory: Person, world: World
) -> None:
    alice = user_with_everything
    world.later(minutes=2)
    alice.challenge("email")
    expired = alice.mailed_code()
    world.later(minutes=11)
    spent_backup_code = alice.backup_codes[0]
    alice.prove("totp")
    replayed = alice.code()
    alice.verify(alice.challenge(), code=spent_backup_code)
    codes = {
        "wrong": alice.wrong_code(),
        "replayed": replayed,
        "foreign": mallory.code(),
        "expired": expired,
        "of no backup code": "ZZZZ-ZZZZ-ZZZZ-ZZZZ",
        "of a spent backup code": spent_backup_code,
        "of another's backup code": mallory.backup_codes[0],
        "of a forged assertion": "a.b.c",
    }
    answers = []
    for code in codes.values():
        with pytest.raises(Refusal) as caught:
            alice.call("totp.disable", code=code)
        refusal = caught.value
        answers.append((refusal.status, refusal.code, refusal.title, refusal.detail, refusal.retry_after))
        alice.prove("webauthn")
    assert len(set(answers)) == 1


# Full-width, Arabic-Indic and mathematical digits first: some libraries take them for ASCII ones.
DIGITS = ["".join(chr(zero + digit) for digit in range(1, 7)) for zero in (0xFF10, 0x0660, 0x1D7CE)]
DIGITS += ["123456\n", "12345", "1234567", " 123456", "12 3456", "+12345", "0x1234", ""]
BODIES = ["ConfirmTotpRequest", "EmailMFAConfirmRequest", "RegenerateBackupCodesRequest"]


@pytest.mark.parametrize("schema", [*BODIES, "DisableTotpRequest", "DisableEmailMFARequest", "VerifyRequest"])
def test_otp_04_only_ascii_digits_reach_a_handler(schema: str) -> None:
    """Other digits would be the same code in another form, and replay."""
    body = validator(CONTRACT["components"]["schemas"][schema])
    challenge = {"challenge_id": "c4a5b1de-7a0c-4a8e-9d4e-1c2f3a4b5c6d"} if schema == "VerifyRequest" else {}
    assert body.is_valid({**challenge, "code": "012345"})
    assert [code for code in DIGITS if body.is_valid({**challenge, "code": code})] == []


@pytest.mark.parametrize("schema", [*BODIES, "DisableTotpRequest", "DisableEmailMFARequest", "VerifyRequest"])
def test_stp_06_absence_is_no_proof(schema: str) -> None:
    body = validator(CONTRACT["components"]["schemas"][schema])
    challenge = {"challenge_id": "c4a5b1de-7a0c-4a8e-9d4e-1c2f3a4b5c6d"} if schema == "VerifyRequest" else {}
    values: list[object] = [None, "", [], {}, 0, 123456, True, ["123456"], {"$ne": ""}]
    assert [value for value in values if body.is_valid({**challenge, "code": value})] == []
    assert not body.is_valid({**challenge, "code": "012345", "valid": True})
    assert not body.is_valid(challenge)
    assert not body.is_valid(None)


def test_stp_06_code_and_credential_together_or_an_unknown_method_are_no_request(user_with_key: Person) -> None:
    schemas = CONTRACT["components"]["schemas"]
    challenge = {"challenge_id": "c4a5b1de-7a0c-4a8e-9d4e-1c2f3a4b5c6d"}
    credential = user_with_key.answer(user_with_key.challenge())
    verify = validator(schemas["VerifyRequest"])
    assert verify.is_valid({**challenge, "credential": credential})
    assert not verify.is_valid({**challenge, "credential": credential, "code": "012345"})
    assert not verify.is_valid({**challenge, "credential": {}})
    opening = validator(schemas["ChallengeRequest"])
    methods: list[object] = [None, "", "none", "sms", [], "TOTP"]
    assert [method for method in methods if opening.is_valid({"method": method})] == []


def in_threads(count: int, act: Callable[[int], object]) -> list[object]:
    """What each of so many threads, that start together, returns or is refused."""
    start = threading.Barrier(count)
    results: list[object] = []

    def run(number: int) -> None:
        with connection():
            start.wait()
            try:
                results.append(act(number))
            except Refusal as refusal:
                results.append(refusal.code)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_thr_02_of_many_wrong_codes_at_once_five_are_looked_at(user_with_totp: Person) -> None:
    wrong = user_with_totp.wrong_code()
    results = in_threads(20, lambda _: user_with_totp.call("totp.disable", code=wrong))
    assert sorted(map(str, results)) == ["invalid_code"] * 5 + ["too_many_attempts"] * 15
    assert user_with_totp.notices()["locked"] == 1


@pytest.mark.parametrize("kind", ["totp", "backup code", "mailed code"])
def test_atm_01_one_code_shown_by_many_at_once_opens_one_door(user_with_everything: Person, kind: str) -> None:
    alice = user_with_everything
    alice.world.later(minutes=2)
    opened = [alice.challenge("email" if kind == "mailed code" else None)] * 4
    if kind != "mailed code":
        opened = [alice.challenge() for _ in range(4)]
    code = {"totp": alice.code(), "backup code": alice.backup_codes[0], "mailed code": alice.mailed_code()}[kind]
    results = in_threads(4, lambda number: alice.verify(opened[number], code=code)["verified"])
    assert results.count(True) == 1
    assert {result for result in results if result is not True} <= {"invalid_code", "challenge_not_found"}


def test_atm_01_one_challenge_answered_by_many_at_once_is_satisfied_once(user_with_everything: Person) -> None:
    alice = user_with_everything
    opened = alice.challenge()
    codes = alice.backup_codes[:4]
    results = in_threads(4, lambda number: alice.verify(opened, code=codes[number])["verified"])
    assert results.count(True) == 1
    assert alice.listed()["backup_codes"]["remaining"] == 9


def test_atm_03_two_first_methods_at_once_share_one_set_of_codes(alice: Person) -> None:
    alice.scan()
    begun = alice.call("webauthn.begin")
    acts = [lambda: alice.call("totp.confirm", code=alice.code()), lambda: alice.complete(begun, Authenticator())]
    answers = in_threads(2, lambda number: acts[number]())
    shown = [answer for answer in answers if isinstance(answer, dict) and "backup_codes" in answer]
    assert len(shown) == 1
    alice.backup_codes = shown[0]["backup_codes"]
    assert sorted(alice.methods()) == ["totp", "webauthn"]
    alice.prove("backup_code")


def once_after(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], object]) -> None:
    """Let something happen between two steps of a request: right after the first call of a function."""
    original = getattr(owner, name)

    def interrupted(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        monkeypatch.setattr(owner, name, original)
        act()
        return result

    monkeypatch.setattr(owner, name, interrupted)


def test_stp_01_a_challenge_that_another_request_satisfied_since_it_was_found_is_gone(
    user_with_everything: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = user_with_everything
    for by_key in (False, True):
        opened = alice.challenge()
        answer = {"credential": alice.answer(opened)} if by_key else {"code": alice.backup_codes[0]}
        other = alice.backup_codes[1 + by_key]
        once_after(monkeypatch, Challenge, "find", partial(alice.verify, opened, code=other))
        with pytest.raises(ChallengeNotFound):
            alice.verify(opened, **answer)
    assert alice.listed()["backup_codes"]["remaining"] == 8
    assert User.get().failures == 0


def test_atm_01_a_mailed_code_that_another_request_spent_since_it_was_looked_at_is_spent(
    user_with_email: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_with_email.world.later(minutes=2)
    opened = user_with_email.challenge("email")
    code = user_with_email.mailed_code()
    before = bytes(BackupCodeSet.get().salt)
    once_after(monkeypatch, Challenge, "check", partial(user_with_email.verify, opened, code=code))
    with pytest.raises(InvalidCode):
        user_with_email.call("backup.regenerate", code=code)
    assert user_with_email.events()[-1] == ("proof.refused", "spent")
    assert bytes(BackupCodeSet.get().salt) == before


def test_a_backup_code_of_a_set_that_is_gone_is_a_wrong_code(user_with_totp: Person) -> None:
    opened = user_with_totp.challenge()
    BackupCodeSet.delete().execute()
    with pytest.raises(InvalidCode):
        user_with_totp.verify(opened, code=user_with_totp.backup_codes[0])
    assert user_with_totp.events()[-1] == ("proof.refused", "not enabled")


def test_the_lock_is_counted_on_the_servers_clock(user_with_totp: Person, world: World) -> None:
    """A clock that is put back makes a lock longer, never shorter."""
    lock(user_with_totp)
    world.later(seconds=-60)
    assert locked_for(user_with_totp) == 90
    world.later(seconds=90)
    assert User.get().locked_until == world.now
    user_with_totp.call("totp.disable", code=user_with_totp.backup_codes[0])


def test_atm_03_codes_come_with_the_first_method_when_the_last_one_goes_meanwhile(
    user_with_key: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were there when the request looked, and gone when it was done."""
    alice = user_with_key
    alice.scan()
    device_id = alice.device_id("webauthn")
    remove = partial(alice.call, "webauthn.remove", device_id=device_id)
    once_after(monkeypatch, backup_handlers.NewSet, "for_first_method", remove)
    alice.backup_codes = alice.call("totp.confirm", code=alice.code())["backup_codes"]
    assert alice.listed()["backup_codes"]["remaining"] == 10
    alice.prove("backup_code")
