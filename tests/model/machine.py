"""Stories of a few users, made up by Hypothesis, told to the handlers and to the model alike."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

import storage.database
from factors.errors import Refusal
from storage.purge import purge
from storage.user import Caller
from tests.calling import Json, operation
from tests.model.asks import FACTORS, LATEST, RIGHT, USERS, Ask, asks, by, response, who
from tests.model.explanation import explained, told
from tests.model.hands import Hands
from tests.model.seen import Watched, of_model
from tests.model.state import Life, Request
from tests.states import STEP, Person, World

MOST_AT_ONCE = 4
PATIENCE_SECONDS = 60
TICK = timedelta(milliseconds=1)
PAUSES = [1, 30, 30, 30, 60, 60, 90, 299, 300, 600, 3600, 86400]
stories = itertools.count()


class Stories(RuleBasedStateMachine):
    """One story. What is asked for is done, and the model must have an explanation of what came of it."""

    threads: ThreadPoolExecutor
    """Where those go who ask at the same time; `MOST_AT_ONCE` of them."""
    tally: Counter[tuple[str, str]]
    """How often each operation was answered how, over all stories."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        number = next(stories)
        self.hands = [Hands(Person(self.world, f"user-{number}-{each}")) for each in range(USERS)]
        callers = [hands.person.caller for hands in self.hands]
        self.watched = [Watched(callers[each], callers[each - 1]) for each in range(USERS)]
        self.step_up: Literal["off", "required"] = "off"
        self.told: list[str] = []
        self.tally["stories", ""] += 1

    @initialize(
        step_up=st.sampled_from(["off", "off", "required"]),
        factors=st.lists(st.sets(st.sampled_from(FACTORS)), min_size=USERS, max_size=USERS),
    )
    def begins(self, step_up: Literal["off", "required"], factors: list[set[str]]) -> None:
        self.step_up = step_up
        self.world.set(step_up=step_up)
        for somebody, theirs in enumerate(factors):
            for factor in sorted(theirs):
                self.enrols(somebody, factor)

    @rule(ask=asks)
    def asks_alone(self, ask: Ask) -> None:
        self.do([ask])

    @rule(somebody=who, among=st.lists(asks, min_size=2, max_size=MOST_AT_ONCE))
    def asks_at_once(self, somebody: int, among: list[Ask]) -> None:
        """One user, many things."""
        self.do([by(somebody, ask) for ask in among])

    @rule(among=st.lists(asks, min_size=2, max_size=MOST_AT_ONCE))
    def all_ask_at_once(self, among: list[Ask]) -> None:
        self.do(among)

    @rule(ask=asks, times=st.integers(2, MOST_AT_ONCE))
    def asks_the_same_at_once(self, ask: Ask, times: int) -> None:
        self.do([ask], times)

    @rule(somebody=who, among=st.lists(st.sampled_from(RIGHT), min_size=2, max_size=MOST_AT_ONCE))
    def changes_much_at_once(self, somebody: int, among: list[Ask]) -> None:
        """All of it asked for with the right code or answer, as far as there is one."""
        self.world.now += 2 * STEP
        for name in ("totp.enable", "email.enable", "webauthn.begin"):
            self.do([Ask(name, somebody, {"header": LATEST})])
        if self.hands[somebody].life.methods:
            self.proves(somebody, self.hands[somebody].life.methods[0], 1)
            self.do([Ask("verification.challenge", somebody)])
        self.do([by(somebody, ask) for ask in among])

    @rule(somebody=who, factor=st.sampled_from(FACTORS), response=response)
    def enrols(self, somebody: int, factor: str, response: str = "honest") -> None:
        """After a proof, where that is asked for."""
        if self.step_up == "required" and (methods := self.hands[somebody].life.methods):
            self.proves(somebody, methods[0], 1)
        self.world.now += STEP
        steps: dict[str, tuple[str, str, dict[str, Any]]] = {
            "totp": ("totp.enable", "totp.confirm", {"code": ("app", 0)}),
            "email": ("email.enable", "email.confirm", {"code": ("mail", 0)}),
            "webauthn": ("webauthn.begin", "webauthn.complete", {"opened": 0, "response": response}),
        }
        begin, confirm, answer = steps[factor]
        self.do([Ask(begin, somebody, {"header": LATEST})])
        self.do([Ask(confirm, somebody, {"header": LATEST, **answer})])

    @rule(
        somebody=who,
        method=st.sampled_from(["totp", "email", "webauthn", "backup_code"]),
        times=st.integers(1, MOST_AT_ONCE),
        response=response,
    )
    def proves(self, somebody: int, method: str, times: int, response: str = "honest") -> None:
        """Once, or with the same answer several times at once."""
        self.world.now += 2 * STEP
        self.do([Ask("verification.challenge", somebody, {"method": method})])
        answers: dict[str, dict[str, Any]] = {
            "totp": {"code": ("app", 0)},
            "email": {"code": ("mail", 0)},
            "webauthn": {"response": response, "key": 0},
            "backup_code": {"code": ("unused", 0)},
        }
        self.do([Ask("verification.verify", somebody, {"opened": 0, **answers[method]})], times)

    @rule(somebody=who, times=st.integers(1, 6), at_once=st.integers(1, MOST_AT_ONCE))
    def guesses(self, somebody: int, times: int, at_once: int) -> None:
        self.do([Ask("verification.challenge", somebody)])
        for _ in range(0, times, at_once):
            self.do([Ask("verification.verify", somebody, {"opened": 0, "code": ("wrong", 0)})], at_once)

    @rule(seconds=st.sampled_from(PAUSES))
    def time_passes(self, seconds: int) -> None:
        self.world.later(seconds=seconds)

    # How it is done.

    def do(self, wanted: Sequence[Ask], times: int = 1) -> None:
        """Ask for all of it at once, and each as many times; then see whether the model can explain it."""
        requests = []
        for ask in wanted:
            other = self.hands[ask.who - 1]
            request = self.hands[ask.who].request(ask, other, self.world.now, self.step_up)
            requests += [request] * times
        requests = [replace(request, now=self._tick()) for request in requests[:MOST_AT_ONCE]]
        self.tally["asked", ""] += 1
        self.tally["asked at once", ""] += len(requests) > 1
        start = threading.Barrier(len(requests))
        calls = [self.threads.submit(self._call, request, start) for request in requests]
        answers = [call.result(PATIENCE_SECONDS) for call in calls]
        self._judge(requests, answers)

    def _tick(self) -> Any:
        self.world.now += TICK
        return self.world.now

    def _call(self, request: Request, start: threading.Barrier) -> Json | Refusal:
        """In a thread of its own."""
        with storage.database.connection():
            start.wait(PATIENCE_SECONDS)
            try:
                if request.name == "purge":
                    purge(request.now)
                    return {}
                age = timedelta(minutes=1 if request.fresh_login else 60)
                caller = replace(self.hands[request.who].person.caller, auth_time=request.now - age)
                if request.name == "verification.introspect":
                    caller = Caller.of("a-service", purpose="service")
                return operation(request.name).call(
                    request.given,
                    caller=replace(caller, operation=request.name),
                    mfa_assertion=request.header,
                    now=request.now,
                    settings=self.world.settings,
                    signing_keys=self.world.signing_keys,
                )
            except Refusal as refusal:
                return refusal

    def _judge(self, requests: Sequence[Request], answers: Sequence[Json | Refusal]) -> None:
        mails = [watched.mail() for watched in self.watched]
        rows = [watched.rows() for watched in self.watched]
        answered = []
        for request, answer in zip(requests, answers, strict=True):
            if isinstance(answer, Refusal):
                request = replace(request, answer=(answer.code, answer.retry_after))
            else:
                request = self.hands[request.who].take(request, answer, mails[request.who][0])
                if request.name == "verification.verify":
                    ok, method, epoch = request.answer
                    first = self.watched[request.who].first_epoch
                    request = replace(request, answer=(ok, method, epoch - (first or 0)))
            self.tally[request.name, request.answer[0]] += 1
            answered.append(request)
        for each, (hands, (codes, notices), watched) in enumerate(zip(self.hands, mails, self.watched, strict=True)):
            hands.mails += codes
            rows[each] |= {"notices": notices, "events": watched.events()}
        before = [replace(hands.life, events=(), notices=()) for hands in self.hands]

        def fits(lives: Sequence[Life]) -> bool:
            return all(self._rows_of(life) == row for life, row in zip(lives, rows, strict=True))

        self.told.append(" | ".join(f"{request.name} by {request.who}: {request.answer}" for request in answered))
        after = explained(before, answered, fits)
        if after is None:
            raise AssertionError(self._puzzle(before, answered, rows))
        for hands, life in zip(self.hands, after, strict=True):
            hands.life = life

    @staticmethod
    def _rows_of(life: Life) -> dict[str, Any]:
        return of_model(life) | {"notices": list(life.notices), "events": list(life.events)}

    def _puzzle(self, before: list[Life], answered: Sequence[Request], rows: Sequence[dict[str, Any]]) -> str:
        [(after, answers)] = told(before, answered)
        lines = ["the model has no explanation for the last of these:", *self.told, "one after another it would be:"]
        lines += [str(answer) for answer in answers]
        for number, (life, seen) in enumerate(zip(after, rows, strict=True)):
            expected = self._rows_of(life)
            lines += [
                f"user {number}: {name} is {seen[name]}, in the model {expected[name]}"
                for name in seen
                if seen[name] != expected[name]
            ]
        return "\n".join(lines)
