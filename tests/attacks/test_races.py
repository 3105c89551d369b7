"""Whatever works once works once, however many ask at one moment, of two worker processes (ATM-01 to ATM-04)."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any

import handlers.webauthn
from storage.totp import TotpSecret
from storage.webauthn import WebAuthnRegistration
from tests.attacks.victim import Victim, World
from tests.attacks.wire import Answer, Request

ROUNDS = 20
# Where each round makes new backup codes, which is slow.
FEWER_ROUNDS = 5
PARALLEL = 32
# What a request that came too late may hear.
TOO_LATE = {403, 404, 409, 429}


def volley(*kinds: Request) -> list[Request]:
    """These requests in turn, until there are as many as are sent at once; the slow one, which hashes, only once."""
    slow = [request for request in kinds if request.path.endswith("/regenerate")]
    quick = [request for request in kinds if request not in slow]
    return [*slow, *islice(cycle(quick), PARALLEL - len(slow))]


def statuses(answers: Sequence[Answer]) -> Counter[int]:
    return Counter(answer.status for answer in answers)


def only_success(victim: Victim, *kinds: Request) -> Answer:
    """Send them together: exactly one succeeds, the others are refused, and nothing is left half done."""
    answers = victim.world.send(*volley(*kinds))
    assert statuses(answers)[200] == 1, statuses(answers)
    assert statuses(answers).keys() - {200} <= TOO_LATE, statuses(answers)
    victim.check_state()
    return next(answer for answer in answers if answer.status == 200)


def test_otp_03_one_code_confirms_once(world: World) -> None:
    for _ in range(ROUNDS):
        victim = world.victim().has_email().has_backup_codes().begins_totp()
        only_success(victim, victim.posts("totp/confirm", {"code": victim.code()}))
        assert victim.events().count("totp.enabled") == 1


def test_otp_03_one_code_disables_once(world: World) -> None:
    for _ in range(ROUNDS):
        victim = world.victim().has_totp().has_backup_codes()
        only_success(victim, victim.posts("totp/disable", {"code": victim.code()}))
        assert victim.events().count("totp.disabled") == 1


def test_otp_03_one_code_answers_one_of_many_challenges(world: World) -> None:
    for _ in range(ROUNDS):
        victim = world.victim().has_totp().has_backup_codes()
        code = victim.code()
        only_success(victim, *(victim.verifies(challenge_id, code) for challenge_id in victim.challenges(5)))
        assert victim.events().count("totp.verified") == 1


def test_otp_03_one_code_serves_one_of_many_operations(world: World) -> None:
    for number in range(ROUNDS):
        victim = world.victim().has_totp().has_email().has_backup_codes()
        code = {"code": victim.code()}
        regenerates = [victim.posts("backup-codes/regenerate", code)] if number < FEWER_ROUNDS else []
        only_success(
            victim,
            victim.posts("totp/disable", code),
            victim.posts("email/disable", code),
            *(victim.verifies(challenge_id, code["code"]) for challenge_id in victim.challenges(3)),
            *regenerates,
        )


def test_bck_03_one_backup_code_serves_one_of_many_operations(world: World) -> None:
    for _ in range(ROUNDS):
        victim = world.victim().has_totp().has_backup_codes().has_key()
        spellings = (victim.backup_codes[0], victim.backup_codes[0].lower().replace("-", " "))
        only_success(
            victim,
            *(victim.posts("totp/disable", {"code": spelling}) for spelling in spellings),
            *(victim.verifies(challenge_id, spellings[0]) for challenge_id in victim.challenges(3)),
        )
        assert victim.events().count("backup_code.used") == 1
        assert victim.methods.backup_codes.remaining == len(victim.backup_codes) - 1


def test_eml_02_one_mailed_code_confirms_once(world: World) -> None:
    for _ in range(ROUNDS):
        victim = world.victim().has_totp().has_backup_codes().begins_email("135790")
        only_success(victim, victim.posts("email/confirm", {"code": "135790"}))
        assert victim.events().count("email.enabled") == 1


def test_eml_02_one_mailed_code_satisfies_its_challenge_once(world: World) -> None:
    for _ in range(ROUNDS):
        victim = world.victim().has_email().has_backup_codes()
        challenge_id = victim.challenge("email", "135790")
        only_success(victim, victim.verifies(challenge_id, "135790"))
        assert victim.events().count("email.verified") == 1


def test_eml_02_one_mailed_code_serves_one_of_many_operations(world: World) -> None:
    for number in range(ROUNDS):
        # The key keeps the backup codes, so what is left can be looked at.
        victim = world.victim().has_email().has_backup_codes().has_key()
        challenge_id = victim.challenge("email", "135790")
        code = {"code": "135790"}
        regenerates = [victim.posts("backup-codes/regenerate", code)] if number < FEWER_ROUNDS else []
        only_success(
            victim,
            victim.posts("email/disable", code),
            victim.verifies(challenge_id, "135790"),
            *regenerates,
        )


def test_war_02_one_registration_is_completed_once(world: World) -> None:
    for _ in range(ROUNDS):
        victim = world.victim().has_totp().has_backup_codes()
        only_success(victim, victim.posts("webauthn/register/complete", registration(victim)))
        assert len(victim.methods.credentials) == 1


def test_war_02_one_credential_is_registered_once_by_many_registrations(world: World) -> None:
    """Each registration is answered for itself, all of them with a credential of one id."""
    for _ in range(ROUNDS):
        victim = world.victim().has_totp().has_backup_codes()
        credential_id = victim.caller.id.bytes
        answers = [registration(victim, credential_id=credential_id) for _ in range(5)]
        only_success(victim, *(victim.posts("webauthn/register/complete", answer) for answer in answers))
        assert len(victim.methods.credentials) == 1


def test_waa_05_one_webauthn_answer_is_accepted_once(world: World) -> None:
    """By a key that counts nothing, so that no sign count stands in for the challenge."""
    for _ in range(ROUNDS):
        victim = world.victim().has_backup_codes()
        victim.authenticator.counts = False
        victim.has_key()
        challenge_id, options = victim.key_challenge()
        only_success(victim, victim.verifies(challenge_id, victim.key_answer(options)))
        assert victim.events().count("webauthn.verified") == 1


def test_waa_06_one_sign_count_is_accepted_once(world: World) -> None:
    """A key and its copy answer different challenges with the same count."""
    for _ in range(ROUNDS):
        victim = world.victim().has_backup_codes().has_key()
        challenges = [victim.key_challenge() for _ in range(5)]
        only_success(
            victim, *(victim.verifies(id, victim.key_answer(options, sign_count=7)) for id, options in challenges)
        )
        assert victim.methods.credentials[0].sign_count == 7
        assert "sign_count" in {event.reason for event in victim.audit()}


def test_stp_01_one_challenge_with_many_right_answers_is_satisfied_once(world: World) -> None:
    for _ in range(ROUNDS):
        victim = world.victim().has_totp().has_backup_codes().has_key()
        challenge_id, options = victim.key_challenge()
        codes = [victim.code(), victim.code(1), *victim.backup_codes]
        answers = [*(victim.verifies(challenge_id, code) for code in codes)]
        only_success(victim, *answers, victim.verifies(challenge_id, victim.key_answer(options)))
        verified = [event.partition(".")[0] for event in victim.events() if event.endswith(".verified")]
        assert len(verified) == 1
        # The answers that came too late were not spent: what they had begun to write is undone.
        assert victim.events().count("backup_code.used") == verified.count("backup_code")
        assert victim.methods.backup_codes.remaining == len(victim.backup_codes) - verified.count("backup_code")
        device = victim.methods.totp
        assert device is not None
        assert (device.last_used_at != victim.born) == (verified == ["totp"])


def test_one_assertion_changes_factors_once(world: World) -> None:
    for _ in range(ROUNDS):
        victim = world.victim().has_totp().has_email().has_backup_codes().has_key()
        code = {"code": victim.assertion()}
        only_success(victim, victim.posts("totp/disable", code), victim.posts("email/disable", code))
        assert sum(event in ("totp.disabled", "email.disabled") for event in victim.events()) == 1


def test_auz_07_parallel_enables_leave_one_pending_secret(world: World) -> None:
    for _ in range(ROUNDS):
        victim = world.victim().has_email().has_backup_codes()
        answers = world.send(*[victim.posts("totp/enable")] * 2)
        assert statuses(answers) == {200: 2}
        [pending] = TotpSecret.select().where(TotpSecret.user == victim.caller.id)
        works = []
        for answer in answers:
            victim.secret = base64.b32decode(answer.json()["secret"])
            works.append(victim.sends("totp/confirm", {"code": victim.code()}).status == 200)
            assert works[-1] == (pending.secret() == victim.secret)
        assert sorted(works) == [False, True]


def test_eml_06_parallel_enables_mail_one_code(world: World) -> None:
    for _ in range(ROUNDS):
        victim = world.victim()
        answers = world.send(*volley(victim.posts("email/enable")))
        assert statuses(answers) == {200: 1, 429: PARALLEL - 1}
        refused = [answer for answer in answers if answer.status == 429]
        assert {answer.code for answer in refused} == {"too_many_emails"}
        # A request that came a moment before the one that won has that moment longer to wait.
        assert all(0 < int(answer.header("Retry-After") or 0) <= 61 for answer in refused)
        assert victim.events() == ["email.begun"]


def test_eml_06_enrolment_and_challenges_share_one_quota(world: World) -> None:
    for _ in range(ROUNDS):
        victim = world.victim().has_email().has_backup_codes()
        answers = world.send(*volley(victim.posts("challenge", {"method": "email"})))
        assert statuses(answers) == {200: 1, 429: PARALLEL - 1}


def test_two_first_methods_at_once_make_one_set_of_backup_codes(world: World) -> None:
    for _ in range(2):
        victim = world.victim().begins_totp().begins_email("135790")
        answers = world.send(
            victim.posts("totp/confirm", {"code": victim.code()}),
            victim.posts("email/confirm", {"code": "135790"}),
            victim.posts("webauthn/register/complete", registration(victim)),
        )
        assert statuses(answers) == {200: 3}
        [codes] = [answer.json()["backup_codes"] for answer in answers if "backup_codes" in answer.json()]
        assert victim.methods.backup_codes.remaining == len(codes) == 10
        assert world.send(victim.verifies(victim.challenge(), codes[0]))[0].status == 200
        victim.check_state()


def test_atm_03_parallel_deletes_remove_a_key_once(world: World) -> None:
    for _ in range(ROUNDS):
        victim = world.victim().has_totp().has_backup_codes().has_key()
        epoch = victim.row.epoch
        answers = world.send(*volley(victim.deletes(victim.device_ids[0])))
        assert statuses(answers) == {200: 1, 404: PARALLEL - 1}
        assert {answer.code for answer in answers if answer.status == 404} == {"device_not_found"}
        assert victim.row.epoch == epoch + 1  # One key was removed.


def test_atm_03_disable_and_verify_serialise(world: World) -> None:
    """Both may succeed, with two codes, but then verification came first, and its assertion is dead."""
    for _ in range(ROUNDS):
        victim = world.victim().has_totp().has_backup_codes().has_key()
        challenge_id = victim.challenge("totp")
        disabled, verified = world.send(
            victim.posts("totp/disable", {"code": victim.code(1)}), victim.verifies(challenge_id, victim.code())
        )
        assert disabled.status == 200
        assert verified.status in {200, 403}
        if verified.status == 200:
            order = [event for event in victim.events() if event in ("totp.verified", "totp.disabled")]
            assert sorted(order) == ["totp.disabled", "totp.verified"]
            assert world.introspect(verified.json()["assertion"]).json() == {"active": False}
        victim.check_state()


def test_atm_03_removal_and_use_of_a_key_serialise(world: World) -> None:
    for _ in range(ROUNDS):
        victim = world.victim().has_totp().has_backup_codes().has_key()
        challenge_id, options = victim.key_challenge()
        removed, verified = world.send(
            victim.deletes(victim.device_ids[0]), victim.verifies(challenge_id, victim.key_answer(options))
        )
        assert removed.status == 200
        assert verified.status in {200, 403}
        if verified.status == 200:
            assert world.introspect(verified.json()["assertion"]).json() == {"active": False}


def test_atm_03_regeneration_and_use_of_a_backup_code_serialise(world: World) -> None:
    """An old code works before the new set is there, or not at all; of the new set none is spent."""
    for _ in range(FEWER_ROUNDS):
        victim = world.victim().has_totp().has_backup_codes()
        challenge_id = victim.challenge()
        regenerated, verified = world.send(
            victim.posts("backup-codes/regenerate", {"code": victim.code()}),
            victim.verifies(challenge_id, victim.backup_codes[0]),
        )
        assert regenerated.status == 200
        assert verified.status in {200, 403}
        assert victim.methods.backup_codes.remaining == 10
        if verified.status == 200:
            assert world.introspect(verified.json()["assertion"]).json() == {"active": False}


def test_atm_03_the_last_two_methods_removed_at_once_take_all_with_them(world: World) -> None:
    for _ in range(ROUNDS):
        victim = world.victim().has_totp().has_backup_codes().has_key()
        answers = world.send(
            victim.deletes(victim.device_ids[0]), victim.posts("totp/disable", {"code": victim.code()})
        )
        assert sorted(answer.json()["mfa_enabled"] for answer in answers) == [False, True]
        victim.check_state()


def test_war_13_parallel_registrations_leave_no_more_open_than_may_be(world: World) -> None:
    for _ in range(5):
        victim = world.victim()
        answers = world.send(*volley(victim.posts("webauthn/register/begin")))
        assert statuses(answers) == {200: PARALLEL}
        # On PostgreSQL those that begin at one moment do not see one another, but the next sees them all.
        assert victim.sends("webauthn/register/begin").status == 200
        assert WebAuthnRegistration.select().where(WebAuthnRegistration.user == victim.caller.id).count() == 5


def registration(victim: Victim, **deviations: Any) -> dict[str, Any]:
    """The body of a right `register/complete`."""
    begun = victim.calls(handlers.webauthn.begin)
    answer = victim.authenticator.register(begun["options"], origin=victim.world.settings.origins[0], **deviations)
    return {"device_id": str(begun["device_id"]), "challenge_id": str(begun["challenge_id"]), "credential": answer}
