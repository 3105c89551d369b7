"""Base64url as the Web Authentication API spells it, and in no other way."""

from __future__ import annotations

import pytest

from factors.webauthn_response import base64url_decode, base64url_encode
from tests.factors.ceremony import refused


def test_bytes_of_every_length_come_back() -> None:
    for length in range(256):
        data = bytes(range(255, 255 - length, -1))
        assert base64url_decode(base64url_encode(data)) == data


@pytest.mark.parametrize(
    "text",
    [
        "YQ==",
        "YQ=",
        "=",
        "YR",
        "YWJ",
        "Y",
        "YWFhY",
        "+/8A",
        "Y Q",
        "YQ\n",
        "Y\u00d6",
        "\u212a\u212a",
        "\ud800",
        "\0",
        "YQ.YQ",
    ],
)
def test_war_10_only_the_canonical_spelling_is_read(text: str) -> None:
    with refused("base64url"):
        base64url_decode(text)


@pytest.mark.parametrize("value", [None, 7, 1.5, True, b"YQ", ["YQ"], {"YQ": 1}])
def test_what_is_no_text_is_refused(value: object) -> None:
    with refused("base64url"):
        base64url_decode(value)
