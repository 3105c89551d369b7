"""The pieces of work that are measured. Each prepares its requests, and returns what sends them."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from bench import flow, wrk
from bench.flow import Flow, ok
from bench.people import STEP_SECONDS, Person, Visitors
from bench.servers import Server
from bench.wrk import CONNECTIONS, Load
from tests.authenticator import Authenticator

ME = "/api/v1/me/mfa"
Prepared = Callable[[], Load]
Prepare = Callable[[Server, Visitors, int], Prepared]


class Piece(NamedTuple):
    """A piece of work: how often it is done in a round, and how much more than the Starlette floor it may take."""

    name: str
    prepare: Prepare
    times: int
    target: float | None = None


def get(path: str, token: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


def post(path: str, token: str, body: dict[str, Any] | None = None) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    if body is None:
        return f"{head}Content-Length: 0\r\n\r\n".encode()
    content = json.dumps(body).encode()
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def list_methods(server: Server, visitors: Visitors, count: int, connections: int = CONNECTIONS) -> Prepared:
    requests = [get(ME, person.token) for person in visitors.next(count)]
    return _prepared(server, requests, connections=connections)


def list_everybody(server: Server, visitors: Visitors) -> Prepared:
    """Once for every user."""
    people = visitors.people
    return _prepared(server, [get(ME, person.token) for person in (*people.with_totp, *people.with_key)])


def verify(server: Server, visitors: Visitors, count: int, connections: int = CONNECTIONS) -> Prepared:
    """A right code, spent. The challenges are open already: who asked for them was measured elsewhere."""
    return _prepared(server, _answers(server, visitors.fresh_codes(count)), connections=connections)


def refused(server: Server, visitors: Visitors, count: int) -> Prepared:
    """A wrong code; ours counts it before it looks, and writes it down."""
    return _prepared(server, _answers(server, visitors.wrong_codes(count)), status=403)


def enrol_totp(server: Server, visitors: Visitors, count: int) -> Prepared:
    """Enable and confirm, by users who have another method: ten backup codes come with the first one only."""
    flows = [_enrol_totp(person) for person in visitors.without_totp(count)]
    return lambda: flow.send(server.port, flows)


def confirm_totp(server: Server, visitors: Visitors, count: int) -> Prepared:
    """Confirm alone: that the users enabled before is not measured."""
    people = visitors.without_totp(count)
    secrets: dict[Person, str] = {}
    flow.send(server.port, [_enable_totp(person, secrets) for person in people])
    step = int(time.time()) // STEP_SECONDS
    with_secret = [Person(person.sub, person.token, base64.b32decode(secrets[person])) for person in people]
    requests = [post(f"{ME}/totp/confirm", person.token, {"code": person.code(step)}) for person in with_secret]
    return _prepared(server, requests)


def register_key(server: Server, visitors: Visitors, count: int) -> Prepared:
    """Begin and complete, with a new key."""
    flows = [_register_key(server, visitors, person, Authenticator()) for person in visitors.next(count)]
    return lambda: flow.send(server.port, flows)


def verify_key(server: Server, visitors: Visitors, count: int) -> Prepared:
    """Challenge and verify, with a key that `register_key` has registered."""
    flows = [_verify_key(server, person, key) for person, key in visitors.keys[-count:]]
    return lambda: flow.send(server.port, flows)


def list_with_new_token(server: Server, visitors: Visitors, count: int) -> Prepared:
    """The first request with a token, of which nothing is remembered yet."""
    people = visitors.next(count)
    return _prepared(server, [get(ME, visitors.issuer.token(person.sub)) for person in people])


def first_method(server: Server, visitors: Visitors, count: int) -> Prepared:
    """Enable and confirm, by users whom nobody has met: here ten backup codes are made, each with a slow hash."""
    people = [visitors.issuer.person(f"new-{uuid.uuid4()}") for _ in range(count)]
    flows = [_enrol_totp(person) for person in people]
    # A second apiece is not much less than what the server gives a request, waiting in line included.
    return lambda: flow.send(server.port, flows, connections=2)


LIST = Piece("list methods", list_methods, 500, 1.0)
VERIFY = Piece("verify TOTP", verify, 250, 1.6)
ENROL = Piece("TOTP enable + confirm", enrol_totp, 120, 2.2)
QUICK = (
    LIST,
    VERIFY,
    ENROL,
    Piece("WebAuthn begin + complete", register_key, 120, 1.6),
)
FULL = (
    *QUICK,
    Piece("TOTP confirm", confirm_totp, 60),
    Piece("WebAuthn challenge + verify", verify_key, 120),
    Piece("verify: a wrong code", refused, 250),
    Piece("list, token not seen before", list_with_new_token, 500),
)
FIRST_METHOD = Piece("first method, backup codes", first_method, 8)


def _prepared(server: Server, requests: list[bytes], *, status: int = 200, connections: int = CONNECTIONS) -> Prepared:
    return lambda: wrk.send(server.port, requests, server.folder / "requests", status, connections)


def _answers(server: Server, codes: list[tuple[Person, str]]) -> list[bytes]:
    challenges = server.open_challenges([person for person, _ in codes])
    return [
        post(f"{ME}/verify", person.token, {"challenge_id": str(challenge), "code": code})
        for (person, code), challenge in zip(codes, challenges, strict=True)
    ]


def _enable_totp(person: Person, secrets: dict[Person, str]) -> Flow:
    secrets[person] = ok((yield post(f"{ME}/totp/enable", person.token)))["secret"]


def _enrol_totp(person: Person) -> Flow:
    begun = ok((yield post(f"{ME}/totp/enable", person.token)))
    person = Person(person.sub, person.token, base64.b32decode(begun["secret"]))
    code = person.code(int(time.time()) // STEP_SECONDS)
    ok((yield post(f"{ME}/totp/confirm", person.token, {"code": code})))


def _register_key(server: Server, visitors: Visitors, person: Person, key: Authenticator) -> Flow:
    begun = ok((yield post(f"{ME}/webauthn/register/begin", person.token)))
    body = {
        "device_id": begun["device_id"],
        "challenge_id": begun["challenge_id"],
        "credential": key.register(begun["options"], origin=server.origin),
    }
    ok((yield post(f"{ME}/webauthn/register/complete", person.token, body)))
    visitors.keys.append((person, key))


def _verify_key(server: Server, person: Person, key: Authenticator) -> Flow:
    asked = ok((yield post(f"{ME}/challenge", person.token, {"method": "webauthn"})))
    options = {"userVerification": "preferred"} | asked["options"]
    credential = key.authenticate(options, origin=server.origin)
    ok((yield post(f"{ME}/verify", person.token, {"challenge_id": asked["challenge_id"], "credential": credential})))
