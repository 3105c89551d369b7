"""What a change of factors stands on where the policy asks for a proof (RFC 9470), and what does not do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from factors import assertion as assertions
from factors.assertion import SigningKey
from factors.errors import AlreadyEnabled, DeviceNotFound, InvalidCode, StepUpRequired
from handlers import backup as backup_handlers
from handlers import step_up
from storage.backup import BackupCodeSet
from storage.database import atomic
from storage.user import User
from tests.authenticator import Authenticator
from tests.calling import Json
from tests.states import NOW, Person, World, signing_key

STRONG = ("phr", "mfa", "urn:mfa-server:acr:backup-code")
ANY = (*STRONG, "urn:mfa-server:acr:email")

# Each change of a user's methods that has no code of its own to stand on.
CHANGES: dict[str, Callable[[Person, str | None], Json]] = {
    "totp": lambda person, shown: person.enrol_totp(shown),
    "email": lambda person, shown: person.enrol_email(shown),
    "webauthn": lambda person, shown: person.enrol_key(Authenticator(), shown),
}


@pytest.fixture
def strict(world: World) -> World:
    """MFA_STEP_UP=required. It is on from now on; what is there came before."""
    world.set(step_up="required")
    return world


def asked(person: Person, act: Callable[[], object]) -> StepUpRequired:
    """The refusal; nothing has changed."""
    before = person.listed()
    with pytest.raises(StepUpRequired) as caught:
        act()
    assert person.listed() == before
    return caught.value


# The first method.


@pytest.mark.parametrize("first", CHANGES)
def test_auz_03_a_first_method_needs_a_fresh_login(alice: Person, strict: World, first: str) -> None:
    for auth_time in (None, NOW - timedelta(seconds=901), NOW - timedelta(days=30)):
        alice.claims["auth_time"] = auth_time
        refusal = asked(alice, lambda: CHANGES[first](alice, None))
        assert (refusal.acr_values, refusal.max_age) == ((), 900)
    alice.claims["auth_time"] = NOW - timedelta(seconds=900)
    assert len(CHANGES[first](alice, None)["backup_codes"]) == 10


def test_auz_03_how_fresh_is_a_setting(alice: Person, strict: World) -> None:
    strict.set(enrol_max_age=60)
    alice.claims["auth_time"] = NOW - timedelta(seconds=61)
    assert asked(alice, alice.scan).max_age == 60
    alice.claims["auth_time"] = NOW - timedelta(seconds=60)
    alice.enrol_totp()


def test_auz_03_the_login_is_fresh_at_confirm_too(alice: Person, strict: World) -> None:
    alice.claims["auth_time"] = NOW - timedelta(seconds=600)
    alice.scan()
    strict.later(seconds=301)
    asked(alice, lambda: alice.call("totp.confirm", code=alice.code()))
    alice.claims["auth_time"] = strict.now
    alice.call("totp.confirm", code=alice.code())


def test_auz_03_a_fresh_login_is_not_enough_once_there_is_a_method(user_with_totp: Person, strict: World) -> None:
    user_with_totp.claims["auth_time"] = strict.now
    for change in ("email", "webauthn"):
        asked(user_with_totp, lambda change=change: CHANGES[change](user_with_totp, None))  # type: ignore[misc]


def test_a_first_method_needs_no_assertion_and_looks_at_none(alice: Person, strict: World) -> None:
    alice.claims["auth_time"] = strict.now
    alice.enrol_totp(assertion="a.b.c")


def test_whoever_never_set_anything_up_has_no_key_to_remove(alice: Person, strict: World) -> None:
    alice.claims["auth_time"] = strict.now
    with pytest.raises(DeviceNotFound):
        alice.call("webauthn.remove", device_id=str(uuid4()))


def test_auz_03_a_first_method_that_was_begun_before_another_was_on_needs_its_assertion(
    alice: Person, strict: World
) -> None:
    """Whoever begins two enrolments on one fresh login turns on only one of them with it."""
    alice.claims["auth_time"] = strict.now
    alice.scan()
    begun = alice.call("webauthn.begin")
    alice.call("totp.confirm", code=alice.code())
    asked(alice, lambda: alice.complete(begun))


# Further changes.


@pytest.mark.parametrize("change", ["email", "webauthn"])
def test_auz_02_a_token_alone_adds_nothing(user_with_totp: Person, strict: World, change: str) -> None:
    refusal = asked(user_with_totp, lambda: CHANGES[change](user_with_totp, None))
    assert (refusal.acr_values, refusal.max_age) == (ANY if change == "email" else STRONG, 300)
    assert not strict.mails()[1:]


def test_auz_02_a_token_alone_removes_nothing(user_with_key: Person, strict: World) -> None:
    device = user_with_key.device_id("webauthn")
    refusal = asked(user_with_key, lambda: user_with_key.call("webauthn.remove", device_id=device))
    assert (refusal.acr_values, refusal.max_age) == (STRONG, 300)


def test_auz_02_the_question_comes_before_any_other_answer(user_with_everything: Person, strict: World) -> None:
    """Without a proof nobody learns whether a device is there or a method is on."""
    gone = "c4a5b1de-7a0c-4a8e-9d4e-1c2f3a4b5c6d"
    asked(user_with_everything, lambda: user_with_everything.call("webauthn.remove", device_id=gone))
    asked(user_with_everything, lambda: user_with_everything.call("totp.enable"))
    asked(user_with_everything, lambda: user_with_everything.call("totp.confirm", code="000000"))
    shown = user_with_everything.prove("totp")
    with pytest.raises(DeviceNotFound):
        user_with_everything.call("webauthn.remove", device_id=gone, assertion=shown)
    with pytest.raises(AlreadyEnabled):
        user_with_everything.call("totp.enable", assertion=shown)


@pytest.mark.parametrize("method", ["totp", "webauthn", "backup_code"])
def test_auz_02_an_assertion_adds_and_removes(user_with_everything: Person, strict: World, method: str) -> None:
    alice = user_with_everything
    CHANGES["webauthn"](alice, alice.prove(method))
    first = alice.device_id("webauthn")
    alice.call("webauthn.remove", device_id=first, assertion=alice.prove(method))
    assert alice.methods() == ["totp", "email", "webauthn"]


def test_auz_02_an_assertion_is_good_for_both_steps_and_then_dead(user_with_totp: Person, strict: World) -> None:
    shown = user_with_totp.prove("totp")
    CHANGES["webauthn"](user_with_totp, shown)
    asked(user_with_totp, lambda: CHANGES["email"](user_with_totp, shown))
    assert user_with_totp.events()[-1] == ("step_up.refused", "factors changed")


def test_auz_02_an_assertion_is_not_older_than_five_minutes(user_with_totp: Person, strict: World) -> None:
    shown = user_with_totp.prove("totp")
    strict.later(minutes=5)
    asked(user_with_totp, lambda: CHANGES["webauthn"](user_with_totp, shown))
    assert user_with_totp.events()[-1] == ("step_up.refused", "expired")


def test_auz_02_another_users_assertion_is_refused(user_with_totp: Person, mallory: Person, strict: World) -> None:
    namesake = Person(strict, "alice", "another tenant", auth_time=strict.now)
    namesake.enrol_totp()
    for other in (mallory, namesake):
        asked(user_with_totp, lambda other=other: CHANGES["webauthn"](user_with_totp, other.prove("totp")))  # type: ignore[misc]
        assert user_with_totp.events()[-1] == ("step_up.refused", "another user's assertion")


def test_auz_02_a_forged_assertion_is_refused(user_with_totp: Person, strict: World) -> None:
    genuine = user_with_totp.prove("totp")
    forger = SigningKey(strict.signing_keys[0].kid, signing_key().private)
    claims: dict[str, Any] = {"sub": "alice", "acr": "phr", "epoch": User.get().epoch}
    issuers = {"iss": strict.settings.public_url, "aud": strict.settings.jwt_audience}
    forged = assertions.sign(forger, {**claims, **issuers}, jti="a", now=strict.now)
    for token in (forged, genuine[:-4] + "AAAA", "a.b.c"):
        asked(user_with_totp, lambda token=token: CHANGES["webauthn"](user_with_totp, token))  # type: ignore[misc]
        assert user_with_totp.events()[-1] == ("step_up.refused", "assertion")


# The strength of what was shown.


@pytest.mark.parametrize("strong", ["totp", "webauthn"])
def test_auz_04_an_email_assertion_adds_nothing_stronger_beside_something_stronger(
    alice: Person, strict: World, strong: str
) -> None:
    alice.claims["auth_time"] = strict.now
    CHANGES[strong](alice, None)
    CHANGES["email"](alice, alice.prove("backup_code"))
    weak = alice.prove("email")
    for change in ("totp", "webauthn"):
        refusal = asked(alice, lambda change=change: CHANGES[change](alice, weak))  # type: ignore[misc]
        assert refusal.acr_values == STRONG
        assert alice.events()[-1] == ("step_up.refused", "too weak")


def test_auz_04_an_email_assertion_removes_nothing_stronger(user_with_everything: Person, strict: World) -> None:
    alice = user_with_everything
    weak = alice.prove("email")
    device = alice.device_id("webauthn")
    asked(alice, lambda: alice.call("webauthn.remove", device_id=device, assertion=weak))
    with pytest.raises(InvalidCode):
        alice.call("totp.disable", code=weak)
    assert alice.events()[-1] == ("proof.refused", "too weak")
    assert len(alice.methods()) == 3


@pytest.mark.parametrize("strong", ["totp", "webauthn"])
def test_auz_04_an_email_assertion_adds_what_is_stronger_where_there_is_nothing_such(
    user_with_email: Person, strict: World, strong: str
) -> None:
    CHANGES[strong](user_with_email, user_with_email.prove("email"))
    assert user_with_email.methods()[0] in ("totp", "email")
    assert len(user_with_email.methods()) == 2


def test_auz_04_the_same_email_assertion_does_not_go_on_once_something_stronger_is_on(
    user_with_email: Person, strict: World
) -> None:
    weak = user_with_email.prove("email")
    begun = user_with_email.call("webauthn.begin", assertion=weak)
    user_with_email.enrol_totp(weak)
    asked(user_with_email, lambda: user_with_email.complete(begun, assertion=weak))


def test_auz_04_recovery_by_backup_code_is_told_to_the_user(user_with_everything: Person, strict: World) -> None:
    alice = user_with_everything
    alice.call("webauthn.remove", device_id=alice.device_id("webauthn"), assertion=alice.prove("backup_code"))
    alice.call("totp.disable", code=alice.prove("backup_code"))
    CHANGES["webauthn"](alice, alice.prove("backup_code"))
    assert alice.notices()["backup_code.recovery"] == 3
    assert alice.notices()["backup_code.used"] == 3


@pytest.mark.parametrize("method", ["totp", "webauthn", "email"])
def test_nobody_is_told_of_recovery_where_there_was_none(
    user_with_everything: Person, strict: World, method: str
) -> None:
    user_with_everything.call("email.disable", code=user_with_everything.prove(method))
    assert user_with_everything.notices()["backup_code.recovery"] == 0


def test_off_asks_for_nothing_and_looks_at_no_assertion(user_with_totp: Person) -> None:
    user_with_totp.claims["auth_time"] = None
    for change in ("email", "webauthn"):
        CHANGES[change](user_with_totp, "a.b.c")


# What changes between check and use.


def test_atm_03_a_permit_is_worth_nothing_once_factors_have_changed(user_with_key: Person, strict: World) -> None:
    """The check came before the change, the use after it: the epoch decides within the transaction."""
    shown = user_with_key.prove("webauthn")
    ask = (user_with_key.caller, shown, "webauthn", strict.now, strict.settings, strict.signing_keys)
    permit = step_up.require(*ask)  # type: ignore[arg-type]
    CHANGES["email"](user_with_key, user_with_key.prove("webauthn"))
    with pytest.raises(StepUpRequired), atomic():
        permit.change_factors(user_with_key.caller, strict.now)


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let something happen between the check of a proof and its use: when the new backup codes are made."""
    make = backup_handlers.NewSet.make

    def interrupted() -> backup_handlers.NewSet:
        monkeypatch.setattr(backup_handlers.NewSet, "make", make)
        act()
        return make()

    monkeypatch.setattr(backup_handlers.NewSet, "make", interrupted)


