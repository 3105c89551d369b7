"""What has worked does not work again: not elsewhere, not later, not after what it belonged to is gone."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

import handlers.email
import handlers.totp
import handlers.verification
import handlers.webauthn
from factors.errors import InvalidCode
from tests.attacks.victim import STEP, Victim, World, totp
from tests.attacks.wire import Answer, Request

SERVICE = "service verify"


def shows(victim: Victim, operation: str, code: str) -> Answer:
    """Show a code to an operation; `verify` gets a challenge of its own."""
    if operation == SERVICE:
        path = f"/api/v1/users/{victim.caller.sub}/mfa"
        token = victim.world.service("mfa:verify")
        opened = victim.world.send(Request("POST", f"{path}/challenge", token, {}))[0].json()
        body = {"challenge_id": opened["challenge_id"], "code": code}
        return victim.world.send(Request("POST", f"{path}/verify", token, body))[0]
    if operation == "verify":
        return victim.world.send(victim.verifies(victim.challenge(), code))[0]
    return victim.sends(operation, {"code": code})


ACCEPTS_AND_KEEPS = ["totp/confirm", "verify", SERVICE, "backup-codes/regenerate", "email/disable"]
ACCEPTS = ["verify", SERVICE, "backup-codes/regenerate", "totp/disable", "email/disable"]


@pytest.mark.parametrize(("first", "second"), [*product(ACCEPTS_AND_KEEPS, ACCEPTS)])
def test_otp_03_a_code_accepted_by_one_operation_is_refused_by_another(world: World, first: str, second: str) -> None:
    victim = world.victim().has_email().has_backup_codes().has_key()
    victim = victim.begins_totp() if first == "totp/confirm" else victim.has_totp()
    code, later = victim.code(), victim.code(1)
    assert shows(victim, first, code).status == 200
    if first == "email/disable":
        victim.has_email()
    refused = shows(victim, second, code)
    assert (refused.status, refused.code) == (403, "invalid_code")
    assert shows(victim, second, later).status == 200


def test_otp_03_an_accepted_step_shuts_all_earlier_ones(world: World) -> None:
    victim = world.victim().has_totp().has_backup_codes()
    earlier = victim.code()
    assert shows(victim, "verify", victim.code(1)).status == 200
    for operation in ("verify", "backup-codes/regenerate", "totp/disable"):
        assert shows(victim, operation, earlier).code == "invalid_code"


def test_otp_06_a_clock_that_jumps_back_opens_no_used_step(world: World) -> None:
    victim = world.victim().has_totp().has_backup_codes()
    now = datetime.now(UTC)
    code = totp(victim.secret, now)
    answer = {"challenge_id": victim.challenge(), "code": code}
    victim.calls(handlers.verification.verify, now=now, body=answer)
    for back in (timedelta(), STEP, timedelta(hours=1)):
        victim.clears()
        for shown in (code, totp(victim.secret, now - back)):
            with pytest.raises(InvalidCode):
                victim.calls(handlers.totp.disable, now=now - back, body={"code": shown})


def test_otp_10_codes_of_a_destroyed_secret_never_work_again(world: World) -> None:
    victim = world.victim().has_email().has_totp().has_backup_codes()
    old = victim.secret
    assert shows(victim, "totp/disable", victim.code()).status == 200
    victim.secret = base64.b32decode(victim.sends("totp/enable").json()["secret"])
    assert victim.secret != old
    at = datetime.now(UTC)
    assert shows(victim, "totp/confirm", totp(old, at + STEP)).code == "invalid_code"
    assert shows(victim, "totp/confirm", victim.code()).status == 200
    for operation in ("verify", "totp/disable"):
        assert shows(victim, operation, totp(old, at + STEP)).code == "invalid_code"


def test_auz_07_codes_of_a_replaced_pending_secret_confirm_nothing(world: World) -> None:
    victim = world.victim().has_email().has_backup_codes()
    first, second = (base64.b32decode(victim.sends("totp/enable").json()["secret"]) for _ in range(2))
    assert shows(victim, "totp/confirm", totp(first, datetime.now(UTC))).code == "invalid_code"
    assert shows(victim, "totp/confirm", totp(second, datetime.now(UTC))).status == 200
    assert victim.sends("totp/enable").code == "already_enabled"


def test_auz_06_a_pending_secret_proves_nothing_yet(world: World) -> None:
    victim = world.victim().has_email().has_backup_codes().begins_totp()
    assert shows(victim, "verify", victim.code()).code == "invalid_code"
    assert shows(victim, "totp/disable", victim.code()).code == "not_enabled"
    # Without an authenticator that is on, this wants a backup or a mailed code.
    assert shows(victim, "email/disable", victim.code()).code == "invalid_code"
    assert shows(victim, "backup-codes/regenerate", victim.code()).code == "totp_required"
    assert victim.sends("challenge", {"method": "totp"}).code == "not_enabled"


def test_auz_08_a_confirmation_of_another_factor_turns_nothing_on(world: World) -> None:
    victim = world.victim().has_key_only().begins_totp().begins_email("135790")
    assert shows(victim, "email/confirm", victim.code()).code == "invalid_code"
    assert shows(victim, "totp/confirm", "135790").code == "invalid_code"
    assert shows(victim, "verify", "135790").code == "invalid_code"
    assert (victim.methods.totp, victim.methods.email) == (None, None)


@pytest.mark.parametrize("second", ["verify", SERVICE, "totp/disable"])
def test_bck_03_a_used_backup_code_is_refused_on_every_path(world: World, second: str) -> None:
    victim = world.victim().has_totp().has_backup_codes().has_key()
    code, other, _ = victim.backup_codes
    assert shows(victim, "verify", code).status == 200
    for spelling in (code, code.lower(), code.replace("-", ""), code.replace("-", " "), code.replace("1", "I")):
        assert shows(victim, second, spelling).status in (403, 429)
    victim.clears()
    assert shows(victim, second, other).status == 200


def test_bck_05_replaced_backup_codes_are_dead(world: World) -> None:
    victim = world.victim().has_totp().has_backup_codes()
    old = victim.backup_codes
    new = shows(victim, "backup-codes/regenerate", victim.code()).json()["backup_codes"]
    assert [shows(victim, "verify", code).status for code in old] == [403] * len(old)
    assert shows(victim, "verify", new[0]).status == 200


def test_auz_05_backup_codes_go_with_the_last_method_and_do_not_come_back(world: World) -> None:
    victim = world.victim().has_totp().has_backup_codes()
    old = victim.backup_codes
    assert shows(victim, "totp/disable", old[0]).json() == {"type": "totp", "enabled": False, "mfa_enabled": False}
    assert victim.sends("challenge", {"method": "backup_code"}).code == "not_enabled"
    victim.begins_totp()
    new = shows(victim, "totp/confirm", victim.code()).json()["backup_codes"]
    assert not set(old) & set(new)
    assert shows(victim, "verify", old[1]).code == "invalid_code"


def test_eml_04_a_mailed_code_works_for_its_purpose_alone(world: World) -> None:
    """The code of an enrolment answers no challenge, that of a challenge ends no enrolment."""
    enrolling = world.victim().has_totp().has_backup_codes().begins_email("135790")
    assert shows(enrolling, "verify", "135790").code == "invalid_code"
    assert shows(enrolling, "totp/disable", "135790").code == "invalid_code"
    challenged = world.victim().has_email().has_backup_codes()
    challenged.challenge("email", "246802")
    assert shows(challenged, "verify", "246802").code == "invalid_code"
    assert shows(challenged, "email/confirm", "246802").code == "already_enabled"


def test_eml_03_a_new_mailed_code_kills_the_one_before(world: World) -> None:
    victim = world.victim().has_email().has_backup_codes()
    first = victim.challenge("email", "135790")
    second = victim.challenge("email", "246802")
    assert world.send(victim.verifies(first, "135790"))[0].code == "challenge_not_found"
    assert world.send(victim.verifies(second, "135790"))[0].code == "invalid_code"
    assert shows(victim, "email/disable", "135790").code == "invalid_code"
    assert world.send(victim.verifies(second, "246802"))[0].status == 200
    assert shows(victim, "email/disable", "246802").code == "invalid_code"
    pending = world.victim().begins_email("135790").begins_email("246802")
    assert shows(pending, "email/confirm", "135790").code == "invalid_code"
    assert shows(pending, "email/confirm", "246802").status == 200


def test_eml_04_another_address_in_the_token_kills_the_code(world: World) -> None:
    victim = world.victim().begins_email("135790")
    moved = world.victim(victim.caller.sub, email="elsewhere@example.com")
    assert shows(moved, "email/confirm", "135790").code == "no_pending_enrolment"
    assert moved.methods.email is None


def test_stp_05_a_mailbox_that_was_removed_answers_no_open_challenge(world: World) -> None:
    victim = world.victim().has_totp().has_email().has_backup_codes()
    challenge_id = victim.challenge("email", "135790")
    assert shows(victim, "email/disable", victim.code()).status == 200
    assert world.send(victim.verifies(challenge_id, "135790"))[0].status in (403, 404)


def test_eml_04_a_mailbox_that_was_replaced_answers_no_challenge_of_the_old_one(world: World) -> None:
    victim = world.victim().has_totp().has_email().has_backup_codes()
    challenge_id = victim.challenge("email", "135790")
    assert shows(victim, "email/disable", victim.code()).status == 200
    replaced = world.victim(victim.caller.sub, email="elsewhere@example.com").begins_email("246802")
    assert shows(replaced, "email/confirm", "246802").status == 200
    assert world.send(victim.verifies(challenge_id, "135790"))[0].status in (403, 404)


@pytest.mark.parametrize("method", ["totp", "backup_code"])
def test_stp_05_an_open_challenge_takes_no_factor_that_was_removed(world: World, method: str) -> None:
    victim = world.victim().has_totp().has_backup_codes().has_key()
    challenge_id, later = victim.challenge(method), victim.code(1)
    assert shows(victim, "totp/disable", victim.code()).status == 200
    assert victim.world.send(victim.deletes(victim.device_ids[0]))[0].status == 200
    answer = later if method == "totp" else victim.backup_codes[0]
    assert world.send(victim.verifies(challenge_id, answer))[0].status in (403, 404)


def test_waa_05_a_webauthn_answer_works_once(world: World) -> None:
    victim = world.victim().has_backup_codes().has_key()
    challenge_id, options = victim.key_challenge()
    answer = victim.key_answer(options)
    assert world.send(victim.verifies(challenge_id, answer))[0].status == 200
    assert world.send(victim.verifies(challenge_id, answer))[0].code == "challenge_not_found"
    other_id, _ = victim.key_challenge()
    assert world.send(victim.verifies(other_id, answer))[0].code == "invalid_credential"


def test_waa_05_a_refused_webauthn_answer_has_used_its_challenge_up(world: World) -> None:
    victim = world.victim().has_totp().has_backup_codes().has_key()
    challenge_id, options = victim.key_challenge()
    broken = victim.key_answer(options, signature=lambda signature: signature + b"\0")
    assert world.send(victim.verifies(challenge_id, broken))[0].code == "invalid_credential"
    for right in (victim.key_answer(options), victim.code()):
        assert world.send(victim.verifies(challenge_id, right))[0].code == "challenge_not_found"


def test_waa_06_a_sign_count_that_does_not_grow_is_refused_and_audited(world: World) -> None:
    victim = world.victim().has_backup_codes().has_key()
    challenge_id, options = victim.key_challenge()
    assert world.send(victim.verifies(challenge_id, victim.key_answer(options, sign_count=9)))[0].status == 200
    for count in (9, 8, 0):
        challenge_id, options = victim.key_challenge()
        answer = victim.key_answer(options, sign_count=count)
        assert world.send(victim.verifies(challenge_id, answer))[0].code == "invalid_credential"
    refusals = [event for event in victim.audit() if event.reason == "sign_count"]
    assert [str(event.device_id) for event in refusals] == victim.device_ids * 3


def test_waa_06_a_key_without_a_counter_may_be_used_again(world: World) -> None:
    victim = world.victim().has_backup_codes()
    victim.authenticator.counts = False
    victim.has_key()
    for _ in range(2):
        challenge_id, options = victim.key_challenge()
        assert world.send(victim.verifies(challenge_id, victim.key_answer(options)))[0].status == 200


def test_war_02_a_registration_is_used_up_by_success_and_by_failure(world: World) -> None:
    victim = world.victim().has_totp().has_backup_codes()
    body, options = begun(victim)
    right = {**body, "credential": registered(victim, options)}
    assert victim.sends("webauthn/register/complete", right).status == 200
    assert victim.sends("webauthn/register/complete", right).code == "challenge_not_found"
    body, options = begun(victim)
    victim.authenticator.credentials.clear()
    broken = registered(victim, options | {"excludeCredentials": []}, rp_id="example.org")
    assert victim.sends("webauthn/register/complete", {**body, "credential": broken}).code == "invalid_credential"
    right = {**body, "credential": registered(victim, options | {"excludeCredentials": []})}
    assert victim.sends("webauthn/register/complete", right).code == "challenge_not_found"


def test_war_03_a_challenge_of_one_ceremony_is_useless_for_the_other(world: World) -> None:
    victim = world.victim().has_backup_codes().has_key()
    body, options = begun(victim)
    as_request = {**options, "allowCredentials": victim.key_challenge()[1]["allowCredentials"], "rpId": "localhost"}
    answer = victim.key_answer(as_request | {"userVerification": "preferred"})
    assert world.send(victim.verifies(body["challenge_id"], answer))[0].code == "challenge_not_found"
    challenge_id, request_options = victim.key_challenge()
    assert world.send(victim.verifies(challenge_id, answer))[0].code == "invalid_credential"
    challenge_id, request_options = victim.key_challenge()
    swapped = {**options, "challenge": request_options["challenge"], "excludeCredentials": []}
    given = {"device_id": body["device_id"], "challenge_id": challenge_id, "credential": registered(victim, swapped)}
    assert victim.sends("webauthn/register/complete", given).code == "challenge_not_found"
    given = {**body, "credential": registered(victim, swapped)}
    assert victim.sends("webauthn/register/complete", given).code == "invalid_credential"


def test_waa_09_a_removed_key_answers_no_challenge_that_offered_it(world: World) -> None:
    victim = world.victim().has_totp().has_backup_codes().has_key()
    challenge_id, options = victim.key_challenge()
    assert world.send(victim.deletes(victim.device_ids[0]))[0].status == 200
    assert world.send(victim.verifies(challenge_id, victim.key_answer(options)))[0].code == "invalid_credential"


def test_waa_01_a_key_added_later_answers_no_challenge_that_did_not_offer_it(world: World) -> None:
    victim = world.victim().has_backup_codes().has_key()
    challenge_id, options = victim.key_challenge()
    victim.authenticator.credentials.clear()
    victim.born = datetime.now(UTC)
    body, creation = begun(victim)
    added = registered(victim, creation | {"excludeCredentials": []})
    assert victim.sends("webauthn/register/complete", {**body, "credential": added}).status == 200
    answer = victim.key_answer(options | {"allowCredentials": [{"type": "public-key", "id": added["id"]}]})
    assert world.send(victim.verifies(challenge_id, answer))[0].code == "invalid_credential"


@pytest.mark.parametrize("minutes", [5, 10])
def test_expired_questions_take_no_answer(world: World, minutes: int) -> None:
    """TOTP and e-mail enrolment live for ten minutes, a registration and a challenge for five, by e-mail for ten."""
    victim = world.victim().has_totp().has_backup_codes().has_key()
    now = datetime.now(UTC)
    ago = now - timedelta(minutes=minutes)
    body, options = begun(victim, now=ago)
    answer = registered(victim, options | {"excludeCredentials": []})
    victim.authenticator.credentials.pop()
    completed = victim.sends("webauthn/register/complete", {**body, "credential": answer})
    assert completed.code == "challenge_not_found"
    assert world.send(victim.verifies(victim.challenge(at=ago), victim.code()))[0].code == "challenge_not_found"
    mailed = world.victim()
    mailed.born -= timedelta(hours=1)
    mailed.has_email().has_backup_codes()
    challenge_id = mailed.challenge("email", "135790", at=ago)
    verified = world.send(mailed.verifies(challenge_id, "135790"))[0]
    assert verified.status == (200 if minutes == 5 else 404)
    pending = world.victim().has_key_only()
    pending.born = ago
    pending.begins_totp().begins_email("135790")
    confirmed = [shows(pending, "totp/confirm", pending.code()), shows(pending, "email/confirm", "135790")]
    assert [answer.status for answer in confirmed] == ([200, 200] if minutes == 5 else [409, 409])


def begun(victim: Victim, now: datetime | None = None) -> tuple[dict[str, str], dict[str, Any]]:
    """The ids of an open registration, as `complete` wants them, and its options."""
    opened = victim.calls(handlers.webauthn.begin, now=now)
    return {name: str(opened[name]) for name in ("device_id", "challenge_id")}, opened["options"]


def registered(victim: Victim, options: dict[str, Any], **deviations: Any) -> dict[str, Any]:
    return victim.authenticator.register(options, origin=victim.world.settings.origins[0], **deviations)
