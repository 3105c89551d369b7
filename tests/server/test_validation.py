"""Requests that break the contract: each gets 422, which says where it is wrong and repeats nothing of it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from server import validation
from server.validation import ContractBroken
from tests.contract.mailroom import Mailroom
from tests.contract.people import Person
from tests.running import RunningServer
from tests.server.wire import API, CONFIRM, FORM, JSON, MARKER, post, refused, request, send

INTROSPECT = "/api/v1/mfa/introspect"
VERIFY = f"{API}/verify"
COMPLETE = f"{API}/webauthn/register/complete"
DEVICE = f"{API}/webauthn"
A_UUID = "5e0b9d2a-3f0e-4f43-8f5e-0a2b61d3c7f1"
CREDENTIAL = {
    "id": "AAAA",
    "rawId": "AAAA",
    "type": "public-key",
    "response": {"clientDataJSON": "AAAA", "attestationObject": "AAAA"},
}
REGISTRATION = {"device_id": A_UUID, "challenge_id": A_UUID, "credential": CREDENTIAL}

NOT_JSON = {
    "a byte that is no UTF-8": b'{"code":"\xff"}',
    "an overlong encoding": b'{"code":"\xc0\xb0"}',
    "a surrogate in UTF-8": b'{"code":"\xed\xa0\x80"}',
    "UTF-16": '{"code":"000000"}'.encode("utf-16"),
    "UTF-32": '{"code":"000000"}'.encode("utf-32"),
    "a byte order mark": b'\xef\xbb\xbf{"code":"000000"}',
    "a lone surrogate": b'{"code":"\\ud800"}',
    "a lone surrogate in a name": b'{"\\udfff":"000000"}',
    "brackets 60 000 deep": b"[" * 60_000,
    "objects 12 000 deep": b'{"a":' * 12_000,
    "NaN": b'{"code":NaN}',
    "Infinity": b'{"code":-Infinity}',
    "a number beyond all range": b'{"code":1e999}',
    "a number of 5 000 digits": b'{"code":' + b"9" * 5_000 + b"}",
    "a number with a leading zero": b'{"code":000000}',
    "single quotes": b"{'code':'000000'}",
    "a name without quotes": b'{code:"000000"}',
    "a trailing comma": b'{"code":"000000",}',
    "a comment": b'{"code":"000000"/**/}',
    "a second value": b'{"code":"000000"}{}',
    "a NUL in front": b'\0{"code":"000000"}',
    "a NUL at the end": b'{"code":"000000"}\0',
    "a control character in a string": b'{"code":"0000\n00"}',
    "an escape that is none": b'{"code":"\\x30"}',
    "an end too early": b'{"code":"000000"',
    "a form": b"code=000000",
    "XML": b"<code>000000</code>",
}
# Valid JSON that is no ConfirmTotpRequest; where it is wrong, and how.
NOT_A_CODE: dict[str, tuple[Any, list[Any], str]] = {
    "null": (None, [], "type_error"),
    "an array": ([{"code": "000000"}], [], "type_error"),
    "a string": (MARKER, [], "type_error"),
    "a number": (4711, [], "type_error"),
    "a boolean": (True, [], "type_error"),
    "no code": ({}, ["code"], "missing"),
    "a code as a number": ({"code": 492039}, ["code"], "type_error"),
    "a code as a float": ({"code": 492039.0}, ["code"], "type_error"),
    "a code as a huge number": ({"code": 2**64}, ["code"], "type_error"),
    "a code as an array": ({"code": ["492039"]}, ["code"], "type_error"),
    "a code as an object": ({"code": {"code": "492039"}}, ["code"], "type_error"),
    "a code as null": ({"code": None}, ["code"], "type_error"),
    "a code as a boolean": ({"code": True}, ["code"], "type_error"),
    "an empty code": ({"code": ""}, ["code"], "string_pattern_mismatch"),
    "five digits": ({"code": "49203"}, ["code"], "string_pattern_mismatch"),
    "seven digits": ({"code": "4920391"}, ["code"], "string_too_long"),
    "letters": ({"code": "49203O"}, ["code"], "string_pattern_mismatch"),
    "a line end behind": ({"code": "492039\n"}, ["code"], "string_pattern_mismatch"),
    "a space in front": ({"code": " 492039"}, ["code"], "string_pattern_mismatch"),
    "a sign": ({"code": "+49203"}, ["code"], "string_pattern_mismatch"),
    "a NUL": ({"code": "49203\0"}, ["code"], "string_pattern_mismatch"),
    "Arabic digits": ({"code": "٤٩٢٠٣٩"}, ["code"], "string_pattern_mismatch"),
    "full-width digits": ({"code": "\uff14\uff19\uff12\uff10\uff13\uff19"}, ["code"], "string_pattern_mismatch"),
    "mathematical digits": (
        {"code": "\U0001d7d2\U0001d7d7\U0001d7d0\U0001d7ce\U0001d7d1\U0001d7d7"},
        ["code"],
        "string_pattern_mismatch",
    ),
    "a long string": ({"code": MARKER * 5_000}, ["code"], "string_too_long"),
    "an unknown field": ({"code": "492039", "remember": True}, [], "extra_forbidden"),
    "a code in another case": ({"Code": "492039"}, ["code"], "missing"),
    "the name of a prototype": ({"code": "492039", "__proto__": {"admin": True}}, [], "extra_forbidden"),
    "an unknown field with a telling name": ({"code": "492039", MARKER: MARKER}, [], "extra_forbidden"),
    "a thousand unknown fields": (
        {"code": "492039", **{f"{MARKER}{n}": n for n in range(1000)}},
        [],
        "extra_forbidden",
    ),
}
# As they stand in a path.
ANY_TEXT = [
    *("alice", "a/b", "a%2Fb", "auth0%7C1", "%25", "%2F", "/", "..", "%2e%2e/%2e%2e", "%0A", "a%0D%0Ab", "%ff"),
    *("%ED%A0%80", "x/mfa/challenge", "%F0%9F%98%80" * 63, "a" * 255, MARKER),
]


@pytest.fixture(scope="module")
def token(api: RunningServer) -> str:
    return api.token("validation")


@pytest.fixture(scope="module")
def service(api: RunningServer) -> str:
    return api.token("backend", scope="mfa:verify mfa:introspect")


def rows(error: ContractBroken) -> list[tuple[list[Any], str]]:
    return [(row["loc"], row["type"]) for row in error.rows]


# JSON.


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_rel_01_api_04_what_is_no_json_in_utf_8_is_refused(api: RunningServer, token: str, body: bytes) -> None:
    answer = refused(api, post(CONFIRM, body, token))
    assert answer.status == 422
    [row] = answer.json["detail"]
    assert (row["loc"][0], row["type"]) == ("body", "json_invalid")
    assert 0 <= row["loc"][1] <= len(body)


@pytest.mark.parametrize("body", [b"", b" ", b"\r\n\t "], ids=["no byte", "a space", "white space"])
def test_a_body_that_is_missing_is_called_missing(api: RunningServer, token: str, body: bytes) -> None:
    answer = refused(api, post(CONFIRM, body, token))
    assert answer.json == {"detail": [{"loc": ["body"], "msg": "Field required", "type": "missing"}]}


def test_a_body_that_is_not_even_announced_is_called_missing(api: RunningServer, token: str) -> None:
    answer = refused(api, request("POST", CONFIRM, [("Content-Type", JSON)], token=token))
    assert [(row["loc"], row["type"]) for row in answer.json["detail"]] == [(["body"], "missing")]


@pytest.mark.parametrize(("body", "place", "kind"), NOT_A_CODE.values(), ids=NOT_A_CODE)
def test_api_04_what_is_no_code_is_refused_and_nothing_is_coerced(
    api: RunningServer, token: str, body: Any, place: list[Any], kind: str
) -> None:
    answer = refused(api, post(CONFIRM, json.dumps(body).encode(), token))
    assert answer.status == 422
    assert (["body", *place], kind) in [(row["loc"], row["type"]) for row in answer.json["detail"]]


def test_of_a_field_given_twice_the_last_counts_as_everywhere(api: RunningServer, token: str) -> None:
    assert refused(api, post(CONFIRM, b'{"code":"492039","code":1}', token)).status == 422
    assert refused(api, post(CONFIRM, b'{"code":1,"code":"492039"}', token)).code == "no_pending_enrolment"


@pytest.mark.parametrize("place", ["device_id", "challenge_id"])
@pytest.mark.parametrize(
    "value", ["", "1", MARKER, A_UUID.upper(), A_UUID.replace("-", ""), f"{{{A_UUID}}}", f"{A_UUID}\n"]
)
def test_an_id_has_one_spelling(api: RunningServer, token: str, place: str, value: str) -> None:
    answer = refused(api, post(COMPLETE, json.dumps({**REGISTRATION, place: value}).encode(), token))
    assert answer.status == 422
    assert {tuple(row["loc"]) for row in answer.json["detail"]} == {("body", place)}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("credential",), MARKER),
        (("credential",), {}),
        (("credential", "id"), ""),
        (("credential", "id"), "a+b/"),
        (("credential", "id"), "A" * 1365),
        (("credential", "rawId"), None),
        (("credential", "type"), MARKER),
        (("credential", "type"), ["public-key"]),
        (("credential", "authenticatorAttachment"), 1),
        (("credential", "clientExtensionResults"), []),
        (("credential", "response"), MARKER),
        (("credential", "response", "clientDataJSON"), {"challenge": MARKER}),
        (("credential", "response", "attestationObject"), "AA=="),
        (("credential", "response", "attestationObject"), "A" * 16385),
        (("credential", "response", "transports"), ["usb"] * 17),
        (("credential", "response", "transports"), [MARKER * 6]),
        (("credential", "response", "transports"), "usb"),
    ],
)
def test_war_10_what_a_browser_does_not_send_is_refused(
    api: RunningServer, token: str, path: tuple[str, ...], value: Any
) -> None:
    body = json.loads(json.dumps(REGISTRATION))
    holder = body
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    answer = refused(api, post(COMPLETE, json.dumps(body).encode(), token))
    assert answer.status == 422
    assert all(tuple(row["loc"])[: len(path) + 1] == ("body", *path) for row in answer.json["detail"])


def test_members_that_a_browser_adds_are_not_looked_at(api: RunningServer, token: str) -> None:
    body = {**REGISTRATION, "credential": {**CREDENTIAL, "hints": [], "clientExtensionResults": {"appid": True}}}
    assert refused(api, post(COMPLETE, json.dumps(body).encode(), token)).code == "challenge_not_found"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"challenge_id": A_UUID},
        {"challenge_id": A_UUID, "code": ""},
        {"challenge_id": A_UUID, "code": None},
        {"challenge_id": A_UUID, "code": []},
        {"challenge_id": A_UUID, "credential": {}},
        {"challenge_id": A_UUID, "credential": None},
        {"challenge_id": None, "code": "492039"},
        {"challenge_id": [], "code": "492039"},
        {"challenge_id": A_UUID, "code": "492039", "credential": CREDENTIAL},
        {"challenge_id": A_UUID, "code": "492039", "method": "totp"},
        {"code": "492039"},
    ],
)
def test_stp_06_nothing_is_passed_by_its_absence(api: RunningServer, token: str, service: str, body: Any) -> None:
    sent = json.dumps(body).encode()
    assert refused(api, post(VERIFY, sent, token)).status == 422
    assert refused(api, post("/api/v1/users/alice/mfa/verify", sent, service)).status == 422


@pytest.mark.parametrize("method", ["", None, [], {}, 0, False, "TOTP", "sms", MARKER, ["totp"], "totp\n"])
def test_stp_06_a_method_is_one_of_four_words(api: RunningServer, token: str, method: Any) -> None:
    answer = refused(api, post(f"{API}/challenge", json.dumps({"method": method}).encode(), token))
    assert answer.status == 422
    assert {tuple(row["loc"]) for row in answer.json["detail"]} == {("body", "method")}


def test_no_more_than_twenty_things_are_said_to_be_wrong(api: RunningServer, token: str) -> None:
    body = json.loads(json.dumps(REGISTRATION))
    body["credential"]["response"]["transports"] = [1] * 500
    assert len(refused(api, post(COMPLETE, json.dumps(body).encode(), token)).json["detail"]) == validation.MOST_ROWS


# Paths and headers.


@pytest.mark.parametrize(
    "device",
    ["1", MARKER, "register", "..", "%2e%2e", "%00", "%ff", "%F0%9F%98%80", A_UUID.upper(), f"{A_UUID}%0A", "a" * 9000],
)
def test_a_device_has_an_id_of_one_form(api: RunningServer, token: str, device: str) -> None:
    answer = refused(api, request("DELETE", f"{DEVICE}/{device}", token=token))
    assert answer.status == 422
    assert {tuple(row["loc"]) for row in answer.json["detail"]} == {("path", "device_id")}


@pytest.mark.parametrize("sub", ANY_TEXT)
def test_a_sub_may_be_any_text(api: RunningServer, service: str, sub: str) -> None:
    answer = refused(api, post(f"/api/v1/users/{sub}/mfa/challenge", b"{}", service))
    assert answer.code == "not_enabled"


@pytest.mark.parametrize("sub", ["", "%00", "a%00b", "a" * 256, "%E2%82%AC" * 256])
def test_tok_06_a_sub_that_no_token_can_have_is_refused(api: RunningServer, service: str, sub: str) -> None:
    answer = refused(api, post(f"/api/v1/users/{sub}/mfa/challenge", b"{}", service))
    assert answer.status == 422
    assert {tuple(row["loc"]) for row in answer.json["detail"]} == {("path", "sub")}


@pytest.mark.parametrize("sub", ["a/b c%2F?#", "..", "ünïcödé-😀", "line\nend", "x/mfa/challenge", "%00"])
def test_the_sub_of_a_path_is_the_one_of_a_token(api: RunningServer, service: str, sub: str) -> None:
    with httpx.Client(base_url=api.url) as http:
        Person(api, http, Mailroom(api.data / "outbox"), sub).with_app()
    answer = send(api, post(f"/api/v1/users/{quote(sub, safe='')}/mfa/challenge", b"{}", service))
    assert (answer.status, answer.json["methods"]) == (200, ["totp", "backup_code"])


@pytest.mark.parametrize(
    "value", ["", "a", "a.b", "a.b.c.d", "a..c", ".b.c", f"a.{MARKER}!.c", "a.b.c=", "a.\xff.c", "a.b.c" * 1000]
)
def test_an_assertion_has_three_parts(api: RunningServer, token: str, value: str) -> None:
    answer = refused(api, request("POST", f"{API}/totp/enable", [("MFA-Assertion", value)], b"", token=token))
    assert answer.status == 422
    assert {tuple(row["loc"]) for row in answer.json["detail"]} == {("header", "MFA-Assertion")}


# Forms.


@pytest.mark.parametrize(
    "body",
    [
        b"token",
        b"token=a&token=b",
        b"token=a&token_type_hint=x&token_type_hint=y",
        b"token=%FF",
        b"token=\xff",
        b"token=%ED%A0%80",
        b"&&token=a",
        b"token=a&",
        b"&".join(b"a%d=1" % number for number in range(validation.MOST_ROWS + 1)),
        b"a=1&" * 16_000,
        b"&" * 65_536,
        b'{"token":"a"}',
    ],
    ids=lambda body: body[:30].decode("latin-1"),
)
def test_rel_01_what_is_no_form_is_refused(api: RunningServer, service: str, body: bytes) -> None:
    answer = refused(api, post(INTROSPECT, body, service, FORM))
    assert answer.status == 422
    assert [(row["loc"], row["type"]) for row in answer.json["detail"]] == [(["body"], "form_invalid")]


@pytest.mark.parametrize(
    ("body", "place", "kind"),
    [
        (b"", "token", "missing"),
        (b"token_type_hint=access_token", "token", "missing"),
        (b"token=", "token", "string_too_short"),
        (b"token=" + b"a" * 4097, "token", "string_too_long"),
        (b"token=a&token_type_hint=" + b"a" * 101, "token_type_hint", "string_too_long"),
        (b"token=a&" + MARKER.encode() + b"=" + MARKER.encode(), None, "extra_forbidden"),
        (b"=a", None, "extra_forbidden"),
    ],
    ids=lambda value: value[:30].decode() if isinstance(value, bytes) else None,
)
def test_a_form_has_the_fields_of_rfc_7662(
    api: RunningServer, service: str, body: bytes, place: str | None, kind: str
) -> None:
    answer = refused(api, post(INTROSPECT, body, service, FORM))
    assert (["body", place] if place else ["body"], kind) in [
        (row["loc"], row["type"]) for row in answer.json["detail"]
    ]


@pytest.mark.parametrize("token", [b"a", b"%00", b"%zz", b"a%3Bx", b"a+b", b"%F0%9F%98%80", b"a.b.c&token_type_hint=x"])
def test_any_text_is_a_token_that_is_not_active(api: RunningServer, service: str, token: bytes) -> None:
    answer = send(api, post(INTROSPECT, b"token=" + token, service, FORM))
    assert (answer.status, answer.json) == (200, {"active": False})


# The text of a row.


def test_api_02_no_text_of_a_row_repeats_a_value() -> None:
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "a": {"type": "string", "enum": ["x"], "pattern": "^x$", "maxLength": 3, "format": "date-time"},
            "b": {"type": "array", "maxItems": 1, "items": {"type": "integer", "minimum": 0, "maximum": 3}},
            "c": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
            "d": {"type": "string", "minLength": 99},
        },
    }
    value = {"a": MARKER, "b": [4711, 4711], "c": [MARKER], "d": MARKER, MARKER: MARKER}
    with pytest.raises(ContractBroken) as broken:
        validation.check(validation.compiled(schema), value, "body")
    assert {row["type"] for row in broken.value.rows} >= {"extra_forbidden", "enum", "format", "too_long", "maximum"}
    assert MARKER not in str(broken.value.rows)
    assert "4711" not in str(broken.value.rows)
    assert MARKER not in str(broken.value)


def test_nullable_is_null_as_well() -> None:
    schema = validation.compiled({"type": "array", "items": {"type": "string", "maxLength": 1, "nullable": True}})
    validation.check(schema, ["a", None], "body")
    with pytest.raises(ContractBroken) as broken:
        validation.check(schema, ["a", 1], "body")
    assert rows(broken.value) == [(["body", 1], "type_error")]


def test_a_row_names_the_place_down_to_the_index() -> None:
    schema = validation.compiled({"properties": {"a": {"items": {"required": ["b"]}}}})
    with pytest.raises(ContractBroken) as broken:
        validation.check(schema, {"a": [{"b": 1}, {}]}, "body")
    assert rows(broken.value) == [(["body", "a", 1, "b"], "missing")]
