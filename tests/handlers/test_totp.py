"""The authenticator app: set up, shown once, confirmed, used, destroyed."""

from __future__ import annotations

import base64

import pytest

from factors.errors import AlreadyEnabled, InvalidCode, NoPendingEnrolment, NotEnabled
from storage import sealing
from storage.database import atomic
from storage.totp import TotpSecret
from tests.authenticator_app import AuthenticatorApp, code_at_step, step_at
from tests.states import NOW, Person, World


def test_enable_shows_a_secret_in_three_forms_and_turns_nothing_on(alice: Person) -> None:
    enrolment = alice.call("totp.enable")
    app = AuthenticatorApp.scan(enrolment["otpauth_uri"])
    assert app == AuthenticatorApp(base64.b32decode(enrolment["secret"]), "Example Inc.", "alice@example.com")
    assert enrolment["expires_at"] == "2026-03-01T12:10:00Z"
    assert alice.listed() == {
        "mfa_enabled": False,
        "methods": [],
        "backup_codes": {"total": 0, "remaining": 0, "generated_at": None},
    }
    assert alice.events() == [("totp.begun", None)]


def test_confirm_turns_it_on_and_shows_ten_backup_codes(alice: Person) -> None:
    alice.scan()
    enabled = alice.call("totp.confirm", code=alice.code())
    [method] = alice.listed()["methods"]
    assert len(enabled["backup_codes"]) == 10
    assert method == {
        "type": "totp",
        "device_id": enabled["device_id"],
        "name": "Authenticator app",
        "created_at": "2026-03-01T12:00:00Z",
        "last_used_at": "2026-03-01T12:00:00Z",
    }
    assert alice.events() == [("totp.begun", None), ("totp.enabled", None)]
    assert alice.notices() == {"totp.enabled": 1}


def test_otp_01_every_enrolment_has_a_secret_of_its_own(alice: Person) -> None:
    assert len({alice.call("totp.enable")["secret"] for _ in range(20)}) == 20


def test_auz_07_a_second_enable_kills_the_first_secret(alice: Person) -> None:
    first = alice.scan()
    second = alice.scan()
    with pytest.raises(InvalidCode):
        alice.call("totp.confirm", code=first.code(alice.world.now))
    alice.call("totp.confirm", code=second.code(alice.world.now))


def test_auz_07_enable_while_on_shows_nothing_and_leaves_what_is_on(user_with_totp: Person) -> None:
    with pytest.raises(AlreadyEnabled):
        user_with_totp.call("totp.enable")
    user_with_totp.challenge()
    user_with_totp.prove("totp")


def test_auz_06_an_enrolment_ends_after_ten_minutes(alice: Person, world: World) -> None:
    alice.scan()
    world.later(minutes=10)
    with pytest.raises(NoPendingEnrolment):
        alice.call("totp.confirm", code=alice.code())
    world.later(microseconds=-1)
    alice.call("totp.confirm", code=alice.code())


def test_auz_08_nothing_is_confirmed_that_was_not_begun(alice: Person) -> None:
    with pytest.raises(NoPendingEnrolment):
        alice.call("totp.confirm", code="123456")
    alice.call("email.enable")
    with pytest.raises(NoPendingEnrolment):
        alice.call("totp.confirm", code=alice.mailed_code())


def test_auz_08_another_users_enrolment_is_none(alice: Person, world: World) -> None:
    app = alice.scan()
    bob = Person(world, "bob")
    with pytest.raises(NoPendingEnrolment):
        bob.call("totp.confirm", code=app.code(world.now))
    bob.scan()
    with pytest.raises(InvalidCode):
        bob.call("totp.confirm", code=app.code(world.now))


def test_confirming_twice_is_a_clash_and_costs_no_attempt(user_with_totp: Person) -> None:
    for _ in range(9):
        with pytest.raises(AlreadyEnabled):
            user_with_totp.call("totp.confirm", code="000000")
    user_with_totp.prove("totp")


def test_a_wrong_code_confirms_nothing_and_is_on_record(alice: Person) -> None:
    alice.scan()
    with pytest.raises(InvalidCode):
        alice.call("totp.confirm", code=alice.wrong_code())
    assert alice.methods() == []
    assert alice.events()[-1] == ("proof.refused", "wrong")
    assert not alice.notices()
    alice.call("totp.confirm", code=alice.code())


