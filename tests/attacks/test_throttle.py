"""Five wrong codes, however they come: one budget over factors, operations, tokens and workers (THR-01 to THR-08)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice

import pytest

import handlers.totp
import handlers.verification
from factors.errors import InvalidCode, TooManyAttempts
from storage.database import atomic
from storage.totp import TotpSecret
from tests.attacks.victim import Victim, World
from tests.attacks.wire import Answer, Request

BUDGET = 5
GUESSES = 200
LOCKS = [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
# Seconds that a request may have waited for its turn, on a busy machine: the time it goes by is that of its arrival.
WAITED = 10
WRONG_BACKUP_CODE = "0000-0000-0000-0000"


def guesses(victim: Victim) -> Iterator[Request]:
    """Wrong codes by every way that there is to show one, over and over: by the user's token and by a backend's."""
    challenges = victim.challenges(3)
    service = victim.world.service("mfa:verify")
    path = f"/api/v1/users/{victim.caller.sub}/mfa"
    opened = victim.world.send(Request("POST", f"{path}/challenge", service, {}))[0].json()["challenge_id"]
    for challenge_id, code in zip(cycle(challenges), cycle(victim.wrong_codes()), strict=False):
        yield victim.posts("totp/disable", {"code": code})
        yield victim.posts("backup-codes/regenerate", {"code": code})
        yield victim.posts("email/confirm", {"code": code})
        yield victim.verifies(challenge_id, code)
        yield victim.posts("totp/disable", {"code": WRONG_BACKUP_CODE})
        yield victim.verifies(challenge_id, WRONG_BACKUP_CODE)
        yield Request("POST", f"{path}/verify", service, {"challenge_id": opened, "code": code})


def locked(world: World, failures: int = BUDGET, ago: timedelta = timedelta()) -> Victim:
    """A user with many factors, after so many wrong codes, the last of them so long ago."""
    victim = world.victim().has_totp().has_backup_codes().has_key().begins_email("135790")
    ends = datetime.now(UTC) - ago
    for _ in range(failures):
        ends = fails(victim, ends)
    return victim


def fails(victim: Victim, now: datetime) -> datetime:
    """Show a wrong code at `now`. Returns when the next may be shown."""
    with pytest.raises(InvalidCode):
        victim.calls(handlers.totp.disable, now=now, body={"code": victim.wrong_code})
    return victim.row.locked_until or now


def refused(answers: list[Answer]) -> Counter[int]:
    """How often each status was met; every 429 says how long to wait."""
    for answer in answers:
        if answer.status == 429:
            assert answer.code == "too_many_attempts"
            assert 0 < int(answer.header("Retry-After") or 0) <= LOCKS[0] + WAITED
    return Counter(answer.status for answer in answers)


def test_thr_01_thr_02_parallel_guesses_of_every_kind_share_five_attempts(world: World) -> None:
    for _ in range(3):
        victim = world.victim().has_totp().has_backup_codes().begins_email("135790")
        answers = world.send(*islice(guesses(victim), GUESSES))
        assert refused(answers) == {403: BUDGET, 429: GUESSES - BUDGET}
        assert {answer.code for answer in answers if answer.status == 403} == {"invalid_code"}
        assert victim.row.failures == BUDGET
        assert Counter(victim.events()) == {"proof.refused": BUDGET, "proof.locked": 1}


def test_thr_02_parallel_guesses_at_mailed_codes_share_five_attempts(world: World) -> None:
    for _ in range(3):
        victim = world.victim().has_email().has_backup_codes()
        challenge_id = victim.challenge("email", "135790")
        kinds = cycle(
            [
                victim.posts("email/disable", {"code": "975310"}),
                victim.posts("email/disable", {"code": WRONG_BACKUP_CODE}),
                victim.posts("backup-codes/regenerate", {"code": "975310"}),
                victim.verifies(challenge_id, "975310"),
            ]
        )
        assert refused(world.send(*islice(kinds, GUESSES))) == {403: BUDGET, 429: GUESSES - BUDGET}


def test_thr_02_parallel_guesses_at_a_pending_secret_share_five_attempts(world: World) -> None:
    for _ in range(3):
        victim = world.victim().begins_totp()
        requests = (victim.posts("totp/confirm", {"code": code}) for code in victim.wrong_codes())
        assert refused(world.send(*islice(requests, GUESSES))) == {403: BUDGET, 429: GUESSES - BUDGET}


def test_thr_01_another_token_of_the_user_brings_no_other_budget(world: World) -> None:
    victim = locked(world)
    again = world.victim(victim.caller.sub, sid="another session", jti="another token")
    assert again.sends("totp/disable", {"code": victim.code()}).status == 429


def test_thr_01_a_locked_user_locks_nobody_else(world: World) -> None:
    victim = locked(world)
    namesake = world.victim(victim.caller.sub, tenant="another").has_totp().has_backup_codes()
    assert namesake.sends("totp/disable", {"code": namesake.code()}).status == 200


def test_thr_04_each_operation_counts_and_is_locked(world: World) -> None:
    """Five wrong codes, one to each of five operations; then each of them is locked, for a right code too."""
    victim = world.victim().has_totp().has_backup_codes().begins_email("135790")
    first = list(islice(guesses(victim), 7))
    assert [world.send(request)[0].status for request in first] == [403] * BUDGET + [429] * 2
    right = [
        victim.posts("totp/disable", {"code": victim.code()}),
        victim.posts("totp/disable", {"code": victim.backup_codes[0]}),
        victim.posts("backup-codes/regenerate", {"code": victim.code()}),
        victim.posts("email/confirm", {"code": "135790"}),
        victim.verifies(victim.challenge(), victim.code()),
        victim.verifies(victim.challenge(), victim.backup_codes[0]),
    ]
    assert refused(world.send(*right)) == {429: len(right)}


def test_thr_08_a_right_code_is_refused_with_the_same_bytes_as_a_wrong_one(world: World) -> None:
    victim = locked(world)
    challenge_id = victim.challenge()
    for right, wrong in [
        (victim.verifies(challenge_id, victim.code()), victim.verifies(challenge_id, victim.wrong_code)),
        (victim.verifies(challenge_id, victim.backup_codes[0]), victim.verifies(challenge_id, WRONG_BACKUP_CODE)),
        (victim.posts("email/confirm", {"code": "135790"}), victim.posts("email/confirm", {"code": "975310"})),
    ]:
        # Between the two the clock may tick.
        pairs = (world.send(right, wrong) for _ in range(5))
        assert any(one.status == 429 and one.bare() == other.bare() for one, other in pairs)


def test_thr_01_the_lock_doubles_up_to_an_hour(world: World) -> None:
    victim = world.victim().has_totp().has_backup_codes()
    now = victim.born
    for _ in range(BUDGET - 1):
        assert fails(victim, now) == now
    for seconds in LOCKS:
        until = fails(victim, now)
        assert until - now == timedelta(seconds=seconds)
        with pytest.raises(TooManyAttempts) as too_early:
            victim.calls(handlers.totp.disable, now=until - timedelta(seconds=1), body={"code": victim.code()})
        assert too_early.value.retry_after == 1
        now = until


def test_thr_01_after_a_lock_one_guess_brings_the_next(world: World) -> None:
    victim = locked(world, ago=timedelta(seconds=31))
    answers = world.send(*islice(guesses(victim), 32))
    assert Counter(answer.status for answer in answers) == {403: 1, 429: 31}
    assert victim.row.failures == BUDGET + 1
    assert all(
        int(answer.header("Retry-After") or 0) <= LOCKS[1] + WAITED for answer in answers if answer.status == 429
    )


def test_thr_01_after_a_lock_a_right_code_makes_the_budget_whole(world: World) -> None:
    victim = locked(world, ago=timedelta(seconds=31))
    assert world.send(victim.verifies(victim.challenge(), victim.code()))[0].status == 200
    assert (victim.row.failures, victim.row.locked_until) == (0, None)
    answers = [victim.sends("totp/disable", {"code": victim.wrong_code}) for _ in range(BUDGET + 1)]
    assert refused(answers) == {403: BUDGET, 429: 1}


def test_thr_06_a_security_key_is_usable_while_codes_are_locked_and_clears_the_lock(world: World) -> None:
    victim = locked(world)
    challenge_id, options = victim.key_challenge()
    assert world.send(victim.verifies(challenge_id, victim.key_answer(options)))[0].status == 200
    assert victim.sends("totp/disable", {"code": victim.code()}).status == 200


def test_thr_06_an_assertion_changes_factors_while_codes_are_locked(world: World) -> None:
    victim = locked(world)
    token = victim.assertion()  # The use of the key cleared the lock.
    for _ in range(BUDGET):
        fails(victim, datetime.now(UTC))
    assert victim.sends("totp/disable", {"code": victim.code()}).status == 429
    assert victim.sends("totp/disable", {"code": token}).status == 200


def test_thr_06_wrong_answers_by_key_do_not_count(world: World) -> None:
    victim = world.victim().has_totp().has_backup_codes().has_key()
    for _ in range(BUDGET + 1):
        challenge_id, options = victim.key_challenge()
        answer = victim.key_answer(options, signature=lambda signature: signature[:-1] + bytes([signature[-1] ^ 1]))
        assert world.send(victim.verifies(challenge_id, answer))[0].status == 403
    assert victim.row.failures == 0
    assert victim.sends("totp/disable", {"code": victim.code()}).status == 200


@pytest.mark.parametrize(
    "body",
    [
        {"code": "12345"},
        {"code": "1234567"},
        {"code": "12345a"},
        {"code": "\uff11\uff12\uff13\uff14\uff15\uff16"},
        {"code": "123456\n"},
        {"code": 123456},
        {"code": ["123456"]},
        {"code": None},
        {"code": ""},
        {"code": "123456", "more": 1},
        {},
        [],
        b"{",
        b"",
        b"\xff",
    ],
    ids=repr,
)
def test_thr_07_malformed_codes_do_not_count(world: World, body: object) -> None:
    victim = world.victim().has_totp().has_backup_codes().begins_email("135790")
    for operation in ("totp/disable", "email/confirm", "backup-codes/regenerate", "verify"):
        given = (
            {"challenge_id": victim.challenge(), **body} if operation == "verify" and isinstance(body, dict) else body
        )
        answers = world.send(*[victim.posts(operation, given)] * (BUDGET + 1))
        assert {answer.status for answer in answers} == {422}
    assert (victim.row.failures, victim.events()) == (0, [])


def test_thr_07_what_is_not_judged_does_not_count(world: World) -> None:
    """A challenge that is not there, and a method that is not on: no code was looked at, whatever it was."""
    victim = world.victim().has_totp().has_backup_codes()
    nowhere = victim.caller.sub.removeprefix("victim-")
    nowhere = "-".join((nowhere[:8], nowhere[8:12], nowhere[12:16], nowhere[16:20], nowhere[20:]))
    for code in (victim.code(), victim.wrong_code):
        answers = world.send(
            *[victim.verifies(nowhere, code)] * BUDGET, *[victim.posts("email/confirm", {"code": code})] * BUDGET
        )
        assert {answer.status for answer in answers} == {404, 409}
    assert victim.row.failures == 0


def test_thr_07_a_server_error_spends_no_attempt_and_no_code(world: World) -> None:
    victim = world.victim().has_totp().has_backup_codes()
    assert victim.sends("totp/disable", {"code": victim.wrong_code}).status == 403
    challenge_id = victim.challenge()
    with world.without_table("audit_event"):
        for code in (victim.code(), victim.backup_codes[0]):
            answers = world.send(*[victim.verifies(challenge_id, code)] * BUDGET)
            # Those that are under way count until they have come to nothing.
            assert {answer.status for answer in answers} <= {429, 500, 503}
    assert (victim.row.failures, victim.row.locked_until) == (1, None)
    assert world.send(victim.verifies(challenge_id, victim.code()))[0].status == 200


def test_thr_03_a_guess_counts_although_its_refusal_cannot_be_written_down(world: World) -> None:
    victim = world.victim().has_totp().has_backup_codes()
    with world.without_table("audit_event"):
        answers = world.send(*islice(guesses(victim), BUDGET * 7))
    assert not any(answer.status == 200 for answer in answers)
    assert victim.row.failures == BUDGET
    assert victim.sends("totp/disable", {"code": victim.code()}).status == 429


def test_thr_03_refusals_leave_their_audit_rows(world: World) -> None:
    victim = world.victim().begins_totp()
    request = victim.posts("totp/confirm", {"code": victim.wrong_code}, X_Request_Id="a-trace-of-the-caller")
    for _ in range(BUDGET + 1):
        world.send(request)
    assert victim.events() == ["proof.refused"] * BUDGET + ["proof.locked"]
    for event in victim.audit():
        assert (event.operation, event.address) == ("handlers.totp.confirm", "127.0.0.1")
        assert event.request_id == "a-trace-of-the-caller"
        assert abs(event.at - datetime.now(UTC)) < timedelta(minutes=1)
    assert {event.reason for event in victim.audit()} == {"wrong", None}


def test_eml_03_a_new_mailed_code_resets_no_counter(world: World) -> None:
    victim = world.victim().has_email().has_backup_codes()
    now = victim.born
    for _ in range(BUDGET):
        opened = victim.calls(handlers.verification.challenge, now=now, body={"method": "email"})
        answer = {"challenge_id": str(opened["challenge_id"]), "code": "975310"}
        with pytest.raises(InvalidCode):
            victim.calls(handlers.verification.verify, now=now, body=answer)
        now += timedelta(minutes=15)
    assert victim.row.failures == BUDGET


def test_thr_07_a_proof_that_is_not_all_right_resets_nothing(world: World) -> None:
    """A spent code is a right code no longer, and a right code of the wrong kind never was one."""
    victim = world.victim().has_totp().has_backup_codes()
    assert world.send(victim.verifies(victim.challenge(), victim.code()))[0].status == 200
    challenge_id = victim.challenge("backup_code")
    for code in (victim.code(), victim.code(1)):
        assert world.send(victim.verifies(challenge_id, code))[0].status == 403
    for code in (victim.code(), victim.wrong_code):
        assert victim.sends("totp/disable", {"code": code}).status == 403
    assert victim.row.failures == BUDGET - 1


def test_thr_08_a_locked_user_is_refused_before_anything_is_looked_at(world: World) -> None:
    """A secret that cannot be opened would be refused with 403, had it been looked at."""
    victim = locked(world)
    with atomic():
        TotpSecret.update(sealed="cannot be opened").where(TotpSecret.user == victim.caller.id).execute()
    challenge_id = victim.challenge()
    answers = world.send(
        victim.posts("totp/disable", {"code": "135790"}),
        victim.posts("backup-codes/regenerate", {"code": "135790"}),
        victim.verifies(challenge_id, "135790"),
    )
    assert refused(answers) == {429: 3}
