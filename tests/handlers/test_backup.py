"""Backup codes: made with the first method, spent once each, made anew, gone with the last method."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from factors.errors import InvalidCode, NotEnabled, TooManyAttempts, TotpRequired
from storage.backup import BackupCode, BackupCodeSet
from tests.authenticator import Authenticator
from tests.states import Person, World

ENROL: dict[str, Callable[[Person], object]] = {
    "totp": Person.enrol_totp,
    "email": Person.enrol_email,
    "webauthn": Person.enrol_key,
}


@pytest.mark.parametrize("first", ENROL)
def test_the_first_method_brings_ten_codes_and_the_others_none(alice: Person, first: str) -> None:
    answer = ENROL[first](alice)
    assert isinstance(answer, dict)
    assert len(set(answer["backup_codes"])) == 10
    for other in set(ENROL) - {first}:
        answer = ENROL[other](alice)
        assert isinstance(answer, dict)
        assert "backup_codes" not in answer
    assert alice.listed()["backup_codes"]["remaining"] == 10


def test_auz_05_the_codes_stay_until_the_last_method_goes(user_with_everything: Person) -> None:
    alice = user_with_everything
    alice.call("totp.disable", code=alice.next_code())
    alice.call("webauthn.remove", device_id=alice.device_id("webauthn"))
    assert alice.listed()["backup_codes"]["total"] == 10
    alice.call("email.disable", code=alice.backup_code())
    assert alice.listed() == {
        "mfa_enabled": False,
        "methods": [],
        "backup_codes": {"total": 0, "remaining": 0, "generated_at": None},
    }
    assert not BackupCodeSet.select().exists()
    assert not BackupCode.select().exists()


def test_auz_05_codes_of_an_earlier_life_are_dead(user_with_totp: Person) -> None:
    old = user_with_totp.backup_code()
    user_with_totp.call("totp.disable", code=user_with_totp.next_code())
    user_with_totp.enrol_totp()
    with pytest.raises(InvalidCode):
        user_with_totp.call("totp.disable", code=old)
    user_with_totp.call("totp.disable", code=user_with_totp.backup_code())


def test_regenerate_makes_ten_new_codes_and_the_old_ones_are_dead(user_with_totp: Person, world: World) -> None:
    old = list(user_with_totp.backup_codes)
    world.later(hours=1)
    answer = user_with_totp.call("backup.regenerate", code=user_with_totp.code())
    new = answer["backup_codes"]
    assert answer["generated_at"] == "2026-03-01T13:00:00Z"
    assert len(set(new)) == 10
    assert not set(new) & set(old)
    assert user_with_totp.listed()["backup_codes"] == {
        "total": 10,
        "remaining": 10,
        "generated_at": "2026-03-01T13:00:00Z",
    }
    for code in old[:4]:
        with pytest.raises(InvalidCode):
            user_with_totp.verify(user_with_totp.challenge(), code=code)
    user_with_totp.verify(user_with_totp.challenge(), code=new[0])
    assert user_with_totp.events()[2] == ("backup_codes.regenerated", None)
    assert user_with_totp.notices()["backup_codes.regenerated"] == 1


def test_bck_05_a_backup_code_never_regenerates(user_with_everything: Person) -> None:
    """The contract has no room for one; an assertion by one is refused."""
    assertion = user_with_everything.prove("backup_code")
    before = user_with_everything.listed()
    with pytest.raises(InvalidCode):
        user_with_everything.call("backup.regenerate", code=assertion)
    assert user_with_everything.listed() == before
    assert user_with_everything.events()[-1] == ("proof.refused", "too weak")


@pytest.mark.parametrize("method", ["totp", "webauthn"])
def test_regenerate_takes_an_assertion_by_what_is_stronger(user_with_everything: Person, method: str) -> None:
    user_with_everything.call("backup.regenerate", code=user_with_everything.prove(method))


def test_auz_04_regenerate_takes_an_email_assertion_only_where_nothing_is_stronger(user_with_email: Person) -> None:
    user_with_email.call("backup.regenerate", code=user_with_email.prove("email"))
    user_with_email.enrol_key()
    with pytest.raises(InvalidCode):
        user_with_email.call("backup.regenerate", code=user_with_email.prove("email"))


def test_regenerate_takes_a_mailed_code_where_email_is_all_there_is(user_with_email: Person, world: World) -> None:
    world.later(minutes=2)
    user_with_email.challenge("email")
    code = user_with_email.mailed_code()
    user_with_email.call("backup.regenerate", code=code)
    with pytest.raises(TotpRequired):
        user_with_email.call("backup.regenerate", code=code)


def test_regenerate_takes_no_mailed_code_while_an_authenticator_is_on(
    user_with_everything: Person, world: World
) -> None:
    world.later(minutes=2)
    user_with_everything.challenge("email")
    with pytest.raises(InvalidCode):
        user_with_everything.call("backup.regenerate", code=user_with_everything.mailed_code())


@pytest.mark.parametrize("enrol", [Person.enrol_email, Person.enrol_key])
def test_regenerate_without_authenticator_and_mailed_code_is_a_clash_and_costs_no_attempt(
    alice: Person, enrol: Callable[[Person], object]
) -> None:
    enrol(alice)
    for _ in range(9):
        with pytest.raises(TotpRequired):
            alice.call("backup.regenerate", code="000000")
    alice.prove("backup_code")


def test_regenerate_without_any_method_is_a_clash(alice: Person) -> None:
    alice.scan()
    with pytest.raises(NotEnabled):
        alice.call("backup.regenerate", code=alice.code())


@pytest.mark.parametrize("typed", [str.lower, lambda code: code.replace("-", ""), lambda code: code.replace("-", " ")])
def test_bck_01_a_code_works_however_it_is_typed(user_with_totp: Person, typed: Callable[[str], str]) -> None:
    user_with_totp.verify(user_with_totp.challenge(), code=typed(user_with_totp.backup_code()))


def test_bck_03_a_code_works_once_whichever_way_it_is_typed_and_wherever(user_with_totp: Person) -> None:
    code = user_with_totp.backup_code()
    user_with_totp.verify(user_with_totp.challenge(), code=code)
    for again in (code, code.lower(), code.replace("-", "")):
        with pytest.raises(InvalidCode):
            user_with_totp.verify(user_with_totp.challenge(), code=again)
    with pytest.raises(InvalidCode):
        user_with_totp.call("totp.disable", code=code)
    assert user_with_totp.listed()["backup_codes"]["remaining"] == 9


def test_bck_03_a_code_is_spent_on_what_it_was_shown_for_and_not_when_that_was_refused(user_with_totp: Person) -> None:
    code = user_with_totp.backup_code()
    opened = user_with_totp.challenge("totp")
    with pytest.raises(InvalidCode):
        user_with_totp.verify(opened, code=code)
    assert user_with_totp.listed()["backup_codes"]["remaining"] == 10
    user_with_totp.verify(user_with_totp.challenge("backup_code"), code=code)


def test_bck_04_a_code_works_only_for_its_owner(user_with_totp: Person, mallory: Person) -> None:
    code = user_with_totp.backup_code()
    with pytest.raises(InvalidCode):
        mallory.verify(mallory.challenge(), code=code)
    with pytest.raises(InvalidCode):
        mallory.call("totp.disable", code=code)
    user_with_totp.verify(user_with_totp.challenge(), code=code)


def test_bck_06_the_owner_hears_of_every_use_and_how_many_are_left(user_with_totp: Person, world: World) -> None:
    for _ in range(3):
        user_with_totp.prove("backup_code")
    used = [mail.values["remaining"] for mail in world.mails() if mail.values.get("event") == "backup_code.used"]
    assert sorted(used) == [7, 8, 9]


def test_bck_07_guesses_at_backup_codes_spend_the_same_budget(user_with_totp: Person) -> None:
    for n in range(5):
        with pytest.raises(InvalidCode):
            user_with_totp.call("totp.disable", code=f"0000-0000-0000-000{n}")
    with pytest.raises(TooManyAttempts):
        user_with_totp.call("totp.disable", code=user_with_totp.code(1))


def test_bck_08_one_backup_code_is_good_for_one_change_and_the_owner_hears_of_both(
    user_with_everything: Person,
) -> None:
    alice = user_with_everything
    alice.world.set(step_up="required")
    assertion = alice.prove("backup_code")
    alice.call("webauthn.remove", device_id=alice.device_id("webauthn"), assertion=assertion)
    for operation in ("totp.disable", "email.disable"):
        with pytest.raises(InvalidCode):
            alice.call(operation, code=assertion)
    notices = alice.notices()
    assert notices["backup_code.used"] == notices["backup_code.recovery"] == notices["webauthn.disabled"] == 1
    assert alice.methods() == ["totp", "email"]


def test_bck_06_spent_codes_are_not_offered(user_with_totp: Person) -> None:
    for _ in range(10):
        user_with_totp.prove("backup_code")
    assert user_with_totp.challenge()["methods"] == ["totp"]
    with pytest.raises(NotEnabled):
        user_with_totp.challenge("backup_code")


def test_a_user_with_spent_codes_gets_new_ones_and_can_use_them(user_with_key: Person) -> None:
    for _ in range(10):
        user_with_key.prove("backup_code")
    made = user_with_key.call("backup.regenerate", code=user_with_key.prove("webauthn"))
    assert all(re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){3}", code) for code in made["backup_codes"])
    user_with_key.backup_codes = made["backup_codes"]
    user_with_key.prove("backup_code")


def test_no_code_is_kept_in_clear(user_with_totp: Person) -> None:
    kept = b"".join(bytes(row.digest) for row in BackupCode.select()) + bytes(BackupCodeSet.get().salt)
    for code in user_with_totp.backup_codes:
        assert code.encode() not in kept
        assert code.replace("-", "").encode() not in kept


def test_two_keys_of_one_user_share_one_set(user_with_key: Person) -> None:
    assert "backup_codes" not in user_with_key.enrol_key(Authenticator())
    assert BackupCodeSet.select().count() == 1
