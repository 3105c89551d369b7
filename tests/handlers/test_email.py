"""Codes by e-mail: enrolment, what the mail holds, how often it is sent, and how a mailbox is forgotten."""

from __future__ import annotations

import string
from datetime import timedelta

import pytest

from factors.errors import (
    AlreadyEnabled,
    EmailMissing,
    InvalidCode,
    NoPendingEnrolment,
    NotEnabled,
    TooManyAttempts,
    TooManyEmails,
    TotpRequired,
)
from storage.email import EmailFactor
from storage.outbox import OutboxMail
from tests.states import NOW, Person, World


def test_enable_mails_a_code_to_the_tokens_address_and_turns_nothing_on(alice: Person, world: World) -> None:
    assert alice.call("email.enable") == {
        "email": "a•••@example.com",
        "expires_at": "2026-03-01T12:10:00Z",
        "resend_at": "2026-03-01T12:01:00Z",
    }
    [mail] = world.mails()
    assert (mail.template, mail.to, list(mail.values)) == ("code", "alice@example.com", ["code"])
    code = str(mail.values["code"])
    assert len(code) == 6
    assert set(code) <= set(string.digits)
    assert alice.methods() == []
    assert alice.events() == [("email.begun", None)]


def test_eml_10_a_mail_is_given_up_when_its_code_has_expired(alice: Person) -> None:
    alice.call("email.enable")
    assert OutboxMail.get().expires_at == NOW + timedelta(minutes=10)


def test_confirm_turns_it_on_and_shows_ten_backup_codes(alice: Person) -> None:
    enabled = alice.enrol_email()
    [method] = alice.listed()["methods"]
    assert len(enabled["backup_codes"]) == 10
    assert method == {
        "type": "email",
        "device_id": enabled["device_id"],
        "name": "E-mail",
        "created_at": "2026-03-01T12:00:00Z",
        "last_used_at": "2026-03-01T12:00:00Z",
        "email": "a•••@example.com",
    }
    assert alice.events() == [("email.begun", None), ("email.enabled", None)]
    assert alice.notices() == {"email.enabled": 1}


def test_eml_05_no_answer_holds_the_code(alice: Person) -> None:
    answers = str(alice.call("email.enable"))
    code = alice.mailed_code()
    answers += str(alice.call("email.confirm", code=code)) + str(alice.listed())
    alice.world.later(minutes=2)
    answers += str(alice.challenge("email"))
    assert code not in answers
    assert alice.mailed_code() not in answers


def test_a_token_without_a_usable_address_gets_no_mail(world: World) -> None:
    person = Person(world, "bob", email=None)
    with pytest.raises(EmailMissing):
        person.call("email.enable")
    assert world.mails() == []


def test_enable_while_on_is_a_clash_and_sends_nothing(user_with_email: Person, world: World) -> None:
    before = len(world.mails())
    world.later(hours=1)
    with pytest.raises(AlreadyEnabled):
        user_with_email.call("email.enable")
    assert len(world.mails()) == before
    user_with_email.challenge("email")


def test_eml_02_a_code_lives_ten_minutes(alice: Person, world: World) -> None:
    alice.call("email.enable")
    world.later(minutes=10)
    with pytest.raises(NoPendingEnrolment):
        alice.call("email.confirm", code=alice.mailed_code())
    world.later(microseconds=-1)
    alice.call("email.confirm", code=alice.mailed_code())


def test_eml_02_a_code_works_once(user_with_email: Person) -> None:
    code = user_with_email.mailed_code()
    with pytest.raises(AlreadyEnabled):
        user_with_email.call("email.confirm", code=code)
    with pytest.raises(InvalidCode):
        user_with_email.call("email.disable", code=code)


def test_eml_03_a_new_code_kills_the_old_one(alice: Person, world: World) -> None:
    alice.call("email.enable")
    first = alice.mailed_code()
    world.later(seconds=60)
    alice.call("email.enable")
    second = alice.mailed_code()
    assert first != second
    with pytest.raises(InvalidCode):
        alice.call("email.confirm", code=first)
    alice.call("email.confirm", code=second)


def test_eml_03_a_new_code_gives_no_attempt_back(alice: Person, world: World) -> None:
    alice.call("email.enable")
    for _ in range(4):
        with pytest.raises(InvalidCode):
            alice.call("email.confirm", code=alice.wrong_code())
    world.later(seconds=60)
    alice.call("email.enable")
    with pytest.raises(InvalidCode):
        alice.call("email.confirm", code=alice.wrong_code())
    with pytest.raises(TooManyAttempts) as caught:
        alice.call("email.confirm", code=alice.mailed_code())
    assert caught.value.retry_after == 30


