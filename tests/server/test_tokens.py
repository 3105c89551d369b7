"""Bearer tokens, attacked. Each token is really signed; the keys are fixed here, `test_jwks.py` fetches them."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import SecretStr

from factors.errors import InsufficientScope, InvalidToken, KeysUnavailable, StepUpRequired, Unauthenticated
from server import tokens
from server.keyset import FixedKeys, Key, KeySet
from server.tokens import MAX_TOKEN_LENGTH, Verifier, challenge

ISSUER = "https://idp.example.com/"
AUDIENCE = "mfa-server"
SECRET = "a secret of the app and its identity provider"
NOW = 1_800_000_000.0
P256 = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
ABSENT = object()


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Keys:
    """A key source whose set the test replaces, or takes away, as an identity provider would."""

    def __init__(self, *keys: Any, algorithm: str = "ES256") -> None:
        self.asked = 0
        self.algorithm = algorithm
        self.publish(*keys)

    def publish(self, *keys: Any) -> None:
        self.set: Any = KeySet(tuple(Key(None, frozenset({self.algorithm}), key) for key in keys))

    async def current(self) -> Any:
        self.asked += 1
        if self.set is None:
            raise KeysUnavailable
        return self.set

    newer = current

    async def ready(self) -> bool:
        return self.set is not None


def make_verifier(keys: Any = None, **changes: Any) -> Verifier:
    arguments = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "algorithms": ("ES256",),
        "tenant_claim": "tenant_id",
        "require_at_jwt": False,
        "keys": keys or Keys(P256.public_key()),
        "clock": Clock(),
    }
    return Verifier(**{**arguments, **changes})


def make_claims(**changes: Any) -> dict[str, Any]:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": NOW, "exp": NOW + 600, **changes}
    return {name: value for name, value in claims.items() if value is not ABSENT}


def sign(
    payload: bytes | dict[str, Any] | None = None, key: Any = P256, algorithm: str = "ES256", **header: Any
) -> str:
    """A token of any payload, signed with PyJWT's signatures but free of its checks."""
    if payload is None or isinstance(payload, dict):
        payload = json.dumps(make_claims() if payload is None else payload).encode()
    return sign_parts(json.dumps({"alg": algorithm, **header}).encode(), payload, key, algorithm)


def sign_parts(header: bytes, payload: bytes, key: Any = P256, algorithm: str = "ES256") -> str:
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload))
    implementation = jwt.get_algorithm_by_name(algorithm)
    signature = implementation.sign(signed, implementation.prepare_key(key))
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def verify(token: str, verifier: Verifier | None = None) -> dict[str, Any]:
    return asyncio.run((verifier or make_verifier()).verify(token))


def refusal(token: str, verifier: Verifier | None = None) -> str | None:
    with pytest.raises(InvalidToken) as refused:
        verify(token, verifier)
    return refused.value.reason


def test_an_access_token_of_the_issuer_is_accepted_and_its_claims_come_back() -> None:
    claims = make_claims(email="alice@example.com", tenant_id="acme", amr=["pwd"], scope="mfa:verify")
    assert verify(sign(claims)) == claims


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA"])
def test_each_configured_algorithm_verifies(algorithm: str) -> None:
    key: Any = {
        "ES256": P256,
        "ES384": ec.generate_private_key(ec.SECP384R1()),
        "ES512": ec.generate_private_key(ec.SECP521R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }.get(algorithm, RSA)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    verifier = make_verifier(FixedKeys.from_text(pem, [algorithm]), algorithms=[algorithm])
    assert verify(sign(key=key, algorithm=algorithm), verifier)["sub"] == "alice"


# TOK-01: the signature


def test_tok_01_a_token_without_a_signature_is_refused() -> None:
    assert refusal(sign().rsplit(".", 1)[0] + ".") == "signature"


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "", None, ["ES256"], {}, 5])
def test_tok_01_no_algorithm_is_no_algorithm(algorithm: Any) -> None:
    assert refusal(sign(alg=algorithm)) == "algorithm"
    assert refusal(sign(alg=algorithm).rsplit(".", 1)[0] + ".") == "algorithm"


def test_tok_01_an_algorithm_must_be_named() -> None:
    assert refusal(sign_parts(b'{"typ":"JWT"}', json.dumps(make_claims()).encode())) == "algorithm"