@pytest.mark.parametrize("steps", [-1, 0, 1])
def test_otp_05_previous_current_and_next_step_confirm(alice: Person, steps: int) -> None:
    alice.scan()
    alice.call("totp.confirm", code=alice.code(steps))


@pytest.mark.parametrize("steps", [-2, 2])
def test_otp_05_a_step_further_off_does_not(alice: Person, steps: int) -> None:
    alice.scan()
    with pytest.raises(InvalidCode):
        alice.call("totp.confirm", code=alice.code(steps))


def test_otp_05_the_window_can_be_set_down_to_the_current_step(alice: Person, world: World) -> None:
    world.set(totp_window=0)
    alice.scan()
    for steps in (-1, 1):
        with pytest.raises(InvalidCode):
            alice.call("totp.confirm", code=alice.code(steps))
    alice.call("totp.confirm", code=alice.code())
    world.later(seconds=30)
    with pytest.raises(InvalidCode):
        alice.call("totp.disable", code=alice.code(1))
    alice.call("totp.disable", code=alice.code())


@pytest.mark.parametrize("operation", ["totp.disable", "email.disable", "backup.regenerate", "verification.verify"])
@pytest.mark.parametrize("steps", [-1, 0])
def test_otp_03_the_step_that_confirmed_and_earlier_ones_are_shut_everywhere(
    user_with_everything: Person, operation: str, steps: int
) -> None:
    alice = user_with_everything
    given = {"challenge_id": alice.challenge()["challenge_id"]} if operation == "verification.verify" else {}
    with pytest.raises(InvalidCode):
        alice.call(operation, code=alice.code(steps), **given)
    assert alice.events()[-1] == ("proof.refused", "spent")
    assert len(alice.methods()) == 3
    alice.call(operation, code=alice.code(1), **given)


def test_otp_03_a_later_step_shuts_the_one_before_it(user_with_totp: Person, world: World) -> None:
    world.later(minutes=5)
    user_with_totp.verify(user_with_totp.challenge(), code=user_with_totp.code(1))
    for steps in (-1, 0, 1):
        with pytest.raises(InvalidCode):
            user_with_totp.verify(user_with_totp.challenge(), code=user_with_totp.code(steps))
    world.later(seconds=60)
    user_with_totp.verify(user_with_totp.challenge(), code=user_with_totp.code())


def test_otp_06_a_clock_that_is_put_back_opens_no_step_again(user_with_totp: Person, world: World) -> None:
    opened = user_with_totp.challenge()
    for _ in range(3):
        world.later(seconds=-30)
        with pytest.raises(InvalidCode):
            user_with_totp.verify(opened, code=user_with_totp.code(1))
    world.now = NOW
    user_with_totp.prove("totp")


def test_disable_takes_a_code_and_leaves_nothing(user_with_totp: Person) -> None:
    answer = user_with_totp.call("totp.disable", code=user_with_totp.next_code())
    assert answer == {"type": "totp", "enabled": False, "mfa_enabled": False}
    assert not user_with_totp.listed()["mfa_enabled"]
    assert user_with_totp.listed()["backup_codes"]["total"] == 0
    assert not TotpSecret.select().exists()
    assert user_with_totp.events()[-1] == ("totp.disabled", None)
    assert user_with_totp.notices() == {"totp.enabled": 1, "totp.disabled": 1}


def test_disable_takes_a_backup_code_which_is_spent(user_with_everything: Person) -> None:
    alice = user_with_everything
    code = alice.backup_code()
    assert alice.call("totp.disable", code=code)["mfa_enabled"]
    assert alice.listed()["backup_codes"]["remaining"] == 9
    assert alice.notices()["backup_code.used"] == alice.notices()["totp.disabled"] == 1
    assert [kind for kind, _ in alice.events()[-2:]] == ["backup_code.used", "totp.disabled"]
    with pytest.raises(InvalidCode):
        alice.call("email.disable", code=code)


def test_disable_takes_no_mailed_code(user_with_everything: Person, world: World) -> None:
    world.later(minutes=2)
    user_with_everything.challenge("email")
    with pytest.raises(InvalidCode):
        user_with_everything.call("totp.disable", code=user_with_everything.mailed_code())
    assert "totp" in user_with_everything.methods()


