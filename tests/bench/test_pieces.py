"""The benchmark does the work that it says it measures: a few times each, on ours and on the floors."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from bench import flow, machine, pieces
from bench.flow import Answer, Flow
from bench.measure import Site
from bench.people import Visitors
from bench.pieces import ME, get, post
from bench.servers import ConnexionFloor, StarletteFloor
from bench.stage import set_up

FEW = 3


@pytest.fixture(scope="module", params=["ours", StarletteFloor, ConnexionFloor], ids=["ours", "Starlette", "Connexion"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with set_up(2 * FEW) as stage:
        yield stage.site(stage.ours() if request.param == "ours" else stage.floor(request.param))


def test_a_user_enrols_an_authenticator_app(site: Site) -> None:
    assert pieces.enrol_totp(site.server, site.visitors, FEW)().sent == FEW


def test_a_key_is_registered_and_then_verifies(site: Site) -> None:
    assert pieces.register_key(site.server, site.visitors, FEW)().sent == FEW
    assert pieces.verify_key(site.server, site.visitors, FEW)().sent == FEW


def test_a_seeded_user_has_an_authenticator_app(site: Site) -> None:
    (person,) = site.visitors.next(1)
    (answer,) = _answers(site, [get(ME, person.token)])
    assert b'"totp"' in answer.body


def test_otp_03_a_code_is_spent_by_verify_on_the_floors_too(site: Site) -> None:
    ((person, code),) = site.visitors.fresh_codes(1)
    challenges = site.server.open_challenges([person, person])
    requests = [
        post(f"{ME}/verify", person.token, {"challenge_id": str(challenge), "code": code}) for challenge in challenges
    ]
    assert [answer.status for answer in _answers(site, requests)] == [200, 403]


def test_a_wrong_code_is_refused(site: Site) -> None:
    ((person, code),) = site.visitors.wrong_codes(1)
    (challenge,) = site.server.open_challenges([person])
    body = {"challenge_id": str(challenge), "code": code}
    assert [answer.status for answer in _answers(site, [post(f"{ME}/verify", person.token, body)])] == [403]


def test_no_code_is_shown_twice() -> None:
    with set_up(FEW) as stage:
        codes = Visitors(stage.people).fresh_codes(2 * FEW)
    assert len({(person.sub, code) for person, code in codes}) == 2 * FEW


def test_cpu_time_is_that_of_all_threads() -> None:
    pid = os.getpid()
    before, own = machine.cpu_times([pid]), time.process_time()
    while time.process_time() < own + 0.05:
        pass
    assert machine.cpu_spent(before, machine.cpu_times([pid])) == pytest.approx(time.process_time() - own, abs=0.02)


def _answers(site: Site, requests: list[bytes]) -> list[Answer]:
    answers: list[Answer] = []

    def one_after_the_other() -> Flow:
        for request in requests:
            answers.append((yield request))

    flow.send(site.server.port, [one_after_the_other()], connections=1)
    return answers