def test_tok_01_a_token_signed_by_another_key_is_refused() -> None:
    assert refusal(sign(key=ec.generate_private_key(ec.SECP256R1()))) == "signature"


def test_tok_01_a_token_with_a_changed_claim_is_refused() -> None:
    header, _, signature = sign().split(".")
    _, payload, _ = sign(make_claims(sub="mallory")).split(".")
    assert refusal(f"{header}.{payload}.{signature}") == "signature"


def test_tok_01_the_public_key_is_not_taken_for_a_shared_secret() -> None:
    """The old confusion: HS256 keyed with the text of the RSA key that everyone can read (CVE-2022-29217)."""
    signed = b".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "HS256", "typ": "JWT"}, make_claims())
    )
    mac = hmac.HMAC(RSA_PEM.encode(), hashes.SHA256())
    mac.update(signed)
    forged = (signed + b"." + base64.urlsafe_b64encode(mac.finalize()).rstrip(b"=")).decode()
    verifier = make_verifier(FixedKeys.from_text(RSA_PEM, ["RS256"]), algorithms=["RS256"])
    assert verify(sign(key=RSA, algorithm="RS256"), verifier)
    assert refusal(forged, verifier) == "algorithm"


def test_tok_01_an_algorithm_of_the_same_key_that_is_not_configured_is_refused() -> None:
    verifier = make_verifier(FixedKeys.from_text(RSA_PEM, ["RS256"]), algorithms=["RS256"])
    assert refusal(sign(key=RSA, algorithm="PS256"), verifier) == "algorithm"


def test_tok_01_a_header_cannot_name_one_algorithm_and_sign_with_another() -> None:
    signed = sign(key=RSA, algorithm="RS256", alg="PS256").rsplit(".", 1)[0]
    signature = RSA.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    forged = f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    verifier = make_verifier(FixedKeys.from_text(RSA_PEM, ["RS256", "PS256"]), algorithms=["RS256", "PS256"])
    assert refusal(forged, verifier) == "signature"


def test_tok_01_hs256_works_with_a_secret_and_then_alone() -> None:
    verifier = make_verifier(FixedKeys.from_secret(SECRET), algorithms=("HS256",))
    assert verify(sign(key=SECRET, algorithm="HS256"), verifier)
    assert refusal(sign(), verifier) == "algorithm"
    assert refusal(sign(key=SECRET, algorithm="HS512"), verifier) == "algorithm"
    assert refusal(sign(key=SECRET[:-1], algorithm="HS256"), verifier) == "signature"


@pytest.mark.parametrize("algorithms", [(), ("none",), ("HS512",), ("ES256", "HS256"), ("HS256", "ES256"), ("FOO",)])
def test_tok_01_an_allow_list_that_mixes_or_invents_algorithms_is_an_error(algorithms: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="HS256 by itself"):
        make_verifier(algorithms=algorithms)


def test_tok_01_a_weak_key_is_refused_even_when_a_source_hands_it_over() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - weak on purpose
    verifier = make_verifier(Keys(weak.public_key(), algorithm="RS256"), algorithms=["RS256"])
    with warnings.catch_warnings(action="ignore"):
        assert refusal(sign(key=weak, algorithm="RS256"), verifier) == "malformed"


# TOK-03: issuer, audience and time


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "exp"])
@pytest.mark.parametrize("value", [ABSENT, None], ids=["absent", "null"])
def test_tok_03_a_required_claim_must_be_there(name: str, value: Any) -> None:
    assert refusal(sign(make_claims(**{name: value}))) == "claim_missing"


@pytest.mark.parametrize(
    "issuer",
    [
        "",
        "https://idp.example.com",
        ISSUER + "/",
        "https://idp.example.com.evil.com/",
        "h",
        ISSUER.upper(),
        [ISSUER],
        5,
    ],
)
def test_tok_03_the_issuer_is_compared_whole(issuer: Any) -> None:
    assert refusal(sign(make_claims(iss=issuer))) == "issuer"


@pytest.mark.parametrize(
    "audience", ["other", "mfa", "mfa-server2", ["other"], {AUDIENCE: 1}, [AUDIENCE, 5], [[AUDIENCE]]]
)
def test_tok_03_a_token_for_another_audience_is_refused(audience: Any) -> None:
    assert refusal(sign(make_claims(aud=audience))) == "audience"


