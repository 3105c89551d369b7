"""Assertions: what they say of how a user was verified, how they are signed, and which ones are believed."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from factors import assertion
from factors.assertion import SigningKey, amr_of, webauthn_amr
from factors.errors import InvalidCode

NOW = datetime(2026, 3, 1, 12, 0, 0, 987654, tzinfo=UTC)
CLAIMS: dict[str, Any] = {
    "iss": "https://mfa.example.org",
    "aud": "app",
    "sub": "alice",
    "amr": ["otp"],
    "acr": "mfa",
    "epoch": 3,
}

# RFC 7515 appendix A.3.1: the only key pair of the right kind that these RFCs print.
RFC_7515_X = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
RFC_7515_Y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
RFC_7515_D = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"

KNOWN_OR_INHERENT = {"pwd", "pin", "kba", "face", "fpt", "iris", "retina", "vbm"}
# All other values that RFC 8176 section 2 registers: things one has, circumstances, and sums of several.
OTHERS = {"geo", "hwk", "mca", "mfa", "otp", "pop", "rba", "sc", "sms", "swk", "tel", "user", "wia"}
SHOWN = {
    "totp": ["otp"],
    "email": ["urn:mfa-server:amr:email"],
    "backup_code": ["urn:mfa-server:amr:backup-code"],
    "webauthn": ["hwk", "user"],
}


def pem_of(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def new_key() -> SigningKey:
    return SigningKey.from_pem(pem_of(ec.generate_private_key(ec.SECP256R1())))


KEY, OLD_KEY, FOREIGN_KEY = new_key(), new_key(), new_key()


def signed(claims: Mapping[str, Any] = CLAIMS, now: datetime = NOW, key: SigningKey = KEY) -> str:
    return assertion.sign(key, claims, jti="a-name", now=now)


def read(token: str, now: datetime = NOW, *keys: SigningKey) -> dict[str, Any]:
    return assertion.read(
        token, keys or [KEY, OLD_KEY], expected_issuer=CLAIMS["iss"], expected_audience=CLAIMS["aud"], now=now
    )


def forged(
    key: Any = KEY.private, algorithm: str | None = "ES256", header: Mapping[str, Any] | None = None, **claims: Any
) -> str:
    """An assertion made outside of `sign`; a claim of None is left out."""
    times = {"iat": int(NOW.timestamp()), "exp": int(NOW.timestamp()) + 300, "auth_time": 0, "jti": "a-name"}
    payload = {name: value for name, value in {**CLAIMS, **times, **claims}.items() if value is not None}
    return jwt.encode(payload, key, algorithm, headers={"typ": "mfa+jwt", "kid": KEY.kid, **(header or {})})


def part(token: str, place: int) -> dict[str, Any]:
    text = token.split(".")[place]
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return value


# What an assertion says: RFC 8176.


@pytest.mark.parametrize("method", SHOWN)
@pytest.mark.parametrize("assumed", [False, True])
def test_stp_03_mfa_is_said_only_where_two_kinds_of_factors_were_really_shown(method: str, *, assumed: bool) -> None:
    for token_amr in [(), *((value,) for value in KNOWN_OR_INHERENT | OTHERS)]:
        two_kinds = method != "email" and (assumed or bool(set(token_amr) & KNOWN_OR_INHERENT))
        expected = [*SHOWN[method], "mfa"] if two_kinds else SHOWN[method]
        assert amr_of(method, SHOWN[method], token_amr, assume_first_factor=assumed) == expected


def test_stp_03_all_values_that_rfc_8176_registers_were_gone_through() -> None:
    assert len(KNOWN_OR_INHERENT | OTHERS) == 21
    assert not KNOWN_OR_INHERENT & OTHERS


@pytest.mark.parametrize("token_amr", [("otp", "hwk"), ("mfa",), ("PWD",), ("sms", "tel", "geo"), ("unheard-of", "")])
def test_stp_03_several_things_that_one_has_are_still_one_kind(token_amr: tuple[str, ...]) -> None:
    assert amr_of("totp", ["otp"], token_amr, assume_first_factor=False) == ["otp"]


def test_stp_03_one_value_of_another_kind_among_several_is_enough() -> None:
    assert amr_of("totp", ["otp"], ("geo", "pwd", "otp"), assume_first_factor=False) == ["otp", "mfa"]


def test_stp_03_a_key_that_can_be_copied_counts_as_software_and_user_means_presence() -> None:
    assert webauthn_amr(backup_eligible=False) == ("hwk", "user")
    assert webauthn_amr(backup_eligible=True) == ("swk", "user")


def test_eml_01_email_and_backup_codes_are_never_otp_nor_phishing_resistant() -> None:
    for method in ("email", "backup_code"):
        [value] = assertion.AMR[method]
        assert value == SHOWN[method][0]
        assert assertion.ACR[method].startswith("urn:mfa-server:acr:")
    assert assertion.AMR["totp"] == ("otp",)
    assert (assertion.ACR["webauthn"], assertion.ACR["totp"]) == ("phr", "mfa")
    assert len(set(assertion.ACR.values())) == len(assertion.ACR) == 4


# How it is signed.


def test_stp_02_an_assertion_is_an_es256_jwt_of_a_type_of_its_own() -> None:
    assert part(signed(), 0) == {"alg": "ES256", "typ": "mfa+jwt", "kid": KEY.kid}


def test_stp_02_it_says_who_when_and_how_for_five_minutes() -> None:
    issued = 1_772_366_400
    assert part(signed(), 1) == {
        **CLAIMS,
        "iat": issued,
        "exp": issued + 300,
        "auth_time": issued,
        "jti": "a-name",
    }


def test_anyone_with_the_public_key_can_check_it_offline() -> None:
    jwks = jwt.PyJWKSet.from_dict({"keys": [key.public_jwk() for key in (OLD_KEY, KEY)]})
    token = signed(now=datetime.now(UTC))
    key = jwks[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key, ["ES256"], issuer=CLAIMS["iss"], audience=CLAIMS["aud"])["sub"] == "alice"


def test_a_public_jwk_holds_nothing_private() -> None:
    jwk = KEY.public_jwk()
    assert set(jwk) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert (jwk["kty"], jwk["crv"], jwk["use"], jwk["alg"]) == ("EC", "P-256", "sig", "ES256")


def test_the_name_of_a_key_is_its_rfc_7638_thumbprint() -> None:
    """RFC 7638's own example is an RSA key, so section 3's rule is followed by hand on RFC 7515's P-256 key."""
    coordinates = [int.from_bytes(base64.urlsafe_b64decode(text + "=")) for text in (RFC_7515_X, RFC_7515_Y)]
    private = ec.derive_private_key(int.from_bytes(base64.urlsafe_b64decode(RFC_7515_D + "=")), ec.SECP256R1())
    public = private.public_key().public_numbers()
    assert [public.x, public.y] == coordinates
    canonical = f'{{"crv":"P-256","kty":"EC","x":"{RFC_7515_X}","y":"{RFC_7515_Y}"}}'
    expected = base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()
    key = SigningKey.from_pem(pem_of(private))
    assert key.kid == expected
    assert (key.public_jwk()["x"], key.public_jwk()["y"]) == (RFC_7515_X, RFC_7515_Y)


