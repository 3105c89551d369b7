"""Any story of users and their factors, on both databases, is one that the model could have told.

`tox -e model` tells thousands of them, and says how often each operation was answered how.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.calling import operation
from tests.model.asks import Ask
from tests.model.conftest import LONG
from tests.model.machine import MOST_AT_ONCE, Stories
from tests.model.operations import OPERATIONS

TURN_SECONDS = 0.0001
BRIEF = settings(max_examples=20, stateful_step_count=25)
# Refusals of the contract that no story comes to: they are about tokens, or would take 25 keys.
OF_TOKENS = {"unauthenticated", "invalid_token", "insufficient_scope", "email_missing"}
OF_HTTP = {"not_acceptable", "payload_too_large", "unsupported_media_type", "method_not_allowed", "not_found"}
OF_THE_SERVER = {"internal_error", "storage_unavailable", "keys_unavailable"}
ELSEWHERE = OF_TOKENS | OF_HTTP | OF_THE_SERVER | {"too_many_devices"}

pytestmark = pytest.mark.usefixtures("quick_hashes", "database", "restless")


@pytest.fixture
def tally() -> Counter[tuple[str, str]]:
    """How often each operation was answered how."""
    return Counter()


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns in the midst of a request, which Python would let go on for longer than it takes."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(TURN_SECONDS)
    yield
    sys.setswitchinterval(usual)


@pytest.fixture
def stories(tally: Counter[tuple[str, str]]) -> Iterator[type[Stories]]:
    class Counted(Stories):
        pass

    with ThreadPoolExecutor(MOST_AT_ONCE) as Counted.threads:
        Counted.tally = tally
        yield Counted


def test_every_story_is_one_that_the_model_could_have_told(
    stories: type[Stories],
    tally: Counter[tuple[str, str]],
    pytestconfig: pytest.Config,
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = settings.get_current_profile_name() == LONG
    run_state_machine_as_test(
        stories,
        # What threads do at once cannot be told again, and so not be made shorter.
        settings=settings(
            settings.get_profile(LONG) if long else BRIEF,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            derandomize=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
    if long:
        with capsys.disabled():
            terminal = pytestconfig.get_terminal_writer()
            terminal.line()
            for (what, answer), count in sorted(tally.items()):
                terminal.line(f"{count:9,} {what} {answer}")


def test_the_rules_meet_success_and_every_refusal(stories: type[Stories], tally: Counter[tuple[str, str]]) -> None:
    """What Hypothesis makes of them cannot all be in vain."""
    tell_all(stories())
    tell_of_step_up(stories())
    refusals = {(name, code) for name in OPERATIONS if name != "purge" for _, code in operation(name).refusals}
    expected = {(name, "ok") for name in OPERATIONS} | {each for each in refusals if each[1] not in ELSEWHERE}
    assert {(what, answer) for what, answer in tally if answer} == expected


def tell_all(story: Stories) -> None:
    """Of two users, where the policy asks for no proof."""

    def do(name: str, who: int = 0, times: int = 1, **how: Any) -> None:
        story.do([Ask(name, who, how)], times)

    wrong, app, mail, unused, latest = ("wrong", 0), ("app", 0), ("mail", 0), ("unused", 0), ("assertion", 0)
    story.begins("off", [set(), set()])
    # Nothing is there.
    for name in ("totp.confirm", "email.confirm", "totp.disable", "email.disable", "backup.regenerate"):
        do(name, code=wrong)
    do("verification.challenge", method="")
    do("verification.verify", opened=0, code=wrong)
    do("webauthn.remove", key=0)
    do("webauthn.complete", opened=0, response="honest")
    # One factor after the other, and each again.
    story.enrols(0, "webauthn")
    do("backup.regenerate", code=wrong)
    for name in ("totp", "email"):
        story.enrols(0, name)
        do(f"{name}.enable")
        do(f"{name}.confirm", code=wrong)
    for response in ("known credential", "another origin"):
        story.enrols(0, "webauthn", response)
    # Proofs, and wrong ones until none is looked at any more; time heals.
    for method in ("totp", "email", "webauthn", "backup_code"):
        story.proves(0, method, MOST_AT_ONCE)
    do("verification.challenge", times=2, method="email")
    story.proves(0, "webauthn", 1, "cloned")
    do("verification.introspect", token=latest)
    do("verification.challenge", method="")
    for _ in range(2):
        for name in ("totp.disable", "email.disable", "backup.regenerate"):
            do(name, code=wrong)
        do("verification.verify", opened=0, code=wrong)
    for _ in range(2):
        do("totp.disable", code=wrong)
        story.time_passes(3600)
    # The other one's enrolment is guessed at.
    do("totp.enable", 1)
    do("email.enable", 1, times=2)
    for name in ("totp.confirm", "email.confirm"):
        do(name, 1, times=3, code=wrong)
    do("totp.confirm", 1, code=app)
    do("email.confirm", 1, code=mail)
    # Changes, and the end.
    do("backup.regenerate", code=app)
    do("methods.list_all")
    do("email.disable", code=("app", 1))
    do("webauthn.remove", key=0)
    do("totp.disable", times=2, code=unused)
    do("purge")


def tell_of_step_up(story: Stories) -> None:
    story.begins("required", [{"totp"}, set()])
    for name in ("totp.enable", "email.enable", "webauthn.begin"):
        story.do([Ask(name, 0)])
        story.do([Ask(name, 1, {"header": ("stale login", 0)})])
    for name in ("totp.confirm", "email.confirm"):
        story.do([Ask(name, 0, {"code": ("wrong", 0)})])
    story.do([Ask("webauthn.complete", 0, {"opened": 0, "response": "honest"})])
    story.do([Ask("webauthn.remove", 0, {"key": 0})])
