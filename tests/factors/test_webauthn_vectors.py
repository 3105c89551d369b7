"""The test vectors of W3C WebAuthn Level 3, section 16 (WAA-08): what the world agrees on, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from factors.webauthn import RegisteredCredential, verify_registration
from factors.webauthn_assertion import verify_assertion
from factors.webauthn_public_key import OFFERED_ALGORITHMS
from tests.authenticator import base64url
from tests.factors.ceremony import refused

DOCUMENT = json.loads((Path(__file__).parent.parent / "vectors" / "webauthn_l3_section16.json").read_text())
VECTORS: list[dict[str, Any]] = DOCUMENT["vectors"]
OFFERED = [vector for vector in VECTORS if vector["derived"]["alg"] in OFFERED_ALGORITHMS]
UNOFFERED = [vector for vector in VECTORS if vector not in OFFERED]
FRAMED = [vector for vector in OFFERED if vector["derived"]["registration_crossOrigin"]]
VERIFIED_FORMATS = ("packed", "fido-u2f", "apple")


def title(vector: dict[str, Any]) -> str:
    return str(vector["anchor"]).removeprefix("sctn-test-vectors-")


def b64(hexadecimal: str) -> str:
    return base64url(bytes.fromhex(hexadecimal))


def register(vector: dict[str, Any], top_origins: tuple[str, ...] = (DOCUMENT["topOrigin"],)) -> RegisteredCredential:
    registration = vector["registration"]
    return verify_registration(
        {
            "id": b64(registration["credential_id"]),
            "rawId": b64(registration["credential_id"]),
            "type": "public-key",
            "response": {
                "clientDataJSON": b64(registration["clientDataJSON"]),
                "attestationObject": b64(registration["attestationObject"]),
            },
        },
        expected_challenge=bytes.fromhex(registration["challenge"]),
        expected_rp_id=DOCUMENT["rpId"],
        expected_origins=[DOCUMENT["origin"]],
        expected_top_origins=top_origins,
        require_user_verification=False,
    )


def authenticate(
    vector: dict[str, Any], record: RegisteredCredential, top_origins: tuple[str, ...] = (DOCUMENT["topOrigin"],)
) -> None:
    authentication = vector["authentication"]
    verify_assertion(
        {
            "id": base64url(record.credential_id),
            "rawId": base64url(record.credential_id),
            "type": "public-key",
            "response": {
                "clientDataJSON": b64(authentication["clientDataJSON"]),
                "authenticatorData": b64(authentication["authenticatorData"]),
                "signature": b64(authentication["signature"]),
            },
        },
        expected_challenge=bytes.fromhex(authentication["challenge"]),
        expected_rp_id=DOCUMENT["rpId"],
        expected_origins=[DOCUMENT["origin"]],
        expected_top_origins=top_origins,
        require_user_verification=False,
        expected_user_handle=b"none is sent",
        credential_id=record.credential_id,
        public_key=record.public_key,
        sign_count=record.sign_count,
        backup_eligible=record.backup_eligible,
    )


def test_every_offered_algorithm_and_every_format_is_among_them() -> None:
    assert {vector["derived"]["alg"] for vector in OFFERED} == set(OFFERED_ALGORITHMS)
    assert {vector["derived"]["fmt"] for vector in OFFERED} >= {"none", "tpm", "android-key", *VERIFIED_FORMATS}
    assert (len(FRAMED), len(UNOFFERED)) == (2, 1)


@pytest.mark.parametrize("vector", OFFERED, ids=title)
def test_waa_08_a_pair_registers_and_asserts(vector: dict[str, Any]) -> None:
    record = register(vector)
    authenticate(vector, record)
    derived = vector["derived"]
    assert record.credential_id.hex() == vector["registration"]["credential_id"]
    assert record.aaguid.hex == vector["registration"]["aaguid"]
    assert record.algorithm == derived["alg"]
    assert (record.user_verified, record.backup_eligible, record.backed_up) == (
        derived["UV"],
        derived["BE"],
        derived["BS"],
    )


@pytest.mark.parametrize("vector", OFFERED, ids=title)
def test_war_08_a_format_that_the_library_cannot_verify_counts_as_none(vector: dict[str, Any]) -> None:
    given = vector["derived"]["fmt"]
    assert register(vector).attestation_format == (given if given in VERIFIED_FORMATS else "none")


@pytest.mark.parametrize("vector", FRAMED, ids=title)
def test_war_05_a_frame_of_another_origin_is_refused_unless_its_page_is_expected(vector: dict[str, Any]) -> None:
    with refused("cross_origin"):
        register(vector, top_origins=())
    record = register(vector)
    with refused("cross_origin"):
        authenticate(vector, record, top_origins=())


def test_war_05_a_page_that_is_not_expected_is_refused_where_another_is() -> None:
    vector = next(vector for vector in FRAMED if vector["derived"]["registration_topOrigin"])
    with refused("top_origin"):
        register(vector, top_origins=("https://example.net",))


@pytest.mark.parametrize("vector", UNOFFERED, ids=title)
def test_war_07_an_algorithm_that_was_not_offered_is_refused(vector: dict[str, Any]) -> None:
    with refused("algorithm"):
        register(vector)
