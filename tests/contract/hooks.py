"""What Schemathesis is given: somebody to speak for, real codes, and an eye on every answer (`schemathesis.toml`).

Valid cases meet the situations of their operation in turn; in the examples and the stateful phase those that succeed,
so that links lead on. Invalid cases stay as they were made and only get a good access token. The environment says
where the server is, and where the answers are written down.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import schemathesis
from hypothesis import strategies
from schemathesis.generation.meta import TestPhase

from tests.contract.people import SCOPES, Person
from tests.contract.situations import SITUATIONS, Case, Situation
from tests.contract.world import World
from tests.running import RunningServer

TOO_LARGE = b"x" * (64 * 1024 + 1)


def running() -> RunningServer:
    """The server that the test has started."""
    server = RunningServer(Path(os.environ["CONTRACT_FOLDER"]))
    server.url, server.origin = os.environ["CONTRACT_URL"], os.environ["CONTRACT_ORIGIN"]
    return server


class Planned(NamedTuple):
    person: Person
    situation: Situation


world = World(running())
answers = Path(os.environ["CONTRACT_ANSWERS"])
visitors = itertools.count()
turns: Counter[tuple[str, int]] = Counter()
planned: dict[str, Planned] = {}

base64url = strategies.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=1)
schemathesis.openapi.format("jwt", strategies.tuples(base64url, base64url, base64url).map(".".join))


def visitor() -> str:
    """An access token of somebody who was never here, with every scope."""
    return world.server.token(f"visitor-{next(visitors)}", scope=SCOPES, auth_time=int(time.time()))


@schemathesis.auth(refresh_interval=None, retry_on=[])
class AccessToken:
    """Marks the token as given, so that Schemathesis tries what happens without it and with a wrong one."""

    def get(self, _case: Case, _context: schemathesis.AuthContext) -> str:
        return visitor()

    def set(self, case: Case, data: str, _context: schemathesis.AuthContext) -> None:
        case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def before_add_examples(context: schemathesis.HookContext, examples: list[Case]) -> None:
    """Two requests whose data is neither valid nor invalid: for another type of answer, and with too large a body."""
    operation: Any = context.operation
    token = {"Authorization": f"Bearer {visitor()}"}
    identity = {"sub": "alice", "device_id": "5e0b9d2a-3f0e-4f43-8f5e-0a2b61d3c7f1"}
    path = {parameter.name: identity[parameter.name] for parameter in operation.path_parameters}
    examples += [
        operation.Case(path_parameters=path, headers={**token, "Accept": "text/html"}),
        operation.Case(path_parameters=path, headers=token, body=TOO_LARGE, media_type="application/json"),
    ]


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: Case, _kwargs: dict[str, Any]) -> None:
    operation_id = operation_id_of(case)
    situations = SITUATIONS[operation_id]
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive or not situations:
        return
    if meta.phase.name in (TestPhase.EXAMPLES, TestPhase.STATEFUL):
        situations = [each for each in situations if each.status == 200]
    turn = operation_id, len(situations)
    situation = situations[turns[turn] % len(situations)]
    turns[turn] += 1
    person, token = situation.arrange(case, world)
    case.headers["Authorization"] = f"Bearer {token}"
    planned[case.id] = Planned(person, situation)


@schemathesis.hook
def after_call(context: schemathesis.HookContext, case: Case, response: schemathesis.Response) -> None:
    plan = planned.get(case.id)
    if plan is not None and response.status_code == 200:
        plan.person.learn(operation_id_of(case), response.json())
    line = {
        "operation": operation_id_of(case),
        "status": response.status_code,
        "phase": case.meta.phase.name.value if case.meta else TestPhase.EXAMPLES.value,
        "situation": plan.situation.name if plan else None,
    }
    with answers.open("a") as file:
        file.write(json.dumps(line) + "\n")


@schemathesis.check
def answer_of_the_situation(_context: Any, response: schemathesis.Response, case: Case) -> None:
    """Data that is right for its situation gets the status that the situation calls for."""
    plan = planned.pop(case.id, None)
    if plan is not None and response.status_code != plan.situation.status:
        raise AssertionError(
            f"{plan.situation.name} ({plan.person.sub!r}): {response.status_code}, not {plan.situation.status}"
        )


def operation_id_of(case: Case) -> str:
    operation_id: str = case.operation.definition.raw["operationId"]
    return operation_id