def test_tok_03_an_empty_list_of_audiences_is_no_audience() -> None:
    assert refusal(sign(make_claims(aud=[]))) == "claim_missing"


def test_tok_03_one_of_several_audiences_is_enough() -> None:
    assert verify(sign(make_claims(aud=["account", AUDIENCE])))


def test_tok_03_a_verifier_needs_an_issuer_and_an_audience() -> None:
    for missing in ({"issuer": ""}, {"audience": ""}):
        with pytest.raises(ValueError, match="empty"):
            make_verifier(**missing)


def test_tok_03_a_token_ends_with_its_time_and_thirty_seconds() -> None:
    assert verify(sign(make_claims(exp=NOW - 29)))
    assert verify(sign(make_claims(exp=NOW - 29.5)))
    assert refusal(sign(make_claims(exp=NOW - 30))) == "expired"
    assert refusal(sign(make_claims(exp=0))) == "expired"


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_tok_03_a_token_does_not_begin_before_its_time(name: str) -> None:
    assert verify(sign(make_claims(**{name: NOW + 30})))
    assert refusal(sign(make_claims(**{name: NOW + 31}))) == "not_yet_valid"


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value", ['"1900000000"', "true", "[1900000000]", "{}", "NaN", "Infinity", "-1", "1e300", "1" + "0" * 4000]
)
def test_tok_03_a_time_is_a_number_of_seconds_in_a_year_that_exists(name: str, value: str) -> None:
    """PyJWT takes the number in a string, and an integer that no float can hold raises OverflowError later."""
    claims = json.dumps(make_claims(**{name: "HERE"})).replace('"HERE"', value)
    assert refusal(sign(claims.encode())) == "date"


def test_tok_03_an_integer_too_long_for_python_is_malformed() -> None:
    claims = json.dumps(make_claims(exp="HERE")).replace('"HERE"', "1" + "0" * 5000)
    assert refusal(sign(claims.encode())) == "malformed"


# TOK-04, TOK-14: tokens of another kind


@pytest.mark.parametrize(
    "evidence",
    [{"nonce": "n"}, {"nonce": None}, {"at_hash": "h"}, {"typ": "ID"}, {"token_use": "id"}],
    ids=["nonce", "null nonce", "at_hash", "Keycloak", "Cognito"],
)
def test_tok_04_an_id_token_is_refused(evidence: dict[str, Any]) -> None:
    assert refusal(sign(make_claims(**evidence))) == "id_token"


@pytest.mark.parametrize("kind", ["ID", "id_token", "id+jwt", "ID_TOKEN"])
def test_tok_04_a_type_that_names_an_id_token_is_refused(kind: str) -> None:
    assert refusal(sign(typ=kind)) == "id_token"


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"])
def test_tok_04_the_types_of_access_tokens_are_accepted(kind: str) -> None:
    assert verify(sign(typ=kind))
    assert verify(sign(make_claims(typ="Bearer", token_use="access"), typ=kind))


@pytest.mark.parametrize(
    "kind", ["mfa+jwt", "logout+jwt", "dpop+jwt", "secevent+jwt", "JOSE", "", None, 5, ["JWT"], {}]
)
def test_tok_04_any_other_type_is_refused(kind: Any) -> None:
    assert refusal(sign(typ=kind)) == "type"


def test_tok_04_at_jwt_can_be_demanded() -> None:
    verifier = make_verifier(require_at_jwt=True)
    assert verify(sign(typ="at+jwt"), verifier)
    assert verify(sign(typ="application/at+jwt"), verifier)
    assert refusal(sign(typ="JWT"), verifier) == "type"
    assert refusal(sign(), verifier) == "type"


@pytest.mark.parametrize("confirmation", [{"jkt": "x"}, {"x5t#S256": "x"}, {}, None])
def test_tok_14_a_token_bound_to_its_sender_is_refused(confirmation: Any) -> None:
    assert refusal(sign(make_claims(cnf=confirmation))) == "sender_constrained"


# TOK-05, TOK-06: who it is


@pytest.mark.parametrize("subject", ["", "x" * 256, "alice\0", "\0", 5, True, ["alice"], {"alice": 1}])
def test_tok_06_a_subject_that_is_no_name_is_refused(subject: Any) -> None:
    assert refusal(sign(make_claims(sub=subject))) in {"subject", "malformed"}


