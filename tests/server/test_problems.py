"""Errors as HTTP: RFC 9457 for each refusal, the document's list for a broken contract, and nothing of the inside."""

from __future__ import annotations

import json
import re
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import peewee
import pytest
from starlette.exceptions import HTTPException

from factors import errors
from factors.errors import Refusal
from server.validation import ContractBroken
from tests.contract.mailroom import Mailroom
from tests.contract.people import Person
from tests.running import RunningServer
from tests.server.wire import API, CONFIRM, MARKER, PROBLEM, check, is_problem, is_validation_error, post, refused, send
from tests.server.wire import request as http_request

with warnings.catch_warnings():
    # Starlette, which Connexion imports, warns of its own future.
    warnings.simplefilter("ignore")
    from connexion.exceptions import OAuthProblem

    from server import problems

INSIDE = re.compile(r"Traceback|sqlite|peewee|connexion|starlette|SELECT|INSERT|UPDATE|/work|/tmp|\.py|0x[0-9a-f]{6}")
# Errors whose making takes something.
ARGUMENTS: dict[type[Refusal], dict[str, Any]] = {
    errors.InsufficientScope: {"scope": "mfa:verify"},
    errors.StepUpRequired: {"acr_values": ("phr", "mfa"), "max_age": 300},
    errors.TooManyAttempts: {"retry_after": 30},
    errors.TooManyEmails: {"retry_after": 60},
}
REFUSALS = [kind(**ARGUMENTS.get(kind, {})) for kind in Refusal.__subclasses__()]


def code_of(refusal: Refusal) -> str:
    return refusal.code


# Rendering.


@pytest.mark.parametrize("refusal", REFUSALS, ids=code_of)
def test_api_02_each_refusal_is_a_problem_with_its_own_status(refusal: Refusal) -> None:
    status, headers, body = problems.render(refusal)
    assert is_problem(json.loads(body))
    assert json.loads(body) == {
        "type": f"/problems/{refusal.code}",
        "title": type(refusal).title,
        "status": status,
        "detail": refusal.detail,
        "code": refusal.code,
    }
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (refusal.status, PROBLEM, "no-store")


@pytest.mark.parametrize("refusal", REFUSALS, ids=code_of)
def test_a_detail_is_a_sentence_that_says_what_to_do(refusal: Refusal) -> None:
    assert re.fullmatch(r"[A-Z][^\n]{10,150}[.>]", refusal.detail)


@pytest.mark.parametrize("refusal", REFUSALS, ids=code_of)
def test_api_07_only_429_and_503_say_when_to_come_back(refusal: Refusal) -> None:
    _, headers, _ = problems.render(refusal)
    assert ("Retry-After" in headers) == (refusal.status in (429, 503))
    assert headers.get("Retry-After", "1").isdigit()


@pytest.mark.parametrize("refusal", REFUSALS, ids=code_of)
def test_tok_12_only_what_a_token_lacks_challenges(refusal: Refusal) -> None:
    _, headers, _ = problems.render(refusal)
    challenges = refusal.status == 401 or isinstance(refusal, errors.InsufficientScope)
    assert ("WWW-Authenticate" in headers) == challenges


def test_stp_04_a_step_up_says_what_would_do() -> None:
    _, headers, _ = problems.render(errors.StepUpRequired(acr_values=("phr", "mfa"), max_age=300))
    assert headers["WWW-Authenticate"] == (
        'Bearer error="insufficient_user_authentication", acr_values="phr mfa", max_age="300"'
    )


@pytest.mark.parametrize("kind", Refusal.__subclasses__(), ids=lambda kind: kind.code)
def test_the_reason_of_a_refusal_is_not_told(kind: type[Refusal]) -> None:
    refusal = kind(**ARGUMENTS.get(kind, {}))
    refusal.reason = MARKER
    _, headers, body = problems.render(refusal)
    assert MARKER not in f"{headers}{body.decode()}{refusal}"


def test_a_broken_contract_is_the_documents_list() -> None:
    row = {"loc": ["body", "code"], "msg": "Field required", "type": "missing"}
    status, headers, body = problems.render(ContractBroken([row]))
    assert (status, headers) == (422, {"Content-Type": "application/json", "Cache-Control": "no-store"})
    assert is_validation_error(json.loads(body))
    assert json.loads(body) == {"detail": [row]}


