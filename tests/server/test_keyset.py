"""Reading keys: what of a file or a JWK set counts, and for which algorithm."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from server.keyset import MAX_KEYS, FixedKeys, KeySet, read_jwks

P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
WEAK_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - weak on purpose
ALL = ("RS256", "PS256", "ES256", "ES384", "EdDSA")


def jwk(key: Any, **members: Any) -> dict[str, Any]:
    family = {"RSAPublicKey": "RS256", "Ed25519PublicKey": "EdDSA"}.get(type(key.public_key()).__name__, "ES256")
    return {**jwt.get_algorithm_by_name(family).to_jwk(key.public_key(), as_dict=True), **members}


def read(*members: Any, algorithms: tuple[str, ...] = ALL) -> KeySet:
    return read_jwks(json.dumps({"keys": members}), algorithms)


def private_pem(key: Any, password: bytes | None = None) -> str:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption), "ascii")


def public_pem(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "ascii")


def file_keys(text: str, algorithms: tuple[str, ...] = ALL) -> KeySet:
    return asyncio.run(FixedKeys.from_text(text, algorithms).current())


@pytest.mark.parametrize(
    ("key", "fitting"),
    [(P256, {"ES256"}), (P384, {"ES384"}), (ED25519, {"EdDSA"}), (RSA, {"RS256", "PS256"})],
    ids=["P-256", "P-384", "Ed25519", "RSA"],
)
def test_tok_01_a_key_serves_the_algorithms_of_its_family_and_curve_only(key: Any, fitting: set[str]) -> None:
    assert [key.algorithms for key in read(jwk(key)).keys] == [fitting]


def test_tok_01_a_key_that_declares_its_algorithm_serves_no_other() -> None:
    keys = read(jwk(RSA, alg="PS256"))
    assert keys.find(None, "PS256")
    assert keys.find(None, "RS256") is None


def test_tok_01_a_key_serves_configured_algorithms_only() -> None:
    assert read(jwk(RSA), jwk(P256), algorithms=("EdDSA",)).keys == ()


def test_tok_01_rsa_keys_under_2048_bits_are_left_out() -> None:
    assert read(jwk(WEAK_RSA)).keys == ()


@pytest.mark.parametrize(
    "unusable",
    [
        pytest.param(jwk(P256, use="enc"), id="for encryption"),
        pytest.param(jwk(P256, key_ops=["deriveKey"]), id="for key agreement"),
        pytest.param({"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}, id="a secret, published"),
        pytest.param({"kty": "oct"}, id="a secret without a value"),
        pytest.param(jwt.get_algorithm_by_name("ES256").to_jwk(P256, as_dict=True), id="a private key, published"),
        pytest.param(jwk(RSA, alg="RSA-OAEP"), id="of an encryption algorithm"),
        pytest.param(jwk(P256, alg="none"), id="of no algorithm"),
        pytest.param(jwk(P256, alg=["ES256"]), id="an algorithm that is a list"),
        pytest.param(jwk(P256, alg="RS256"), id="an algorithm of another family"),
        pytest.param(jwk(P256, crv="P-384"), id="another curve's name"),
        pytest.param(jwk(P256, x="AAAA"), id="a short coordinate"),
        pytest.param({**jwk(P256), "x": jwk(P256)["y"]}, id="a point off the curve"),
        pytest.param(jwk(P256, x=5), id="a coordinate that is a number"),
        pytest.param(jwk(P256, kid=5), id="a name that is a number"),
        pytest.param({"kty": "RSA", "n": "AQAB", "e": "AQAB"}, id="a tiny modulus"),
        pytest.param({"kty": "RSA", "n": None, "e": "AQAB"}, id="no modulus"),
        pytest.param({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"}, id="an unknown family"),
        pytest.param({"kty": ["EC"]}, id="a family that is a list"),
        pytest.param({}, id="nothing"),
        pytest.param([], id="a list"),
        pytest.param("key", id="a string"),
        pytest.param(None, id="null"),
    ],
)
def test_a_key_that_cannot_be_used_is_left_out_and_the_others_count(unusable: Any) -> None:
    keys = read(unusable, jwk(ED25519, kid="good"), unusable)
    assert [key.kid for key in keys.keys] == ["good"]


@pytest.mark.parametrize("document", ["", "null", "[]", "{}", '{"keys":{}}', '{"keys":"x"}', "<html>", '{"keys":'])
def test_what_is_no_jwk_set_is_said_to_be_none(document: str) -> None:
    with pytest.raises(ValueError, match="no JWK set"):
        read_jwks(document, ALL)


def test_a_set_of_more_keys_than_anyone_needs_is_not_read() -> None:
    read(*[{}] * MAX_KEYS)
    with pytest.raises(ValueError, match="at most 100"):
        read(*[{}] * (MAX_KEYS + 1))


def test_a_name_finds_its_key_among_many() -> None:
    keys = read(jwk(P256, kid="one"), jwk(ec.generate_private_key(ec.SECP256R1()), kid="two"))
    found = keys.find("one", "ES256")
    assert found is not None
    assert found.material == P256.public_key()
    assert keys.find("three", "ES256") is None


def test_one_name_may_stand_for_keys_of_two_families() -> None:
    keys = read(jwk(P256, kid="main"), jwk(RSA, kid="main"))
    found = keys.find("main", "RS256")
    assert found is not None
    assert found.material == RSA.public_key()


def test_the_name_may_be_missing_when_exactly_one_key_fits() -> None:
    keys = read(jwk(P256, kid="one"), jwk(RSA, kid="two"))
    assert keys.find(None, "ES256")
    two = read(jwk(P256, kid="one"), jwk(ec.generate_private_key(ec.SECP256R1()), kid="two"))
    assert two.find(None, "ES256") is None


def test_a_key_without_a_name_answers_to_any_when_it_is_the_only_one() -> None:
    assert read(jwk(P256)).find("any", "ES256")
    assert read(jwk(P256), jwk(ec.generate_private_key(ec.SECP256R1()))).find("any", "ES256") is None


@pytest.mark.parametrize("key", [P256, ED25519, RSA], ids=["EC", "Ed25519", "RSA"])
def test_a_key_file_may_be_the_pem_of_a_public_or_of_a_private_key(key: Any) -> None:
    for text in (public_pem(key), private_pem(key)):
        assert [found.material for found in file_keys(text).keys] == [key.public_key()]


def test_a_key_file_may_be_a_jwk_set() -> None:
    text = "\n" + json.dumps({"keys": [jwk(P256, kid="one"), jwk(RSA, kid="two")]}, indent=2)
    assert [key.kid for key in file_keys(text).keys] == ["one", "two"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("ssh-ed25519 AAAA", id="ssh"),
        pytest.param("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", id="broken"),
        pytest.param(private_pem(P256, b"password"), id="encrypted"),
        pytest.param(public_pem(WEAK_RSA), id="weak"),
        pytest.param(public_pem(P384), id="not configured"),
        pytest.param(public_pem(x25519.X25519PrivateKey.generate()), id="not for signatures"),
        pytest.param('{"keys":[]}', id="no keys"),
        pytest.param(json.dumps({"keys": [jwk(P256, use="enc")]}), id="no usable keys"),
        pytest.param(json.dumps(jwk(P256)), id="a single JWK"),
    ],
)
def test_a_key_file_without_a_usable_key_is_an_error_at_the_start(text: str) -> None:
    with pytest.raises(ValueError, match=r"no public key for|neither a JWK set nor the PEM|no JWK set"):
        FixedKeys.from_text(text, ("RS256", "ES256"))


@pytest.mark.parametrize("secret", ["", "x" * 31, public_pem(RSA), json.dumps(jwk(P256))])
def test_tok_01_a_short_secret_or_the_text_of_a_key_is_no_secret(secret: str) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        FixedKeys.from_secret(secret)


def test_fixed_keys_are_always_ready_and_always_the_same() -> None:
    async def scenario() -> None:
        keys = FixedKeys.from_secret("x" * 32)
        assert await keys.ready()
        assert await keys.current() is await keys.newer()

    asyncio.run(scenario())
