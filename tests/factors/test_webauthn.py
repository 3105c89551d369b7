"""Registration, step by step: each test breaks one step of W3C WebAuthn Level 3, section 7.1, and that one alone."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

import pytest

from factors.webauthn import verify_registration
from tests.authenticator import AT, BE, BS, ED, UP, UV, Authenticator, Json, base64url, from_base64url
from tests.cose import EDDSA, ES256, ES256K, ES384, ES512, RS256, cbor
from tests.factors.ceremony import (
    CHALLENGE,
    ORIGIN,
    RP_ID,
    expectations,
    refused,
    register,
    registration_options,
)


def answer(**deviations: Any) -> Json:
    return Authenticator().register(registration_options(), origin=ORIGIN, **deviations)


@pytest.mark.parametrize("algorithm", [ES256, EDDSA, RS256, ES384, ES512])
def test_war_12_a_registration_yields_the_whole_record(algorithm: int) -> None:
    authenticator = Authenticator(
        algorithms=[algorithm], aaguid=bytes(range(16)), transports=("nfc", "usb"), backup_eligible=True
    )
    record = register(authenticator, sign_count=7)
    assert record.credential_id == authenticator.credentials[0].id
    assert record.algorithm == algorithm
    assert record.sign_count == 7
    assert record.aaguid == UUID(bytes=bytes(range(16)))
    assert record.transports == ("usb", "nfc")
    assert (record.user_verified, record.backup_eligible, record.backed_up) == (True, True, False)
    assert record.attestation_format == "none"


def test_war_12_the_highest_sign_count_is_kept() -> None:
    assert register(sign_count=2**32 - 1).sign_count == 2**32 - 1


@pytest.mark.parametrize("response", [None, "text", [], {}])
def test_step_3_an_answer_without_a_response_is_refused(response: object) -> None:
    with refused("base64url" if response == {} else "response"):
        register(credential={"response": response})


@pytest.mark.parametrize("member", ["clientDataJSON", "attestationObject"])
@pytest.mark.parametrize("value", [None, 7, {}, "", "====", "YQ==", "YR", "Y Q", "\u00e9"])
def test_step_3_a_response_that_is_no_base64url_is_refused(member: str, value: object) -> None:
    with refused({"": "client_data" if member == "clientDataJSON" else "cbor"}.get(str(value), "base64url")):
        register(response={member: value})


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
def test_step_5_a_byte_order_mark_is_dropped(mark: bytes) -> None:
    register(client_data_json=lambda data: mark + data)


@pytest.mark.parametrize("spoilt", [b"\xef\xbb\xbf\xef\xbb\xbf{}", b'{"type":"\xff"}', b"\xff\xfe{\x00}\x00"])
def test_step_5_war_10_client_data_that_is_no_utf_8_is_refused(spoilt: bytes) -> None:
    with refused("client_data"):
        register(client_data_json=lambda data: spoilt)


@pytest.mark.parametrize(
    "spoilt", [b"", b"{", b"[]", b"null", b'"{}"', b"7", b"[" * 40_000, b'{"a":' * 9_000, b"9" * 40_000, b"{}{}"]
)
def test_step_6_war_10_client_data_that_is_no_json_object_is_refused(spoilt: bytes) -> None:
    with refused("client_data"):
        register(client_data_json=lambda data: spoilt)


@pytest.mark.parametrize("member", ["type", "challenge", "origin"])
@pytest.mark.parametrize("value", [None, 7, True, [ORIGIN], {"webauthn.create": 1}])
def test_step_6_members_of_another_type_are_refused(member: str, value: object) -> None:
    with refused("client_data"):
        register(client_data={member: value})


@pytest.mark.parametrize("kind", ["webauthn.get", "webauthn.create ", "WEBAUTHN.CREATE", "payment.get", ""])
def test_step_7_war_03_client_data_of_another_ceremony_is_refused(kind: str) -> None:
    with refused("type"):
        register(client_data={"type": kind})


@pytest.mark.parametrize("challenge", ["", base64url(CHALLENGE)[:-1], base64url(CHALLENGE) + "=", base64url(b"x" * 32)])
def test_step_8_war_04_another_challenge_is_refused(challenge: str) -> None:
    with refused("challenge"):
        register(client_data={"challenge": challenge})


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.org.evil.test",
        "https://evil-example.org",
        "https://login.example.org",
        "https://example.org:8443",
        "https://example.org:443",
        "https://example.org/",
        "http://example.org",
        "HTTPS://EXAMPLE.ORG",
        "https://example",
        "null",
        "",
    ],
)
def test_step_9_war_04_any_other_origin_is_refused(origin: str) -> None:
    with refused("origin"):
        register(client_data={"origin": origin})


def test_step_9_a_string_in_place_of_a_list_of_origins_matches_no_part_of_itself() -> None:
    others: Any = {"expected_origins": ORIGIN}
    with refused("origin"):
        verify_registration(answer(client_data={"origin": "https://example"}), **expectations(**others))


def test_step_9_each_of_several_origins_is_expected() -> None:
    several = expectations(expected_origins=("https://app.example.org", ORIGIN))
    assert verify_registration(answer(), **several).sign_count == 0


def test_step_10_war_05_a_frame_of_another_origin_is_refused() -> None:
    with refused("cross_origin"):
        register(client_data={"crossOrigin": True})


@pytest.mark.parametrize("value", [None, 1, "true", []])
def test_step_10_a_cross_origin_that_is_no_boolean_is_refused(value: object) -> None:
    with refused("client_data"):
        register(client_data={"crossOrigin": value})


def test_step_10_war_05_a_frame_is_accepted_where_frames_are_expected() -> None:
    framed = expectations(expected_top_origins=("https://example.com",))
    verify_registration(answer(client_data={"crossOrigin": True}), **framed)


@pytest.mark.parametrize("top_origin", ["https://evil.test", ORIGIN, ""])
def test_step_11_war_05_a_page_that_is_not_expected_is_refused(top_origin: str) -> None:
    framed = expectations(expected_top_origins=("https://example.com",))
    spoilt = answer(client_data={"crossOrigin": True, "topOrigin": top_origin})
    with refused("top_origin"):
        verify_registration(spoilt, **framed)


@pytest.mark.parametrize("client_data", [{"topOrigin": ORIGIN}, {"topOrigin": None}, {"topOrigin": ["x"]}])
def test_step_11_a_top_origin_outside_a_frame_is_refused(client_data: Json) -> None:
    with refused("client_data"):
        register(client_data=client_data)


@pytest.mark.parametrize("top_origin", [None, 7, ["https://example.com"], {}])
def test_step_11_a_top_origin_that_is_no_text_is_refused(top_origin: object) -> None:
    framed = expectations(expected_top_origins=("https://example.com",))
    with refused("client_data"):
        verify_registration(answer(client_data={"crossOrigin": True, "topOrigin": top_origin}), **framed)


def test_step_11_a_page_that_is_expected_is_accepted() -> None:
    framed = expectations(expected_top_origins=("https://example.com",))
    verify_registration(answer(client_data={"crossOrigin": True, "topOrigin": "https://example.com"}), **framed)


@pytest.mark.parametrize(
    "spoilt",
    [
        cbor([]),
        cbor(7),
        cbor({}),
        cbor({"fmt": "none", "attStmt": {}}),
        cbor({"fmt": "none", "attStmt": {}, "authData": "text"}),
        cbor({"fmt": 7, "attStmt": {}, "authData": bytes(37)}),
        cbor({"fmt": ["none"], "attStmt": {}, "authData": bytes(37)}),
        cbor({"fmt": "none", "attStmt": "text", "authData": bytes(37)}),
        cbor({"fmt": "tpm", "authData": bytes(37)}),
    ],
)
def test_step_13_war_10_an_attestation_object_of_another_shape_is_refused(spoilt: bytes) -> None:
    with refused("attestation_object"):
        register(attestation_object=lambda data: spoilt)


def test_step_13_war_10_bytes_after_the_attestation_object_are_refused() -> None:
    with refused("cbor"):
        register(attestation_object=lambda data: data + b"\0")


def test_step_13_war_10_bytes_after_the_authenticator_data_are_refused() -> None:
    with refused("authenticator_data"):
        register(authenticator_data=lambda data: data + b"\0")


def test_step_13_war_10_flags_that_belie_the_layout_are_refused() -> None:
    with refused("authenticator_data"):
        register(clear_flags=AT)
    with refused("cbor"):
        register(set_flags=ED)


def test_step_13_authenticator_data_without_a_credential_is_refused() -> None:
    with refused("authenticator_data"):
        register(clear_flags=AT, authenticator_data=lambda data: data[:37])


def test_step_13_extensions_without_their_flag_are_refused() -> None:
    with refused("authenticator_data"):
        register(extensions=cbor({"credProtect": 2}), clear_flags=ED)


@pytest.mark.parametrize("extensions", [cbor([]), cbor("text"), cbor(7), cbor(True)])
def test_step_13_extensions_that_are_no_map_are_refused(extensions: bytes) -> None:
    with refused("authenticator_data"):
        register(extensions=extensions)


@pytest.mark.parametrize("rp_id", ["example.com", "login.example.org", "EXAMPLE.ORG", ORIGIN])
def test_step_14_war_06_another_relying_party_is_refused(rp_id: str) -> None:
    with refused("rp_id"):
        register(rp_id=rp_id)


def test_step_15_war_06_an_absent_user_is_refused() -> None:
    with refused("user_presence"):
        register(clear_flags=UP)


def test_step_16_war_06_an_unverified_user_is_refused_where_verification_is_required() -> None:
    unverified = answer(clear_flags=UV)
    with refused("user_verification"):
        verify_registration(unverified, **expectations(require_user_verification=True))
    assert verify_registration(unverified, **expectations()).user_verified is False


def test_step_17_war_06_a_backup_of_what_cannot_be_backed_up_is_refused() -> None:
    with refused("backup_state"):
        register(set_flags=BS)
    assert register(set_flags=BS | BE).backed_up is True


@pytest.mark.parametrize("algorithm", [ES256K, -9, -37, -53, -65535, -65700, 0, 1, 2**64 - 1, -(2**64), "ES256"])
def test_step_20_war_07_an_algorithm_that_was_not_offered_is_refused(algorithm: object) -> None:
    with refused("authenticator_data" if algorithm == 0 else "algorithm"):
        register(public_key={1: 2, 3: algorithm, -1: 1, -2: bytes(32), -3: bytes(32)})


def test_step_20_war_07_an_authenticator_that_ignores_the_offer_is_refused() -> None:
    options = registration_options()
    options["pubKeyCredParams"] = [{"type": "public-key", "alg": ES256K}]
    spoilt = Authenticator(algorithms=[ES256K]).register(options, origin=ORIGIN)
    with refused("algorithm"):
        verify_registration(spoilt, **expectations())


@pytest.mark.parametrize("length", [1, 16, 1023])
def test_step_25_war_09_credential_ids_of_1_to_1023_bytes_are_accepted(length: int) -> None:
    assert register(credential_id=b"i" * length).credential_id == b"i" * length


@pytest.mark.parametrize("length", [0, 1024, 30_000])
def test_step_25_war_09_shorter_and_longer_credential_ids_are_refused(length: int) -> None:
    with refused("credential_id"):
        register(credential_id=b"i" * length)


@pytest.mark.parametrize("members", [{"id": "b3RoZXI"}, {"rawId": "b3RoZXI"}, {"id": "b3RoZXI", "rawId": "b3RoZXI"}])
def test_step_25_war_09_an_id_that_is_not_the_attested_one_is_refused(members: Json) -> None:
    with refused("credential_id"):
        register(credential=members)


@pytest.mark.parametrize("value", [None, 7, ["a"], "a=", "aa==", "a"])
def test_step_25_an_id_that_is_no_base64url_is_refused(value: object) -> None:
    with refused("base64url"):
        register(credential={"id": value, "rawId": value})


@pytest.mark.parametrize("kind", [None, "password", "", 7])
def test_step_27_a_credential_that_is_no_public_key_is_refused(kind: object) -> None:
    with refused("credential_type"):
        register(credential={"type": kind})


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (["internal", "hybrid"], ("hybrid", "internal")),
        (["usb", "usb", "cable", 7, None, ["nfc"], "<script>"], ("usb",)),
        (["usb"] * 10_000, ("usb",)),
        ([], ()),
        (None, ()),
        ("usb", ()),
        ({"usb": 1}, ()),
    ],
)
def test_step_27_war_12_only_transports_that_the_text_names_are_kept(sent: object, kept: tuple[str, ...]) -> None:
    assert register(response={"transports": sent}).transports == kept


@pytest.mark.parametrize("extensions", [{}, {"credProtect": 2}, {"uvm": [[2, 4, 2]]}, {"hmac-secret": True}])
def test_step_28_extensions_that_were_not_asked_for_are_ignored(extensions: Json) -> None:
    assert register(extensions=cbor(extensions)).sign_count == 0


def test_war_09_what_the_browser_says_beside_the_attestation_object_does_not_count() -> None:
    record = register(response={"publicKey": "AAAA", "publicKeyAlgorithm": RS256, "authenticatorData": "AAAA"})
    assert record.algorithm == ES256


def test_war_10_every_truncation_is_refused() -> None:
    whole = from_base64url(answer()["response"]["attestationObject"])
    for length in range(len(whole)):
        cut = whole[:length]
        with refused("cbor"):
            register(attestation_object=lambda _, cut=cut: cut)  # type: ignore[misc]


def test_not_04_the_library_does_not_log_credential_ids(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        logging.getLogger("fido2.server").info("New credential registered: 00ff")
        register()
    assert caplog.records == []


def test_an_answer_for_another_relying_party_id_of_ours_is_refused() -> None:
    other: Any = expectations(expected_rp_id=f"login.{RP_ID}")
    with refused("rp_id"):
        verify_registration(answer(), **other)
