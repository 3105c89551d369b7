"""Honest answers, mutated at random: each is verified or refused, and nothing worse (WAR-10, REL-01).

`WEBAUTHN_SEED` and `WEBAUTHN_MUTATIONS` in the environment give another run, or a longer one.
"""

from __future__ import annotations

import copy
import os
import random
from functools import partial
from typing import Any

import pytest

from tests.authenticator import Authenticator, Json, base64url, from_base64url
from tests.cose import EDDSA, ES256, RS256, cbor
from tests.factors.ceremony import ORIGIN, assertion_options, outcome, register, registration_options, with_response

SEED = os.environ.get("WEBAUTHN_SEED", "20261124")
MUTATIONS = int(os.environ.get("WEBAUTHN_MUTATIONS", "10000"))
ATTESTATIONS = ["none", "self", "packed", "fido-u2f", "apple"]


def flip_bits(source: random.Random, data: bytearray) -> bytes:
    for _ in range(source.randint(1, 4)):
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)
    return bytes(data)


def replace_bytes(source: random.Random, data: bytearray) -> bytes:
    start = source.randrange(len(data))
    data[start : start + source.randint(1, 8)] = source.randbytes(source.randint(0, 8))
    return bytes(data)


def truncate(source: random.Random, data: bytearray) -> bytes:
    return bytes(data[: source.randrange(len(data))])


def extend(source: random.Random, data: bytearray) -> bytes:
    return bytes(data) + source.randbytes(source.randint(1, 64))


def claim_more(source: random.Random, data: bytearray) -> bytes:
    """Put in the head of a CBOR item that is longer than what there is."""
    start = source.randrange(len(data))
    width = source.randrange(4)
    data[start : start + 1] = bytes([source.randrange(8) << 5 | 24 + width]) + b"\xff" * (1 << width)
    return bytes(data)


def repeat(source: random.Random, data: bytearray) -> bytes:
    start = source.randrange(len(data))
    end = start + source.randint(1, 64)
    data[start:end] = data[start:end] * source.randint(2, 9)
    return bytes(data)


def nest(source: random.Random, data: bytearray) -> bytes:
    start = source.randrange(len(data))
    data[start:start] = source.choice([b"\x81", b"\xa1\x00", b"\x9f", b"\xc0"]) * source.choice([1, 5, 50, 5000])
    return bytes(data)


def seeded(*names: object) -> random.Random:
    return random.Random(f"{SEED} {names}")  # noqa: S311 - repeatable, and no secret


def mutated(source: random.Random, data: bytes) -> bytes:
    mutate = source.choice([flip_bits, replace_bytes, truncate, extend, claim_more, repeat, nest])
    return mutate(source, bytearray(data))


@pytest.mark.parametrize("attestation", ATTESTATIONS)
def test_war_10_mutated_attestation_objects_are_refused_and_nothing_worse(attestation: str) -> None:
    source = seeded(attestation)
    authenticator = Authenticator(attestation=attestation)
    honest = authenticator.register(registration_options(), origin=ORIGIN, extensions=cbor({"credProtect": 2}))
    whole = from_base64url(honest["response"]["attestationObject"])
    seen = {
        outcome(with_response(honest, attestationObject=base64url(mutated(source, whole))))
        for _ in range(MUTATIONS // len(ATTESTATIONS))
    }
    assert seen >= {"cbor", "rp_id", "credential_id" if attestation == "none" else "attestation"}


@pytest.mark.parametrize("attestation", ATTESTATIONS)
def test_war_10_mutated_authenticator_data_is_refused_even_when_it_is_signed(attestation: str) -> None:
    source = seeded("signed", attestation)
    authenticator = Authenticator(attestation=attestation)
    for _ in range(MUTATIONS // 50):
        outcome(
            authenticator.register(registration_options(), origin=ORIGIN, authenticator_data=partial(mutated, source))
        )


@pytest.mark.parametrize(
    ("attestation", "member"), [("packed", "x5c"), ("fido-u2f", "x5c"), ("apple", "x5c"), ("self", "sig")]
)
def test_war_08_mutated_statements_are_refused_and_nothing_worse(attestation: str, member: str) -> None:
    source = seeded("statement", attestation)
    authenticator = Authenticator(attestation=attestation)

    def spoil(statement: Json) -> Json:
        if member == "x5c":
            return statement | {"x5c": [mutated(source, statement["x5c"][0])]}
        return statement | {"sig": mutated(source, statement["sig"])}

    seen = {
        outcome(authenticator.register(registration_options(), origin=ORIGIN, statement=spoil))
        for _ in range(MUTATIONS // 50)
    }
    # The signature of a certificate is not looked at, since nothing says whose it should be.
    assert seen <= {"attestation", "cbor", "verified"}


@pytest.mark.parametrize("algorithm", [ES256, EDDSA, RS256])
@pytest.mark.parametrize("member", ["authenticatorData", "clientDataJSON", "signature"])
def test_waa_04_a_mutated_assertion_is_never_verified(algorithm: int, member: str) -> None:
    source = seeded(algorithm, member)
    authenticator = Authenticator([algorithm])
    record = register(authenticator)
    honest = authenticator.authenticate(assertion_options(record.credential_id), origin=ORIGIN)
    whole = from_base64url(honest["response"][member])
    for _ in range(MUTATIONS // 9):
        spoilt = mutated(source, whole)
        verdict = outcome(with_response(honest, **{member: base64url(spoilt)}), record)
        assert (verdict == "verified") == (spoilt == whole)


JUNK: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**400,
    "",
    "A",
    "\0",
    "\ud800",
    "😀",
    "A" * 48_000,
    [],
    [[]],
    {},
    {"id": {}},
]


def paths(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Where each member of a JSON object stands."""
    if not isinstance(value, dict):
        return [path]
    return [path, *(deeper for key, inner in value.items() for deeper in paths(inner, (*path, key)))]


def replaced(answer: Json, path: tuple[str, ...], junk: object) -> Json:
    spoilt = copy.deepcopy(answer)
    parent = spoilt
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = junk
    return spoilt


def test_junk_in_any_member_is_refused_and_nothing_worse() -> None:
    authenticator = Authenticator()
    record = register(authenticator)
    made = Authenticator().register(registration_options(), origin=ORIGIN)
    used = authenticator.authenticate(assertion_options(record.credential_id), origin=ORIGIN)
    for junk in JUNK:
        for path in paths(made)[1:]:
            outcome(replaced(made, path, junk))
        for path in paths(used)[1:]:
            outcome(replaced(used, path, junk), record)


def test_an_empty_answer_is_refused() -> None:
    assert outcome({}) == "credential_type"
    assert outcome({}, register()) == "credential_type"