def test_eml_04_the_code_is_bound_to_the_address_it_was_sent_to(alice: Person, world: World) -> None:
    alice.call("email.enable")
    code = alice.mailed_code()
    alice.claims["email"] = "mallory@example.com"
    with pytest.raises(NoPendingEnrolment):
        alice.call("email.confirm", code=code)
    assert alice.methods() == []


def test_eml_04_another_address_begins_anew(alice: Person, world: World) -> None:
    alice.call("email.enable")
    code = alice.mailed_code()
    alice.claims["email"] = "alice@example.net"
    world.later(seconds=60)
    alice.call("email.enable")
    with pytest.raises(InvalidCode):
        alice.call("email.confirm", code=code)
    alice.call("email.confirm", code=alice.mailed_code())
    assert alice.listed()["methods"][0]["email"] == "a•••@example.net"


def test_eml_04_an_enrolment_code_proves_nothing_elsewhere(user_with_totp: Person) -> None:
    user_with_totp.call("email.enable")
    code = user_with_totp.mailed_code()
    for operation in ("totp.disable", "backup.regenerate"):
        with pytest.raises(InvalidCode):
            user_with_totp.call(operation, code=code)
    with pytest.raises(NotEnabled):
        user_with_totp.call("email.disable", code=code)
    with pytest.raises(NotEnabled):
        user_with_totp.challenge("email")


def test_eml_04_another_users_code_is_none(alice: Person, world: World) -> None:
    bob = Person(world, "bob")
    alice.call("email.enable")
    bob.call("email.enable")
    with pytest.raises(InvalidCode):
        bob.call("email.confirm", code=alice.mailed_code())


def test_eml_08_the_mailbox_in_use_stays_what_was_confirmed_whatever_the_token_says(user_with_email: Person) -> None:
    user_with_email.claims["email"] = "mallory@example.com"
    assert user_with_email.listed()["methods"][0]["email"] == "a•••@example.com"
    user_with_email.world.later(minutes=2)
    user_with_email.challenge("email")
    assert user_with_email.world.mails()[-1].to == "alice@example.com"


def test_eml_08_the_old_mailbox_hears_that_it_is_no_more(user_with_email: Person) -> None:
    user_with_email.claims["email"] = "mallory@example.com"
    user_with_email.call("email.disable", code=user_with_email.backup_code())
    told = [mail.to for mail in user_with_email.world.mails() if mail.values.get("event") == "email.disabled"]
    assert told == ["alice@example.com"]


def test_eml_06_a_minute_between_two_mails(alice: Person, world: World) -> None:
    alice.call("email.enable")
    code = alice.mailed_code()
    world.later(seconds=20)
    with pytest.raises(TooManyEmails) as caught:
        alice.call("email.enable")
    assert caught.value.retry_after == 40
    assert len(world.mails()) == 1
    alice.call("email.confirm", code=code)  # The refused request changed nothing.


def test_eml_06_five_an_hour_and_twenty_a_day(alice: Person, world: World) -> None:
    waits = []
    for _ in range(4):
        for _ in range(5):
            alice.call("email.enable")
            world.later(seconds=60)
        with pytest.raises(TooManyEmails) as caught:
            alice.call("email.enable")
        waits.append(caught.value.retry_after)
        world.later(minutes=55)
    assert waits == [55 * 60] * 3 + [(20 * 60 + 55) * 60]
    world.later(hours=20)
    alice.call("email.enable")
    assert len(world.mails()) == 21


def test_eml_06_enrolment_and_challenges_share_the_quota(user_with_email: Person, world: World) -> None:
    with pytest.raises(TooManyEmails):
        user_with_email.challenge("email")
    world.later(seconds=60)
    user_with_email.challenge("email")


def test_eml_06_one_mailbox_has_a_quota_whoever_names_it(alice: Person, world: World) -> None:
    alice.call("email.enable")
    other_tenant = Person(world, "alice", "another", email="ALICE@example.com")
    with pytest.raises(TooManyEmails):
        other_tenant.call("email.enable")
    assert len(world.mails()) == 1


def test_eml_06_one_user_has_a_quota_whichever_mailbox_is_named(alice: Person, world: World) -> None:
    alice.call("email.enable")
    alice.claims["email"] = "alice@example.net"
    with pytest.raises(TooManyEmails):
        alice.call("email.enable")
    assert len(world.mails()) == 1


def test_the_code_of_a_refused_request_is_not_the_one_that_works(user_with_email: Person, world: World) -> None:
    """A challenge whose mail is refused leaves the one before it as it was."""
    world.later(seconds=60)
    opened = user_with_email.challenge("email")
    with pytest.raises(TooManyEmails):
        user_with_email.challenge("email")
    user_with_email.verify(opened, code=user_with_email.mailed_code())


