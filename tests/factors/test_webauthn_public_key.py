"""What a credential's key must look like before it is kept."""

from __future__ import annotations

import pytest

from factors.webauthn import RegisteredCredential
from factors.webauthn_public_key import OFFERED_ALGORITHMS
from tests.authenticator import Authenticator
from tests.cose import EDDSA, ES256, ES384, ES512, RS256, cbor, cose_key, new_key
from tests.factors.ceremony import refused, register

KEYS = {algorithm: cose_key(new_key(algorithm), algorithm) for algorithm in (ES256, EDDSA, RS256, ES384, ES512)}


def register_key(algorithm: int, **changes: object) -> RegisteredCredential:
    """Register with parameters changed: `p1` is kty, `m1` is parameter -1, and None drops one."""
    labels = {"p1": 1, "p2": 2, "p4": 4, "m1": -1, "m2": -2, "m3": -3, "m4": -4}
    key = KEYS[algorithm] | {labels[name]: value for name, value in changes.items()}
    return register(public_key={label: value for label, value in key.items() if value is not None})


def test_war_11_the_offer_is_what_can_be_verified_in_order_of_preference() -> None:
    assert OFFERED_ALGORITHMS == (ES256, EDDSA, RS256, ES384, ES512)


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_key_is_kept_as_it_came(algorithm: int) -> None:
    assert register_key(algorithm).public_key == cbor(KEYS[algorithm])


def test_a_key_in_another_order_is_kept_in_canonical_order() -> None:
    shuffled = dict(reversed(KEYS[ES256].items()))
    assert register(public_key=shuffled).public_key == cbor(KEYS[ES256])


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("value", [None, 0, 4, True, "2", b"\2", [2], {}])
def test_a_key_of_another_type_is_refused(algorithm: int, value: object) -> None:
    with refused("public_key"):
        register_key(algorithm, p1=value)


def test_true_is_not_one() -> None:
    with refused("public_key"):
        register_key(EDDSA, p1=True)
    with refused("public_key"):
        register_key(ES256, m1=True)
    with refused("public_key"):
        register(public_key={True: 2} | {label: value for label, value in KEYS[ES256].items() if label != 1})


@pytest.mark.parametrize("algorithm", [ES256, EDDSA, ES384, ES512])
@pytest.mark.parametrize("curve", [None, 0, 4, 5, 7, 8, "P-256", b"\1"])
def test_section_5_8_5_a_key_on_another_curve_is_refused(algorithm: int, curve: object) -> None:
    with refused("public_key"):
        register_key(algorithm, m1=curve)


@pytest.mark.parametrize("algorithm", [ES256, EDDSA, ES384, ES512])
@pytest.mark.parametrize("coordinate", [None, b"", b"\1", bytes(31), bytes(33), bytes(67), "x" * 32, 7, [1] * 32, {}])
def test_coordinates_of_another_length_or_type_are_refused(algorithm: int, coordinate: object) -> None:
    with refused("public_key"):
        register_key(algorithm, m2=coordinate)


@pytest.mark.parametrize("algorithm", [ES256, ES384, ES512])
@pytest.mark.parametrize("sign", [True, False])
def test_section_5_8_5_a_compressed_point_is_refused(algorithm: int, sign: bool) -> None:
    with refused("public_key"):
        register_key(algorithm, m3=sign)


@pytest.mark.parametrize("algorithm", [ES256, ES384, ES512])
def test_a_point_off_its_curve_is_refused(algorithm: int) -> None:
    width = {ES256: 32, ES384: 48, ES512: 66}[algorithm]
    for coordinate in (bytes(width), b"\xff" * width, b"\1" * width):
        with refused("public_key"):
            register_key(algorithm, m2=coordinate, m3=coordinate)


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("extra", [{"p2": b"kid"}, {"p4": [2]}, {"m4": b"a private part"}])
def test_section_6_5_1_a_parameter_too_many_is_refused(algorithm: int, extra: dict[str, object]) -> None:
    with refused("public_key"):
        register_key(algorithm, **extra)


def modulus(bits: int) -> bytes:
    return ((1 << bits) - 1).to_bytes((bits + 7) // 8)


@pytest.mark.parametrize("bits", [2048, 3072, 3482, 4096, 8192])
def test_rsa_keys_of_2048_to_8192_bits_are_accepted(bits: int) -> None:
    assert register_key(RS256, m1=modulus(bits)).algorithm == RS256


@pytest.mark.parametrize("bits", [1, 512, 1024, 2047, 8193, 16384, 200_000])
def test_smaller_and_larger_rsa_keys_are_refused(bits: int) -> None:
    with refused("public_key"):
        register_key(RS256, m1=modulus(bits))


@pytest.mark.parametrize(
    "changes",
    [
        {"m1": modulus(2048)[:-1] + b"\xfe"},
        {"m1": b"\0" + modulus(2048)},
        {"m1": None},
        {"m1": 2**64 - 1},
        {"m1": "n" * 256},
        {"m2": b""},
        {"m2": b"\0"},
        {"m2": b"\1"},
        {"m2": b"\2"},
        {"m2": b"\1\0\0"},
        {"m2": b"\0\1\0\1"},
        {"m2": b"\1\0\0\0\1"},
        {"m2": b"\xff" * 256},
        {"m2": 65537},
        {"m2": None},
    ],
)
def test_rsa_parameters_that_make_no_key_are_refused(changes: dict[str, object]) -> None:
    with refused("public_key"):
        register_key(RS256, **changes)


@pytest.mark.parametrize("exponent", [b"\3", b"\x01\x00\x01", b"\xff\xff\xff\xff"])
def test_rsa_exponents_of_up_to_32_bits_are_accepted(exponent: bytes) -> None:
    assert register_key(RS256, m2=exponent).algorithm == RS256


@pytest.mark.parametrize("key", [{}, {1: 2}, [], 7, "text", b"", {3: []}, {3: False}])
def test_what_is_no_key_at_all_is_refused(key: object) -> None:
    attested = Authenticator().aaguid + b"\0\1i" + cbor(key)
    with refused("authenticator_data"):
        register(authenticator_data=lambda data: data[:37] + attested, credential={"id": "aQ", "rawId": "aQ"})
