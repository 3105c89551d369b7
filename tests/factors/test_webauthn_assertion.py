"""Assertion, step by step: each test breaks one step of W3C WebAuthn Level 3, section 7.2, and that one alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from factors.webauthn import RegisteredCredential
from factors.webauthn_response import credential_id_of
from tests.authenticator import AT, BE, BS, ED, UP, UV, Authenticator, Json, base64url
from tests.cose import EDDSA, ES256, ES384, ES512, RS256, cbor
from tests.factors.ceremony import (
    CHALLENGE,
    ORIGIN,
    USER_HANDLE,
    assertion_options,
    authenticate,
    refused,
    register,
    verify_answer,
)

ALGORITHMS = [ES256, EDDSA, RS256, ES384, ES512]


@pytest.fixture(scope="module")
def authenticator() -> Authenticator:
    """It has one credential, and counts on from test to test."""
    return Authenticator()


@pytest.fixture(scope="module")
def record(authenticator: Authenticator) -> RegisteredCredential:
    return register(authenticator)


def answer(authenticator: Authenticator, record: RegisteredCredential, **deviations: Any) -> Json:
    return authenticator.authenticate(assertion_options(record.credential_id), origin=ORIGIN, **deviations)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_assertion_yields_what_the_record_becomes(algorithm: int) -> None:
    authenticator = Authenticator(algorithms=[algorithm], backup_eligible=True)
    record = register(authenticator)
    verified = authenticate(authenticator, record, set_flags=BS)
    assert (verified.sign_count, verified.user_verified, verified.backed_up) == (1, True, True)


@pytest.mark.parametrize("response", [None, "text", [], 7])
def test_step_3_an_answer_without_a_response_is_refused(
    authenticator: Authenticator, record: RegisteredCredential, response: object
) -> None:
    with refused("response"):
        authenticate(authenticator, record, credential={"response": response})


def test_step_3_the_answer_of_a_registration_is_refused() -> None:
    authenticator = Authenticator()
    record = register(authenticator)
    made = dataclasses.replace(record)
    with refused("base64url"):
        authenticate(authenticator, made, response={"signature": None, "attestationObject": "oA"})


@pytest.mark.parametrize("members", [{"id": "b3RoZXI"}, {"rawId": "b3RoZXI"}, {"id": "b3RoZXI", "rawId": "b3RoZXI"}])
def test_step_5_waa_04_an_id_that_is_not_the_records_is_refused(
    authenticator: Authenticator, record: RegisteredCredential, members: Json
) -> None:
    with refused("credential_id"):
        authenticate(authenticator, record, credential=members)


def test_step_5_waa_01_a_credential_that_was_not_asked_for_is_refused() -> None:
    authenticator = Authenticator()
    asked, other = register(authenticator), register(authenticator)
    with refused("credential_id"):
        verify_answer(answer(authenticator, other), asked)


@pytest.mark.parametrize("handle", [b"another user's handle", b"", USER_HANDLE[:-1]])
def test_step_6_waa_01_another_users_handle_is_refused(
    authenticator: Authenticator, record: RegisteredCredential, handle: bytes
) -> None:
    with refused("user_handle"):
        authenticate(authenticator, record, response={"userHandle": base64url(handle)})


def test_step_6_an_authenticator_need_not_know_the_user_handle(
    authenticator: Authenticator, record: RegisteredCredential
) -> None:
    assert authenticate(authenticator, record, response={"userHandle": None}).user_verified


@pytest.mark.parametrize("member", ["clientDataJSON", "authenticatorData", "signature"])
@pytest.mark.parametrize("value", [None, 7, {}, "====", "YQ==", "YR", "+/8", "Y\n"])
def test_step_7_members_that_are_no_base64url_are_refused(
    authenticator: Authenticator, record: RegisteredCredential, member: str, value: object
) -> None:
    with refused("base64url"):
        authenticate(authenticator, record, response={member: value})


def test_step_8_a_byte_order_mark_is_dropped(authenticator: Authenticator, record: RegisteredCredential) -> None:
    authenticate(authenticator, record, client_data_json=lambda data: b"\xef\xbb\xbf" + data)


@pytest.mark.parametrize("spoilt", [b"", b"\xff", b"[]", b"{", b"[" * 40_000])
def test_steps_8_and_9_client_data_that_cannot_be_read_is_refused(
    authenticator: Authenticator, record: RegisteredCredential, spoilt: bytes
) -> None:
    with refused("client_data"):
        authenticate(authenticator, record, client_data_json=lambda data: spoilt)


@pytest.mark.parametrize(
    ("step", "reason", "client_data"),
    [
        (10, "type", {"type": "webauthn.create"}),
        (10, "type", {"type": "webauthn.get "}),
        (10, "type", {"type": "payment.get"}),
        (11, "challenge", {"challenge": base64url(b"x" * 32)}),
        (11, "challenge", {"challenge": base64url(CHALLENGE) + "="}),
        (12, "origin", {"origin": "https://example.org:8443"}),
        (12, "origin", {"origin": "https://login.example.org"}),
        (12, "origin", {"origin": "http://example.org"}),
        (13, "cross_origin", {"crossOrigin": True}),
        (13, "client_data", {"crossOrigin": "true"}),
        (14, "cross_origin", {"crossOrigin": True, "topOrigin": ORIGIN}),
        (14, "client_data", {"topOrigin": ORIGIN}),
    ],
)
def test_steps_10_to_14_waa_02_client_data_of_something_else_is_refused(
    authenticator: Authenticator, record: RegisteredCredential, step: int, reason: str, client_data: Json
) -> None:
    with refused(reason):
        authenticate(authenticator, record, client_data=client_data)


def test_step_14_a_frame_is_accepted_only_in_an_expected_page(
    authenticator: Authenticator, record: RegisteredCredential
) -> None:
    framed = answer(authenticator, record, client_data={"crossOrigin": True, "topOrigin": "https://example.com"})
    verify_answer(framed, record, expected_top_origins=("https://example.com",))
    with refused("top_origin"):
        verify_answer(framed, record, expected_top_origins=("https://example.net",))


def test_step_15_waa_02_another_relying_party_is_refused(
    authenticator: Authenticator, record: RegisteredCredential
) -> None:
    with refused("rp_id"):
        authenticate(authenticator, record, rp_id="example.com")


@pytest.mark.parametrize("length", [0, 36, 38, 1000])
def test_step_15_authenticator_data_of_another_length_is_refused(
    authenticator: Authenticator, record: RegisteredCredential, length: int
) -> None:
    with refused("authenticator_data"):
        authenticate(authenticator, record, authenticator_data=lambda data: data.ljust(length, b"\0")[:length])


def test_step_15_flags_that_belie_the_layout_are_refused(
    authenticator: Authenticator, record: RegisteredCredential
) -> None:
    for flag in (AT, ED):
        with refused("cbor"):
            authenticate(authenticator, record, set_flags=flag)


def test_step_15_attested_credential_data_is_refused(
    authenticator: Authenticator, record: RegisteredCredential
) -> None:
    attested = bytes(16) + b"\x00\x01i" + record.public_key
    with refused("authenticator_data"):
        authenticate(authenticator, record, set_flags=AT, authenticator_data=lambda data: data + attested)


def test_step_16_waa_02_an_absent_user_is_refused(authenticator: Authenticator, record: RegisteredCredential) -> None:
    with refused("user_presence"):
        authenticate(authenticator, record, clear_flags=UP)


def test_step_17_waa_02_an_unverified_user_is_refused_where_verification_is_required(
    authenticator: Authenticator, record: RegisteredCredential
) -> None:
    unverified = answer(authenticator, record, clear_flags=UV)
    with refused("user_verification"):
        verify_answer(unverified, record, require_user_verification=True)
    assert verify_answer(unverified, record).user_verified is False


def test_step_18_waa_03_a_backup_of_what_cannot_be_backed_up_is_refused(
    authenticator: Authenticator, record: RegisteredCredential
) -> None:
    with refused("backup_state"):
        authenticate(authenticator, record, set_flags=BS)


def test_step_19_waa_03_backup_eligibility_does_not_change() -> None:
    single, synced = Authenticator(), Authenticator(backup_eligible=True)
    with refused("backup_eligibility"):
        authenticate(single, register(single), set_flags=BE)
    with refused("backup_eligibility"):
        authenticate(synced, register(synced), clear_flags=BE)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_step_21_waa_04_a_spoilt_signature_is_refused(algorithm: int) -> None:
    authenticator = Authenticator(algorithms=[algorithm])
    record = register(authenticator)
    for spoil in (
        lambda signature: signature[:-1] + bytes([signature[-1] ^ 1]),
        lambda signature: signature[:-1],
        lambda signature: signature + b"\0",
        lambda signature: bytes(len(signature)),
        lambda signature: b"",
        lambda signature: signature * 500,
    ):
        with refused("signature"):
            authenticate(authenticator, record, signature=spoil)


def test_step_21_waa_04_a_signature_over_other_data_is_refused() -> None:
    authenticator = Authenticator()
    record = register(authenticator)
    first, second = answer(authenticator, record), answer(authenticator, record)
    for member in ("authenticatorData", "signature"):
        mixed = first | {"response": first["response"] | {member: second["response"][member]}}
        with refused("signature"):
            verify_answer(mixed, record)
    spaced = answer(authenticator, record, client_data_json=lambda data: data + b" ")
    mixed = first | {"response": first["response"] | {"clientDataJSON": spaced["response"]["clientDataJSON"]}}
    with refused("signature"):
        verify_answer(mixed, record)


def test_step_21_waa_04_another_credentials_key_is_refused() -> None:
    authenticator = Authenticator()
    record, other = register(authenticator), register(Authenticator())
    with refused("signature"):
        authenticate(authenticator, dataclasses.replace(record, public_key=other.public_key))


@pytest.mark.parametrize("stored", [b"", b"\xa0", b"\x80", cbor({3: -65535}), cbor({1: 2, 3: ES256})])
def test_step_21_a_record_whose_key_is_broken_verifies_nothing(
    authenticator: Authenticator, record: RegisteredCredential, stored: bytes
) -> None:
    with refused({b"": "cbor", cbor({1: 2, 3: ES256}): "signature"}.get(stored, "public_key")):
        authenticate(authenticator, dataclasses.replace(record, public_key=stored))


@pytest.mark.parametrize(("stored", "sent"), [(1, 1), (2, 1), (1, 0), (2**32 - 1, 0), (2**32 - 1, 2**32 - 1)])
def test_step_22_waa_06_a_sign_count_that_does_not_go_up_is_refused(
    authenticator: Authenticator, record: RegisteredCredential, stored: int, sent: int
) -> None:
    with refused("sign_count"):
        authenticate(authenticator, dataclasses.replace(record, sign_count=stored), sign_count=sent)


@pytest.mark.parametrize(("stored", "sent"), [(0, 0), (0, 1), (1, 2), (0, 2**32 - 1)])
def test_step_22_waa_06_one_that_goes_up_or_stays_at_zero_is_accepted(
    authenticator: Authenticator, record: RegisteredCredential, stored: int, sent: int
) -> None:
    counted = dataclasses.replace(record, sign_count=stored)
    assert authenticate(authenticator, counted, sign_count=sent).sign_count == sent


def test_step_22_the_sign_count_is_not_judged_before_the_signature(
    authenticator: Authenticator, record: RegisteredCredential
) -> None:
    counted = dataclasses.replace(record, sign_count=9)
    with refused("signature"):
        authenticate(authenticator, counted, sign_count=1, signature=lambda signature: b"")


def test_step_23_extensions_that_were_not_asked_for_are_ignored(
    authenticator: Authenticator, record: RegisteredCredential
) -> None:
    authenticate(authenticator, record, extensions=cbor({"uvm": [[2, 4, 2]]}))


@pytest.mark.parametrize("length", [1, 1023])
def test_the_caller_looks_a_credential_up_by_its_id(length: int) -> None:
    credential_id = base64url(b"i" * length)
    assert credential_id_of({"id": credential_id, "rawId": credential_id, "type": "public-key"}) == b"i" * length


@pytest.mark.parametrize(
    ("reason", "credential"),
    [
        ("credential_type", {}),
        ("credential_type", {"id": "YQ", "rawId": "YQ"}),
        ("base64url", {"type": "public-key"}),
        ("base64url", {"type": "public-key", "id": ["YQ"], "rawId": ["YQ"]}),
        ("base64url", {"type": "public-key", "id": "YR", "rawId": "YR"}),
        ("credential_id", {"type": "public-key", "id": "YQ", "rawId": "YQ=="}),
        ("credential_id", {"type": "public-key", "id": "", "rawId": ""}),
        ("credential_id", {"type": "public-key", "id": "YWFh" * 400, "rawId": "YWFh" * 400}),
    ],
)
def test_junk_for_an_id_is_refused(reason: str, credential: Json) -> None:
    with refused(reason):
        credential_id_of(credential)
