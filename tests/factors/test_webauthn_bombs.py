"""Small answers that cost a careless reader much time or memory (WAR-10)."""

from __future__ import annotations

import tracemalloc

import pytest

from factors.webauthn import RegisteredCredential
from tests.authenticator import AT, Authenticator, Json, base64url, from_base64url
from tests.cose import ES256, RS256, cbor
from tests.factors.ceremony import ORIGIN, assertion_options, outcome, register, registration_options, with_response

LARGEST = 48_000  # bytes; what a body of 64 KiB holds once base64url is undone
MOST_MEMORY = 2_000_000  # bytes
ROOM = LARGEST - 400

ITEMS: dict[str, bytes] = {
    "nested lists": b"\x81" * ROOM,
    "nested maps": b"\xa1\0" * (ROOM // 2),
    "nested indefinite lists": b"\x9f" * ROOM,
    "nested tags": b"\xc0" * ROOM,
    "a list without end": b"\x9b" + b"\xff" * 8 + b"\0" * ROOM,
    "a map without end": b"\xbb" + b"\xff" * 8 + b"\0" * ROOM,
    "a list of many lists": b"\x99" + ROOM.to_bytes(2) + b"\x80" * ROOM,
    "a map of many members": cbor(dict.fromkeys(range(10_000), b"")),
    "bytes without end": b"\x5b" + b"\xff" * 8,
    "4 GiB of bytes": b"\x5a\xff\xff\xff\xff",
    "text without end": b"\x7b\x7f" + b"\xff" * 7,
    "text that is none": b"\x78\xff" + b"\xff" * 255,
    "floats": b"\xf9" * ROOM,
    "a large RSA modulus": cbor({1: 3, 3: RS256, -1: b"\xff" * ROOM, -2: b"\1\0\1"}),
    "a large RSA exponent": cbor({1: 3, 3: RS256, -1: b"\xff" * 1024, -2: b"\xff" * 1024}),
    "a large coordinate": cbor({1: 2, 3: ES256, -1: 1, -2: b"\xff" * ROOM, -3: b"\1"}),
    "a large map of large keys": cbor({"k" * 10_000: 1, "l" * 10_000: 2, b"m" * 10_000: 3}),
}
CLIENT_DATA: dict[str, bytes] = {
    "nested brackets": b"[" * LARGEST,
    "nested braces": b'{"a":' * (LARGEST // 5),
    "a number of 48,000 digits": b"9" * LARGEST,
    "a small number of 48,000 digits": b'{"origin":0.' + b"0" * ROOM + b"1}",
    "surrogates": b'"' + rb"\ud800" * (ROOM // 6) + b'"',
    "many members": b"{" + b",".join(b'"%d":0' % n for n in range(5_000)) + b"}",
}


def measured(answer: Json, record: RegisteredCredential | None = None) -> str:
    """The outcome, once it is known to have needed little memory."""
    tracemalloc.start()
    try:
        verdict = outcome(answer, record)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()
    return verdict


@pytest.mark.parametrize("item", ITEMS)
def test_war_10_bombs_in_a_registration_are_refused_cheaply(item: str) -> None:
    bomb = ITEMS[item]
    honest = Authenticator().register(registration_options(), origin=ORIGIN, credential_id=b"i")
    head = from_base64url(honest["response"]["authenticatorData"])[:32]
    as_key = head + b"\x41" + bytes(4) + bytes(16) + b"\0\1i" + bomb
    as_extensions = head + b"\x81" + bytes(4) + bomb
    as_statement = b"\xa3" + cbor("fmt") + cbor("packed") + cbor("attStmt") + bomb + cbor("authData") + cbor(as_key)
    for attestation_object in (
        bomb,
        as_statement,
        cbor({"fmt": "none", "attStmt": {}, "authData": as_key}),
        cbor({"fmt": "none", "attStmt": {}, "authData": as_extensions}),
    ):
        assert measured(with_response(honest, attestationObject=base64url(attestation_object))) != "verified"


@pytest.mark.parametrize("member", ["authenticatorData", "clientDataJSON", "signature", "userHandle"])
def test_bombs_in_an_assertion_are_refused_cheaply(member: str) -> None:
    authenticator = Authenticator()
    record = register(authenticator)
    honest = authenticator.authenticate(assertion_options(record.credential_id), origin=ORIGIN)
    for bomb in (*ITEMS.values(), *CLIENT_DATA.values()):
        assert measured(with_response(honest, **{member: base64url(bomb)}), record) != "verified"


@pytest.mark.parametrize("text", CLIENT_DATA)
def test_war_10_bombs_for_client_data_are_refused_cheaply(text: str) -> None:
    honest = Authenticator().register(registration_options(), origin=ORIGIN)
    assert measured(with_response(honest, clientDataJSON=base64url(CLIENT_DATA[text]))) == "client_data"


@pytest.mark.parametrize(
    "certificate", [b"\x30\x83\x00\xb0\x00" + bytes(45_056), b"\x30\x80" * 20_000, b"\x30" * ROOM, bytes(ROOM)]
)
@pytest.mark.parametrize("attestation", ["packed", "fido-u2f", "apple"])
def test_war_08_bombs_for_certificates_are_refused_cheaply(attestation: str, certificate: bytes) -> None:
    spoilt = Authenticator(attestation=attestation).register(
        registration_options(), origin=ORIGIN, statement=lambda kept: kept | {"x5c": [certificate]}
    )
    assert measured(spoilt) == "attestation"


@pytest.mark.parametrize("length", [b"\0\x21", b"\x7f\xff", b"\xff\xff"])
def test_war_09_a_credential_id_that_runs_past_the_end_is_refused(length: bytes) -> None:
    spoilt = Authenticator().register(
        registration_options(),
        origin=ORIGIN,
        set_flags=AT,
        authenticator_data=lambda data: data[:53] + length + data[55:],
    )
    assert measured(spoilt) in ("cbor", "authenticator_data")