@pytest.mark.parametrize(
    "error",
    [
        peewee.OperationalError(f"database is locked: {MARKER}"),
        peewee.InterfaceError(MARKER),
        peewee.InternalError(MARKER),
        TimeoutError(MARKER),
    ],
    ids=lambda error: type(error).__name__,
)
def test_atm_04_rel_02_a_database_that_does_not_answer_is_503(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    status, headers, body = problems.render(error)
    assert (status, json.loads(body)["code"]) == (503, "storage_unavailable")
    assert int(headers["Retry-After"]) > 0
    logged = capsys.readouterr()
    assert MARKER not in f"{body.decode()}{logged.out}{logged.err}"


@pytest.mark.parametrize(
    "error",
    [
        ValueError(MARKER),
        KeyError(MARKER),
        peewee.IntegrityError(MARKER),
        peewee.ProgrammingError(MARKER),
        sqlite3.Error(MARKER),
        HTTPException(418, MARKER),
        RecursionError(MARKER),
    ],
    ids=lambda error: type(error).__name__,
)
def test_api_02_anything_else_is_our_fault_and_says_no_more(error: Exception) -> None:
    status, headers, body = problems.render(error)
    assert (status, json.loads(body)["code"], headers["Content-Type"]) == (500, "internal_error", PROBLEM)
    assert MARKER not in f"{headers}{body.decode()}"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HTTPException(404, MARKER), "not_found"),
        (HTTPException(405, MARKER, {"Allow": "GET"}), "method_not_allowed"),
        (HTTPException(401, MARKER), "unauthenticated"),
        (OAuthProblem(detail=MARKER), "unauthenticated"),
    ],
    ids=["404", "405", "401", "OAuthProblem"],
)
def test_api_03_what_the_framework_raises_is_a_problem_too(error: Exception, code: str) -> None:
    status, headers, body = problems.render(error)
    assert (json.loads(body)["code"], json.loads(body)["status"]) == (code, status)
    assert MARKER not in body.decode()
    assert headers.get("Allow") == ("GET" if status == 405 else None)


# Over HTTP: each status in the declared shape, as a caller meets it.


@pytest.fixture(scope="module")
def alice(api: RunningServer) -> Iterator[Person]:
    with httpx.Client(base_url=api.url) as http:
        yield Person(api, http, Mailroom(api.data / "outbox"), "alice-of-problems", "alice-of-problems@example.com")


def body_of(code: str) -> bytes:
    return json.dumps({"code": code}).encode()


def test_api_02_refusals_of_one_kind_are_the_same_bytes(api: RunningServer) -> None:
    """But for the id of the request: no two callers can be told apart by what they are refused with."""
    bodies = set()
    for sub in ("one", "two"):
        token = api.token(sub)
        answers = [refused(api, post(CONFIRM, body_of("000000"), token)) for _ in range(2)]
        bodies |= {answer.body for answer in answers}
        headers = [set(answer.headers) for answer in answers]
        assert headers[0] == headers[1]
    assert len(bodies) == 1


def test_prv_01_a_wrong_code_and_a_lock_are_refused_in_the_declared_shape(api: RunningServer, alice: Person) -> None:
    alice.do("handlers.totp.enable")
    token = alice.token()
    for _ in range(5):
        assert refused(api, post(CONFIRM, body_of("000000"), token)).code == "invalid_code"
    locked = refused(api, post(CONFIRM, body_of("000000"), token))
    assert locked.code == "too_many_attempts"
    assert 1 <= int(locked.headers["retry-after"]) <= 30
    assert set(locked.json) == {"type", "title", "status", "detail", "code"}


def test_api_07_a_second_mail_is_refused_with_its_time(api: RunningServer, alice: Person) -> None:
    alice.do("handlers.email.enable")
    answer = refused(api, post(f"{API}/email/enable", b"", alice.token(), None))
    assert answer.code == "too_many_emails"
    assert 1 <= int(answer.headers["retry-after"]) <= 60


def test_api_06_no_answer_sends_anybody_elsewhere_with_a_secret(api: RunningServer, alice: Person) -> None:
    for answer in (
        send(api, http_request("GET", API, token=alice.token())),
        refused(api, http_request("GET", f"{API}/", token=alice.token())),
        refused(api, post(f"{API}/totp/disable", body_of("000000"), alice.token())),
    ):
        assert {"location", "set-cookie"}.isdisjoint(answer.headers)


@pytest.mark.parametrize(
    "path", [API, CONFIRM, f"{API}/verify", "/api/v1/mfa/introspect", "/nothing", f"{API}/{MARKER}"]
)
@pytest.mark.parametrize("token", [None, f"{MARKER}.b.c"])
def test_api_02_no_refusal_tells_what_the_server_is_made_of(api: RunningServer, path: str, token: str | None) -> None:
    for body in (b"\xff", b"{}", b"[" * 70_000):
        assert not INSIDE.search(refused(api, post(path, body, token)).body.decode())


# Without a database.


@pytest.fixture
def without_database(tmp_path: Path) -> Iterator[RunningServer]:
    """A server whose database has lost its tables while it runs."""
    with RunningServer(tmp_path) as server:
        with sqlite3.connect(server.data / "mfa.db") as connection:
            connection.executescript("PRAGMA foreign_keys=OFF; DROP TABLE mfa_user;")
        connection.close()
        yield server


def test_rel_02_a_database_that_fails_is_503_and_tells_nothing(without_database: RunningServer) -> None:
    server = without_database
    answers = {
        "listed": send(server, http_request("GET", API, token=server.token("alice"))),
        "changed": send(server, post(f"{API}/totp/enable", b"", server.token("alice"), None)),
        "ready": send(server, http_request("GET", "/healthz/ready")),
    }
    for name, answer in answers.items():
        assert (answer.status, answer.code) == (503, "storage_unavailable"), name
        assert is_problem(answer.json)
        assert answer.headers["cache-control"] == "no-store"
        assert int(answer.headers["retry-after"]) > 0
        assert not INSIDE.search(answer.body.decode())
    assert send(server, http_request("GET", "/healthz/live")).status == 200
    assert check(send(server, http_request("GET", API))).code == "unauthenticated"