def test_disable_without_an_authenticator_is_a_clash_and_costs_no_attempt(user_with_email: Person) -> None:
    for _ in range(9):
        with pytest.raises(NotEnabled):
            user_with_email.call("totp.disable", code="000000")
    assert user_with_email.call("email.disable", code=user_with_email.backup_code())


def test_stp_05_a_pending_secret_is_not_on(alice: Person) -> None:
    alice.scan()
    with pytest.raises(NotEnabled):
        alice.call("totp.disable", code=alice.code())
    with pytest.raises(NotEnabled):
        alice.challenge("totp")


def test_auz_06_a_failed_enrolment_leaves_the_other_methods_as_they_were(user_with_email: Person) -> None:
    user_with_email.scan()
    with pytest.raises(InvalidCode):
        user_with_email.call("totp.confirm", code=user_with_email.wrong_code())
    assert user_with_email.methods() == ["email"]
    assert user_with_email.listed()["backup_codes"]["remaining"] == 10


def test_otp_10_the_old_secret_is_dead_after_the_app_was_set_up_anew(user_with_totp: Person, world: World) -> None:
    old = user_with_totp.app
    assert old
    user_with_totp.call("totp.disable", code=user_with_totp.next_code())
    user_with_totp.enrol_totp()
    assert user_with_totp.app
    assert user_with_totp.app.secret != old.secret
    world.later(minutes=5)
    with pytest.raises(InvalidCode):
        user_with_totp.call("totp.disable", code=old.code(world.now))
    user_with_totp.call("totp.disable", code=user_with_totp.code())


def test_sec_03_a_secret_that_does_not_open_is_an_unusable_factor_and_nothing_more(
    user_with_totp: Person, mallory: Person, world: World
) -> None:
    with atomic():
        TotpSecret.update(sealed="gone:AAAA").where(TotpSecret.user == user_with_totp.caller.id).execute()
    opened = user_with_totp.challenge()
    with pytest.raises(InvalidCode):
        user_with_totp.verify(opened, code=user_with_totp.next_code())
    assert user_with_totp.events()[-1] == ("proof.refused", "unsealable")
    user_with_totp.verify(opened, code=user_with_totp.backup_code())
    mallory.prove("totp")


def test_sec_01_a_secret_that_was_moved_to_another_user_is_not_theirs(user_with_totp: Person, mallory: Person) -> None:
    """Whoever writes to the database cannot give a victim the secret of an app of their own."""
    own = TotpSecret.get(TotpSecret.user == mallory.caller.id)
    with atomic():
        TotpSecret.update(sealed=own.sealed, device_id=own.device_id).where(
            TotpSecret.user == user_with_totp.caller.id
        ).execute()
    assert mallory.app
    with pytest.raises(InvalidCode):
        user_with_totp.call("totp.disable", code=mallory.app.code(user_with_totp.world.now, 1))


def test_sec_01_keys_are_replaced_while_secrets_stay(user_with_totp: Person) -> None:
    old, new = bytes(range(32)), bytes(range(32, 64))
    sealing.use({"old": old})
    bob = Person(user_with_totp.world, "bob")
    bob.enrol_totp()
    sealing.use({"new": new, "old": old})
    bob.prove("totp")
    sealing.use({"new": new})
    with pytest.raises(InvalidCode):
        bob.prove("totp")


def test_otp_07_neither_secret_nor_code_is_in_any_later_answer_or_in_the_audit(user_with_totp: Person) -> None:
    assert user_with_totp.app
    secret = user_with_totp.app.secret
    shown = str(user_with_totp.listed()) + str(user_with_totp.events()) + str(user_with_totp.challenge())
    assert base64.b32encode(secret).decode() not in shown
    assert code_at_step(secret, step_at(NOW)) not in shown


@pytest.mark.parametrize("claim", ["urn:a:b?secret=AAAA&issuer=Evil", "\u202e<script>", "a\r\nb"])
def test_otp_08_what_the_token_says_of_the_user_cannot_leave_its_place_in_the_uri(world: World, claim: str) -> None:
    person = Person(world, "sub", account=claim)
    assert person.scan().account == claim
    person.call("totp.confirm", code=person.code())


def test_a_user_without_a_token_address_is_told_nothing_and_hindered_in_nothing(world: World) -> None:
    person = Person(world, "bob", email=None)
    person.enrol_totp()
    person.call("totp.disable", code=person.next_code())
    assert world.mails() == []