@pytest.mark.parametrize("subject", ["x", "x" * 255, "Ünïcødé", "é", "007", " alice ", "\N{GRINNING FACE}" * 255])
def test_tok_05_a_subject_stays_the_text_it_is(subject: str) -> None:
    assert verify(sign(make_claims(sub=subject)))["sub"] == subject


@pytest.mark.parametrize("tenant", ["", "x" * 256, "acme\0", 5, None, ["acme"], True, {}])
def test_tok_05_a_tenant_that_is_no_name_is_refused(tenant: Any) -> None:
    assert refusal(sign(make_claims(tenant_id=tenant))) == "tenant"
    verifier = make_verifier(tenant_claim="https://app.example.com/org")
    assert verify(sign(make_claims(tenant_id=tenant)), verifier)
    assert refusal(sign(make_claims(**{"https://app.example.com/org": tenant})), verifier) == "tenant"


@pytest.mark.parametrize("name", ["sub", "tenant_id", "email", "name"])
def test_tok_06_text_that_no_database_can_store_is_refused(name: str) -> None:
    """JSON can escape half of a surrogate pair, which has no encoding in UTF-8."""
    payload = json.dumps(make_claims(**{name: "x\ud800"})).encode()
    assert refusal(sign(payload)) == "malformed"


# TOK-10: hostile forms


def test_tok_10_a_token_over_16_kib_is_refused_before_anything_reads_it() -> None:
    keys = Keys(P256.public_key())
    padded = sign(make_claims(filler="x" * MAX_TOKEN_LENGTH))
    assert len(padded) > MAX_TOKEN_LENGTH
    assert refusal(padded, make_verifier(keys)) == "malformed"
    assert keys.asked == 0
    assert verify(sign(make_claims(filler="x" * (MAX_TOKEN_LENGTH // 2))))


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": True},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True},
        {"crit": []},
        {"crit": None},
        {"crit": "b64"},
    ],
    ids=json.dumps,
)
def test_tok_10_a_header_that_must_be_understood_is_refused_before_keys_are_looked_up(header: dict[str, Any]) -> None:
    keys = Keys(P256.public_key())
    assert refusal(sign(**header), make_verifier(keys)) in {"critical", "malformed"}
    assert keys.asked == 0


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param("..", id="only dots"),
        pytest.param("a.b", id="two segments"),
        pytest.param(sign() + ".", id="four segments"),
        pytest.param("e30.e30.e30.e30.e30", id="JWE"),
        pytest.param("!!!.e30.AAAA", id="no base64"),
        pytest.param(" " + sign(), id="leading space"),
        pytest.param("é" + sign(), id="no ASCII"),
        pytest.param("\ud800" + sign(), id="no text"),
        pytest.param("\0" + sign(), id="NUL"),
        pytest.param(sign_parts(b"[]", b"{}"), id="header is a list"),
        pytest.param(sign_parts(b"null", b"{}"), id="header is null"),
        pytest.param(sign_parts(b'{"alg":"ES256"', b"{}"), id="header is cut off"),
        pytest.param(sign_parts(b'{"alg":"ES256","x":"\xff"}', b"{}"), id="header is not UTF-8"),
        pytest.param(sign_parts(b"[" * 9000, b"{}"), id="header is nested deep"),
        pytest.param(sign_parts(b'{"alg":"ES256","x":' + b"[" * 9000 + b"}", b"{}"), id="header nests deep"),
        pytest.param(sign(kid=5), id="kid is a number"),
        pytest.param(sign(kid=None), id="kid is null"),
    ],
)
def test_tok_10_what_is_no_token_is_refused_before_keys_are_looked_up(token: str) -> None:
    keys = Keys(P256.public_key())
    assert refusal(token, make_verifier(keys)) == "malformed"
    assert keys.asked == 0


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"x"', id="string"),
        pytest.param(b"\xff\xfe\xfd", id="not UTF-8"),
        pytest.param(b"[" * 9000, id="nested deep"),
        pytest.param(json.dumps(make_claims()).encode()[:-1] + b',"x":' + b"[" * 300 + b"]" * 300 + b"}", id="nests"),
        pytest.param(json.dumps(make_claims()).encode()[:-1] + b',"typ":' + b"[" * 900 + b"]" * 900 + b"}", id="typ"),
        pytest.param(json.dumps(make_claims(x=2**64)).encode(), id="integer over 64 bits"),
    ],
)
def test_tok_10_signed_nonsense_is_refused_like_any_other(payload: bytes) -> None:
    assert refusal(sign(payload)) == "malformed"


