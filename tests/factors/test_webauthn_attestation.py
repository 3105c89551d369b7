"""Attestation statements that come unasked (WAR-08): right ones pass, broken ones fail, unknown ones count as none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from factors.webauthn import verify_registration
from tests.authenticator import Authenticator, Json
from tests.cose import EDDSA, ES256, ES384, ES512, RS256, cose_key, new_key
from tests.factors.ceremony import ORIGIN, expectations, refused, register, registration_options


@pytest.mark.parametrize(("attestation", "kept"), [("self", "packed"), ("packed", "packed"), ("none", "none")])
@pytest.mark.parametrize("algorithm", [ES256, EDDSA, RS256, ES384, ES512])
def test_war_08_a_right_statement_is_accepted(attestation: str, kept: str, algorithm: int) -> None:
    assert register(Authenticator([algorithm], attestation)).attestation_format == kept


@pytest.mark.parametrize("attestation", ["fido-u2f", "apple"])
def test_war_08_a_right_statement_of_one_certificate_is_accepted(attestation: str) -> None:
    assert register(Authenticator(attestation=attestation)).attestation_format == attestation


@pytest.mark.parametrize("statement", [{"sig": b""}, {"alg": -7}, {"x5c": []}, []])
def test_war_08_the_format_none_has_an_empty_statement(statement: object) -> None:
    with refused("attestation"):
        register(statement=lambda _: statement)


@pytest.mark.parametrize(
    "attestation",
    ["tpm", "android-key", "android-safetynet", "compound", "NONE", "Packed", "x" * 10_000, "", "\u0000\r\n"],
)
@pytest.mark.parametrize("statement", [{}, [], {"sig": b"broken", "x5c": [b""]}])
def test_war_08_any_other_format_counts_as_none(attestation: str, statement: object) -> None:
    assert register(attestation=attestation, statement=lambda _: statement).attestation_format == "none"


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def without(member: str) -> Callable[[Json], Json]:
    return lambda statement: {key: value for key, value in statement.items() if key != member}


@pytest.mark.parametrize("attestation", ["self", "packed", "fido-u2f", "apple"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda statement: {},
        lambda statement: [statement],
        lambda statement: statement | {"x5c": []},
        lambda statement: statement | {"x5c": {}},
        lambda statement: statement | {"x5c": "text"},
        lambda statement: statement | {"x5c": [b""]},
        lambda statement: statement | {"x5c": [7]},
        lambda statement: statement | {"x5c": [{}]},
        lambda statement: statement | {"x5c": False},
    ],
)
def test_war_08_a_statement_of_another_shape_is_refused(attestation: str, spoil: Callable[[Json], object]) -> None:
    with refused("attestation"):
        register(Authenticator(attestation=attestation), statement=spoil)


@pytest.mark.parametrize("attestation", ["self", "packed", "fido-u2f"])
@pytest.mark.parametrize(
    "spoil",
    [
        without("sig"),
        lambda statement: statement | {"sig": flipped(statement["sig"])},
        lambda statement: statement | {"sig": b""},
        lambda statement: statement | {"sig": "text"},
        lambda statement: statement | {"sig": []},
    ],
)
def test_war_08_a_broken_signature_is_refused(attestation: str, spoil: Callable[[Json], object]) -> None:
    with refused("attestation"):
        register(Authenticator(attestation=attestation), statement=spoil)


@pytest.mark.parametrize("attestation", ["self", "packed"])
@pytest.mark.parametrize("algorithm", [EDDSA, ES384, RS256, -37, -65535, 0, True, "ES256", [], b""])
def test_war_08_a_signature_of_another_algorithm_is_refused(attestation: str, algorithm: object) -> None:
    with refused("attestation"):
        register(Authenticator(attestation=attestation), statement=lambda kept: kept | {"alg": algorithm})


def test_war_08_the_long_gone_ecdaa_is_refused() -> None:
    with refused("attestation"):
        register(Authenticator(attestation="self"), statement=lambda kept: kept | {"ecdaaKeyId": b"id"})


def statement_of(authenticator: Authenticator) -> Json:
    """The statement of a registration of its own."""
    seen: Json = {}

    def see(statement: Json) -> Json:
        seen.update(statement)
        return statement

    register(authenticator, statement=see)
    return seen


@pytest.mark.parametrize("attestation", ["self", "packed", "fido-u2f", "apple"])
def test_war_08_a_statement_of_another_registration_is_refused(attestation: str) -> None:
    authenticator = Authenticator(attestation=attestation)
    earlier = statement_of(authenticator)
    with refused("attestation"):
        register(authenticator, statement=lambda _: earlier)


def test_war_08_a_certificate_of_another_make_is_refused() -> None:
    authenticator = Authenticator(attestation="packed", aaguid=b"A" * 16)
    certificates = statement_of(authenticator)["x5c"]
    authenticator.aaguid = b"B" * 16
    with refused("attestation"):
        register(authenticator, statement=lambda kept: kept | {"x5c": certificates})


def test_section_8_6_a_u2f_statement_has_one_certificate() -> None:
    with refused("attestation"):
        register(Authenticator(attestation="fido-u2f"), statement=lambda kept: kept | {"x5c": kept["x5c"] * 2})


def test_section_8_6_a_u2f_key_is_one_of_p_256() -> None:
    for algorithm in (ES384, EDDSA):
        with refused("attestation"):
            register(Authenticator([algorithm], "fido-u2f"))


def test_section_8_8_an_apple_certificate_is_one_of_the_credentials_own_key() -> None:
    other = cose_key(new_key(ES256), ES256)
    with refused("attestation"):
        register(Authenticator(attestation="apple"), public_key=other)


def test_war_08_client_data_is_part_of_what_is_attested() -> None:
    answer = Authenticator(attestation="self").register(registration_options(), origin=ORIGIN)
    spaced = Authenticator().register(registration_options(), origin=ORIGIN, client_data_json=lambda data: data + b" ")
    answer["response"]["clientDataJSON"] = spaced["response"]["clientDataJSON"]
    with refused("attestation"):
        verify_registration(answer, **expectations())