def test_disable_takes_a_totp_code_while_an_authenticator_is_on(user_with_everything: Person) -> None:
    answer = user_with_everything.call("email.disable", code=user_with_everything.next_code())
    assert answer == {"type": "email", "enabled": False, "mfa_enabled": True}
    assert user_with_everything.methods() == ["totp", "webauthn"]
    assert user_with_everything.events()[-1] == ("email.disabled", None)
    assert user_with_everything.notices()["email.disabled"] == 1


def test_disable_takes_no_other_code_while_an_authenticator_is_on(user_with_everything: Person, world: World) -> None:
    with pytest.raises(InvalidCode):
        user_with_everything.call("email.disable", code=user_with_everything.backup_code())
    world.later(minutes=2)
    user_with_everything.challenge("email")
    with pytest.raises(InvalidCode):
        user_with_everything.call("email.disable", code=user_with_everything.mailed_code())
    assert "email" in user_with_everything.methods()
    assert user_with_everything.listed()["backup_codes"]["remaining"] == 10


def test_disable_takes_a_backup_code_while_no_authenticator_is_on(user_with_email: Person) -> None:
    answer = user_with_email.call("email.disable", code=user_with_email.backup_code())
    assert answer == {"type": "email", "enabled": False, "mfa_enabled": False}
    assert not EmailFactor.select().exists()


def test_disable_takes_a_code_that_challenge_mailed_while_no_authenticator_is_on(
    user_with_email: Person, world: World
) -> None:
    world.later(minutes=2)
    user_with_email.challenge("email")
    code = user_with_email.mailed_code()
    assert not user_with_email.call("email.disable", code=code)["mfa_enabled"]


def test_disable_takes_no_mailed_code_after_its_ten_minutes(user_with_email: Person, world: World) -> None:
    world.later(minutes=2)
    user_with_email.challenge("email")
    world.later(minutes=10)
    with pytest.raises(InvalidCode):
        user_with_email.call("email.disable", code=user_with_email.mailed_code())


def test_disable_without_a_mailbox_is_a_clash(user_with_totp: Person) -> None:
    with pytest.raises(NotEnabled):
        user_with_totp.call("email.disable", code=user_with_totp.next_code())
    user_with_totp.call("email.enable")
    with pytest.raises(NotEnabled):
        user_with_totp.call("email.disable", code=user_with_totp.next_code())


@pytest.mark.parametrize("operation", ["email.disable", "backup.regenerate"])
def test_eml_04_a_code_mailed_by_challenge_works_once(user_with_email: Person, world: World, operation: str) -> None:
    world.later(minutes=2)
    opened = user_with_email.challenge("email")
    code = user_with_email.mailed_code()
    user_with_email.verify(opened, code=code)
    with pytest.raises((InvalidCode, TotpRequired)):
        user_with_email.call(operation, code=code)
    assert user_with_email.methods() == ["email"]


def test_a_mailed_code_notes_when_the_mailbox_was_last_used(user_with_email: Person, world: World) -> None:
    user_with_email.prove("email")
    assert user_with_email.listed()["methods"][0]["last_used_at"] == "2026-03-01T12:01:00Z"


def test_stp_05_a_code_for_a_mailbox_that_was_forgotten_since_proves_nothing(user_with_everything: Person) -> None:
    """Whoever reads a lost mailbox cannot answer the challenge that was open when its owner turned it off."""
    alice = user_with_everything
    alice.world.later(minutes=2)
    opened = alice.challenge("email")
    code = alice.mailed_code()
    alice.call("email.disable", code=alice.next_code())
    with pytest.raises(InvalidCode):
        alice.verify(opened, code=code)


def test_eml_04_a_code_for_the_mailbox_before_this_one_proves_nothing(user_with_everything: Person) -> None:
    alice = user_with_everything
    alice.world.later(minutes=2)
    opened = alice.challenge("email")
    code = alice.mailed_code()
    alice.call("email.disable", code=alice.next_code())
    alice.claims["email"] = "alice@example.net"
    alice.world.later(minutes=1)
    alice.enrol_email()
    with pytest.raises(InvalidCode):
        alice.verify(opened, code=code)


def test_stp_05_a_code_for_a_forgotten_mailbox_makes_no_backup_codes(user_with_key: Person) -> None:
    alice = user_with_key
    alice.enrol_email()
    alice.world.later(minutes=2)
    alice.challenge("email")
    code = alice.mailed_code()
    alice.call("email.disable", code=alice.prove("webauthn"))
    with pytest.raises(TotpRequired):
        alice.call("backup.regenerate", code=code)