def test_tok_10_broken_tokens_set_off_nothing_but_refusals() -> None:
    chance = random.Random(20)  # noqa: S311 - the same damage in every run
    whole = sign(make_claims(tenant_id="acme"), kid="one", typ="JWT")
    verifier = make_verifier()
    for _ in range(400):
        start = chance.randrange(len(whole))
        junk = "".join(chance.choices("._-=+/ AZaz09\0é\ud800", k=chance.randrange(5)))
        broken = whole[:start] + junk + whole[start + chance.randrange(40) :]
        if broken != whole:
            refusal(broken, verifier)


# What is remembered


class CountingKeySet:
    """A set of one key that counts how often it is wanted."""

    wanted = 0

    def find(self, kid: str | None, algorithm: str) -> Key:
        self.wanted += 1
        return Key(kid, frozenset({algorithm}), P256.public_key())


def test_a_remembered_token_is_not_verified_anew() -> None:
    keys = Keys()
    keys.set = counted = CountingKeySet()
    verifier, token = make_verifier(keys), sign()
    assert verify(token, verifier) == verify(token, verifier) == verify(token, verifier) == make_claims()
    assert counted.wanted == 1
    assert keys.asked == 3


def test_tok_03_a_remembered_token_still_ends_and_still_begins_in_its_time() -> None:
    clock = Clock()
    verifier, token = make_verifier(clock=clock), sign(make_claims(nbf=NOW))
    assert verify(token, verifier)
    clock.now = NOW + 629.9
    assert verify(token, verifier)
    clock.now = NOW + 630
    assert refusal(token, verifier) == "expired"
    clock.now = NOW - 31
    assert refusal(token, verifier) == "not_yet_valid"


def test_tok_08_a_remembered_token_dies_with_its_key() -> None:
    keys = Keys(P256.public_key())
    verifier, token = make_verifier(keys), sign()
    assert verify(token, verifier)
    keys.publish(ec.generate_private_key(ec.SECP256R1()).public_key())
    assert refusal(token, verifier) == "signature"
    keys.publish()
    assert refusal(token, verifier) == "key"
    keys.publish(P256.public_key())
    assert verify(token, verifier)


def test_tok_09_a_remembered_token_does_not_outlive_the_keys_at_hand() -> None:
    keys = Keys(P256.public_key())
    verifier, token = make_verifier(keys), sign()
    assert verify(token, verifier)
    keys.set = None
    with pytest.raises(KeysUnavailable):
        verify(token, verifier)


def test_a_remembered_token_is_another_one_when_a_character_differs() -> None:
    verifier = make_verifier()
    token = sign()
    assert verify(token, verifier)
    assert refusal(token[:-2] + ("AA" if token[-2:] != "AA" else "BB"), verifier) in {"signature", "malformed"}


def test_callers_cannot_change_the_claims_of_one_another() -> None:
    verifier, token = make_verifier(), sign(make_claims(amr=["pwd"]))
    for _ in range(3):
        claims = verify(token, verifier)
        assert claims["sub"] == "alice"
        assert claims["amr"] == ["pwd"]
        claims["sub"] = "mallory"
        claims["amr"].append("mfa")


def test_the_token_that_was_not_used_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "REMEMBERED", 3)
    keys = Keys()
    keys.set = counted = CountingKeySet()
    verifier, kept, dropped = make_verifier(keys), sign(), sign()
    verify(dropped, verifier)
    for number in range(5):
        verify(kept, verifier)
        verify(sign(make_claims(sub=f"user-{number}")), verifier)
    verify(kept, verifier)
    assert counted.wanted == 1 + 1 + 5
    verify(dropped, verifier)
    assert counted.wanted == 1 + 1 + 5 + 1
    assert len(verifier._remembered) == 3


def test_refused_tokens_are_not_remembered() -> None:
    verifier = make_verifier()
    for refused in ("a.b.c", sign(make_claims(cnf={})), sign(make_claims(exp=1)), sign(make_claims(nbf=NOW + 60))):
        refusal(refused, verifier)
    assert not verifier._remembered


