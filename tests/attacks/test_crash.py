"""A process that dies takes nothing back that it gave, and gives nothing twice (ATM-02, ATM-05, THR-03, REL-05)."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

import handlers.webauthn
from storage.database import atomic
from storage.user import User
from tests.attacks.conftest import NewDatabase
from tests.attacks.crashing import CrashingServer
from tests.attacks.victim import Victim, World
from tests.attacks.wire import Answer, Request, Volley

ROUNDS = 10
TOO_LATE = {403, 404, 409, 429}
# A key's answer uses its challenge up before it is judged, so a crash in between leaves neither.
TAKEN_FIRST = {"webauthn.enabled", "webauthn.verified"}


@dataclass
class Spender:
    """A user, a request that spends something of theirs which works once, and the audit event that says so."""

    victim: Victim
    event: str
    request: Request

    @property
    def spent(self) -> int:
        return self.victim.events().count(self.event)


@pytest.fixture(scope="module")
def crashing(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[CrashingServer]:
    server = CrashingServer(tmp_path_factory.mktemp("crashing"), workers=1, **new_database())
    with server:
        yield server


@pytest.fixture
def world(crashing: CrashingServer) -> Iterator[World]:
    with World.of(crashing) as world:
        yield world


def spenders(world: World) -> list[Spender]:
    """One for each thing that works once."""
    confirms = world.victim().has_email().has_backup_codes().begins_totp()
    disables = world.victim().has_totp().has_backup_codes()
    shows_totp = world.victim().has_totp().has_backup_codes()
    shows_backup = world.victim().has_totp().has_backup_codes()
    regenerates = world.victim().has_totp().has_backup_codes()
    confirms_email = world.victim().has_totp().has_backup_codes().begins_email("135790")
    shows_mailed = world.victim().has_email().has_backup_codes()
    disables_email = world.victim().has_email().has_backup_codes()
    disables_email.challenge("email", "135790")
    removes_key = world.victim().has_backup_codes().has_key()
    shows_key = world.victim().has_backup_codes().has_key()
    challenge_id, options = shows_key.key_challenge()
    adds_key = world.victim().has_totp().has_backup_codes()
    opened = adds_key.calls(handlers.webauthn.begin)
    registration: dict[str, object] = {name: str(opened[name]) for name in ("device_id", "challenge_id")}
    registration["credential"] = adds_key.authenticator.register(opened["options"], origin=world.settings.origins[0])
    requests = {
        "totp.enabled": (confirms, confirms.posts("totp/confirm", {"code": confirms.code()})),
        "totp.disabled": (disables, disables.posts("totp/disable", {"code": disables.code()})),
        "totp.verified": (shows_totp, shows_totp.verifies(shows_totp.challenge(), shows_totp.code())),
        "backup_code.used": (
            shows_backup,
            shows_backup.verifies(shows_backup.challenge(), shows_backup.backup_codes[0]),
        ),
        "backup_codes.regenerated": (
            regenerates,
            regenerates.posts("backup-codes/regenerate", {"code": regenerates.code()}),
        ),
        "email.enabled": (confirms_email, confirms_email.posts("email/confirm", {"code": "135790"})),
        "email.verified": (shows_mailed, shows_mailed.verifies(shows_mailed.challenge("email", "135790"), "135790")),
        "email.disabled": (disables_email, disables_email.posts("email/disable", {"code": "135790"})),
        "webauthn.disabled": (removes_key, removes_key.deletes(removes_key.device_ids[0])),
        "webauthn.verified": (shows_key, shows_key.verifies(challenge_id, shows_key.key_answer(options))),
        "webauthn.enabled": (adds_key, adds_key.posts("webauthn/register/complete", registration)),
    }
    return [Spender(victim, event, request) for event, (victim, request) in requests.items()]


def test_atm_05_what_was_spent_before_a_crash_stays_spent_and_nothing_is_half_done(
    crashing: CrashingServer, world: World
) -> None:
    chance = random.Random(5)  # noqa: S311 - it decides when the crash comes
    for number in range(ROUNDS):
        spending = spenders(world)
        if number % 3:
            # New codes are slow to make, so not each time.
            spending = [spender for spender in spending if spender.event != "backup_codes.regenerated"]
        # Each twice: only one of the two may have gone through.
        requests = [spender.request for spender in spending] * 2
        with Volley(crashing.port, requests) as volley:
            volley.release()
            volley.wait_for(chance.randrange(len(requests) * 2 // 3))
            crashing.kill()
            before = volley.answers()
        spent = [spender.spent for spender in spending]
        for spender in spending:
            spender.victim.check_state()
        crashing.start()
        after = world.send(*requests)
        for at, spender in enumerate(spending):
            heard = [before[at], before[at + len(spending)]]
            statuses = [answer.status for answer in (*heard, after[at], after[at + len(spending)]) if answer]
            assert set(statuses) <= TOO_LATE | {200}, spender.event
            successes_before = [answer.status for answer in heard if answer].count(200)
            # Spent before the crash, whether or not anybody heard of it, or else by one of those that came after it.
            assert successes_before <= spent[at] <= 1, spender.event
            after_it = statuses.count(200) - successes_before
            assert spender.spent == spent[at] + after_it, spender.event
            if spender.event in TAKEN_FIRST:
                assert spender.spent <= 1, spender.event
            else:
                assert spender.spent == 1, spender.event
            spender.victim.check_state()


def test_thr_03_five_wrong_codes_a_crash_and_a_restart_leave_the_user_locked(
    crashing: CrashingServer, world: World
) -> None:
    victim = world.victim().has_totp().has_backup_codes()
    assert [victim.sends("totp/disable", {"code": victim.wrong_code}).status for _ in range(5)] == [403] * 5
    crashing.kill()
    crashing.start()
    assert victim.sends("totp/disable", {"code": victim.code()}).code == "too_many_attempts"
    assert victim.row.failures == 5
    assert victim.events() == ["proof.refused"] * 5 + ["proof.locked"]


def test_thr_03_a_guess_that_a_crash_interrupts_was_counted(crashing: CrashingServer, world: World) -> None:
    """Else a crash, which a guesser may provoke, would be a free guess."""
    guessed = 0
    chance = random.Random(7)  # noqa: S311 - it decides when the crash comes
    for _ in range(4):
        victim = world.victim().has_totp().has_backup_codes()
        guesses = [victim.verifies(victim.challenge(), f"0000-0000-0000-000{number}") for number in range(4)]
        with Volley(crashing.port, guesses) as volley:
            volley.release()
            volley.wait_for(chance.randrange(len(guesses)))
            crashing.kill()
            answers = [answer for answer in volley.answers() if answer is not None]
        assert victim.row.failures >= len(answers)
        guessed += victim.row.failures
        crashing.start()
    assert guessed > 0


def test_rel_05_sigterm_answers_what_was_accepted(crashing: CrashingServer, world: World) -> None:
    held = [world.victim().has_totp().has_backup_codes() for _ in range(8)]
    others = [world.victim() for _ in range(200)]
    heard: dict[int, Answer | None] = {}
    queue = iter(enumerate(others))
    turn = threading.Lock()

    def load() -> None:
        """One request after the other, until nobody listens any more."""
        with contextlib.suppress(ConnectionError):
            while True:
                with turn:
                    number, victim = next(queue)
                with Volley(crashing.port, [victim.posts("totp/enable")]) as volley:
                    volley.release()
                    heard[number] = volley.answers()[0]

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    with Volley(crashing.port, [victim.posts("totp/disable", {"code": victim.code()}) for victim in held]) as volley:
        with atomic():
            # While this transaction is open, no request of these users can end.
            User.update(failures=0).where(User.id << [victim.caller.id for victim in held]).execute()
            volley.release()
            time.sleep(1)
            os.kill(crashing.pid, signal.SIGTERM)
            time.sleep(0.2)
        answers = volley.answers()
    for thread in threads:
        thread.join()
    assert crashing.stopped() == 0
    assert [answer and answer.status for answer in answers] == [200] * len(held)
    done = {number for number, victim in enumerate(others) if "totp.begun" in victim.events()}
    assert done == {number for number, answer in heard.items() if answer is not None and answer.status == 200}
    assert done
    crashing.start()