def test_coordinates_with_leading_zeros_keep_their_width() -> None:
    """RFC 7518 section 6.2.1.2: 32 bytes each, so a thumbprint never depends on chance."""
    shortest = min(
        (ec.derive_private_key(secret, ec.SECP256R1()) for secret in range(1, 600)),
        key=lambda private: private.public_key().public_numbers().x,
    )
    assert shortest.public_key().public_numbers().x < 2**248
    assert len(SigningKey.from_pem(pem_of(shortest)).public_jwk()["x"]) == 43


@pytest.mark.parametrize(
    "pem",
    [
        pem_of(ec.generate_private_key(ec.SECP384R1())),
        pem_of(ec.generate_private_key(ec.SECP256K1())),
        pem_of(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        KEY.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"",
    ],
    ids=["P-384", "secp256k1", "RSA", "public", "broken", "empty"],
)
def test_only_a_p_256_private_key_signs(pem: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        SigningKey.from_pem(pem)


# Which ones are believed.


def test_an_assertion_that_we_signed_is_read_as_it_was() -> None:
    assert read(signed()) == part(signed(), 1)


def test_while_keys_are_replaced_old_and_new_assertions_are_read() -> None:
    assert read(signed(key=OLD_KEY))["sub"] == read(signed(key=KEY))["sub"] == "alice"
    with pytest.raises(InvalidCode):
        read(signed(key=OLD_KEY), NOW, KEY)


def test_stp_02_it_dies_after_five_minutes_on_the_servers_clock() -> None:
    issued = NOW.replace(microsecond=0)
    assert read(signed(), issued + timedelta(minutes=5, microseconds=-1))
    for late in (timedelta(minutes=5), timedelta(days=400)):
        with pytest.raises(InvalidCode) as caught:
            read(signed(), issued + late)
        assert caught.value.reason == "expired"


WHOLE = signed()
HEAD, BODY, SIGNATURE = WHOLE.split(".")
ANOTHER_BODY = signed({**CLAIMS, "sub": "mallory"}).split(".")[1]
PUBLIC_PEM = KEY.private.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def hs256_with_the_public_key() -> str:
    """CVE-2022-29217: the public key, which everybody has, taken for a shared secret."""
    header = {"alg": "HS256", "typ": "mfa+jwt", "kid": KEY.kid}
    head, body = (
        base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode() for value in (header, part(WHOLE, 1))
    )
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = mac.sign(f"{head}.{body}".encode(), PUBLIC_PEM)
    return f"{head}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    "token",
    [
        f"{HEAD}.{BODY}.{SIGNATURE[:-2]}AA",
        f"{HEAD}.{BODY}.",
        f"{HEAD}.{BODY}.AAAA",
        f"{HEAD}.{ANOTHER_BODY}.{SIGNATURE}",
        forged(None, "none"),
        hs256_with_the_public_key(),
        forged(FOREIGN_KEY.private),
        signed(key=FOREIGN_KEY),
        forged(header={"kid": OLD_KEY.kid}),
        forged(header={"kid": ""}),
        forged(header={"typ": "JWT"}),
        forged(header={"typ": "at+jwt"}),
        forged(header={"typ": None}),
        forged(header={"typ": ["mfa+jwt"]}),
        forged(header={"crit": ["exp"]}),
        forged(iss="https://mfa.example.org.evil.example"),
        forged(iss=None),
        forged(aud="another-app"),
        forged(aud=None),
        forged(aud=[]),
        forged(sub=None),
        forged(exp=None),
        forged(iat=None),
        forged(jti=None),
        forged(nbf=4_102_444_800),
        "",
        "a.b.c",
        "....",
        "." * 4096,
        f"{'e' * 4000}.e.e",
        f"{base64.urlsafe_b64encode(b'[' * 3000).decode()}.e.e",
        f"{base64.urlsafe_b64encode(b'[1]').decode()}.e.e",
        f"{base64.urlsafe_b64encode(b'null').decode()}.e.e",
        "\ud800.\ud800.\ud800",
        "é.é.é",
    ],
    ids=range(35),
)
def test_whatever_else_a_stranger_sends_is_an_invalid_code(token: str) -> None:
    with pytest.raises(InvalidCode):
        read(token)


def test_a_key_that_the_token_brings_itself_is_not_looked_at() -> None:
    header = {"jwk": FOREIGN_KEY.public_jwk(), "jku": "https://evil.example/jwks.json", "x5u": "https://evil.example"}
    with pytest.raises(InvalidCode):
        read(forged(FOREIGN_KEY.private, header=header))