# TOK-12: what a stranger is told


def test_tok_12_the_challenge_has_no_error_without_credentials() -> None:
    assert challenge(Unauthenticated()) == "Bearer"
    assert challenge(InvalidToken(reason="expired")) == 'Bearer error="invalid_token"'


def test_tok_12_the_challenge_names_what_is_missing() -> None:
    assert challenge(InsufficientScope(scope="mfa:verify")) == 'Bearer error="insufficient_scope", scope="mfa:verify"'
    assert challenge(StepUpRequired(acr_values=("phr", "mfa"), max_age=300)) == (
        'Bearer error="insufficient_user_authentication", acr_values="phr mfa", max_age="300"'
    )
    assert challenge(StepUpRequired(max_age=300)) == 'Bearer error="insufficient_user_authentication", max_age="300"'


def test_tok_12_every_refusal_reads_the_same() -> None:
    seen = set()
    for token in ("", sign(alg="none"), sign(make_claims(exp=1)), sign(make_claims(aud="x")), sign(kid=5)):
        with pytest.raises(InvalidToken) as refused:
            verify(token)
        seen.add((refused.value.code, refused.value.detail, str(refused.value)))
    assert len(seen) == 1


# How it is set up


def make_settings(**changes: Any) -> Any:
    settings = {
        "jwt_issuer": ISSUER,
        "jwt_audience": AUDIENCE,
        "jwt_jwks_url": None,
        "jwt_key_file": None,
        "jwt_secret": None,
        "jwt_algorithms": ("RS256", "ES256", "EdDSA"),
        "jwt_tenant_claim": "tenant_id",
        "jwt_require_at_jwt": False,
    }
    return SimpleNamespace(**{**settings, **changes})


def sign_now(key: Any, algorithm: str) -> str:
    return jwt.encode(make_claims(iat=ABSENT, exp=4_000_000_000), key, algorithm)


def test_the_settings_make_a_verifier_from_a_key_file(tmp_path: Path) -> None:
    file = tmp_path / "idp.pem"
    file.write_text(RSA_PEM, encoding="utf-8")
    verifier = Verifier.from_settings(make_settings(jwt_key_file=file))
    assert verify(sign_now(RSA, "RS256"), verifier)["sub"] == "alice"
    assert refusal(sign_now(P256, "ES256"), verifier) == "key"


def test_the_settings_make_a_verifier_from_a_secret_which_takes_hs256_only(tmp_path: Path) -> None:
    verifier = Verifier.from_settings(make_settings(jwt_secret=SecretStr(SECRET)))
    assert verify(sign_now(SECRET, "HS256"), verifier)["sub"] == "alice"
    assert refusal(sign_now(RSA, "RS256"), verifier) == "algorithm"


def test_tok_02_the_settings_name_one_source_of_keys(tmp_path: Path) -> None:
    url, file, secret = "https://idp.example.com/jwks", tmp_path / "x.pem", SecretStr(SECRET)
    for sources in (
        {},
        {"jwt_jwks_url": url, "jwt_secret": secret},
        {"jwt_jwks_url": url, "jwt_key_file": file},
        {"jwt_key_file": file, "jwt_secret": secret},
    ):
        with pytest.raises(ValueError, match="only one"):
            Verifier.from_settings(make_settings(**sources))


@pytest.mark.parametrize("algorithms", [("HS256",), ("none",), ("RS256", "FOO")])
def test_tok_01_the_settings_take_hs256_only_from_a_secret(algorithms: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="MFA_JWT_SECRET"):
        Verifier.from_settings(make_settings(jwt_jwks_url="https://idp.example.com/jwks", jwt_algorithms=algorithms))


def test_a_key_file_that_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^MFA_JWT_KEY_FILE cannot be read: No such file or directory\.$"):
        Verifier.from_settings(make_settings(jwt_key_file=tmp_path / "missing.pem"))


def test_the_bearer_function_asks_the_verifier_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_verifier", None)
    with pytest.raises(RuntimeError, match="use"):
        asyncio.run(tokens.bearer(sign()))
    tokens.use(make_verifier())
    assert asyncio.run(tokens.bearer(sign()))["sub"] == "alice"