def test_atm_03_an_assertion_that_dies_while_codes_are_made_makes_none(
    user_with_everything: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = user_with_everything
    shown = alice.prove("webauthn")
    before = bytes(BackupCodeSet.get().salt)
    meanwhile(monkeypatch, lambda: alice.call("webauthn.remove", device_id=alice.device_id("webauthn")))
    with pytest.raises(InvalidCode):
        alice.call("backup.regenerate", code=shown)
    assert bytes(BackupCodeSet.get().salt) == before
    assert alice.events()[-1] == ("proof.refused", "factors changed")


def test_atm_03_a_code_of_an_authenticator_that_goes_while_codes_are_made_makes_none(
    user_with_everything: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = user_with_everything
    before = bytes(BackupCodeSet.get().salt)
    meanwhile(monkeypatch, lambda: alice.call("totp.disable", code=alice.backup_code()))
    with pytest.raises(InvalidCode):
        alice.call("backup.regenerate", code=alice.code(1))
    assert bytes(BackupCodeSet.get().salt) == before


def test_auz_03_a_first_method_is_first_when_it_is_turned_on_not_only_when_it_was_asked_for(
    alice: Person, strict: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two first methods at once: the one that comes second stands on a login, where a factor is there to be shown."""
    alice.claims["auth_time"] = strict.now
    intruders = alice.call("webauthn.begin")
    alice.scan()
    meanwhile(monkeypatch, lambda: alice.call("totp.confirm", code=alice.code()))
    with pytest.raises(StepUpRequired):
        alice.complete(intruders)
    assert alice.methods() == ["totp"]
