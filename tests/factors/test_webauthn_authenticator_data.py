"""CBOR is walked before it is read (WAR-10): RFC 8949's own examples, and what python-fido2 would misread."""

from __future__ import annotations

import pytest

from factors.webauthn_authenticator_data import DEEPEST_NESTING, MOST_ITEMS, decode_cbor, item_end
from tests.cose import cbor
from tests.factors.ceremony import refused

# RFC 8949, appendix A, as far as CTAP 2 goes.
EXAMPLES: list[tuple[str, object]] = [
    ("00", 0),
    ("17", 23),
    ("1818", 24),
    ("1903e8", 1000),
    ("1a000f4240", 1000000),
    ("1bffffffffffffffff", 18446744073709551615),
    ("3bffffffffffffffff", -18446744073709551616),
    ("20", -1),
    ("3903e7", -1000),
    ("f4", False),
    ("f5", True),
    ("40", b""),
    ("4401020304", b"\1\2\3\4"),
    ("60", ""),
    ("64f0908591", "\U00010151"),
    ("80", []),
    ("8301820203820405", [1, [2, 3], [4, 5]]),
    ("98190102030405060708090a0b0c0d0e0f101112131415161718181819", list(range(1, 26))),
    ("a0", {}),
    ("a201020304", {1: 2, 3: 4}),
    ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ("826161a161626163", ["a", {"b": "c"}]),
]


@pytest.mark.parametrize(("encoded", "value"), EXAMPLES)
def test_rfc_8949_examples_are_read(encoded: str, value: object) -> None:
    assert decode_cbor(bytes.fromhex(encoded)) == value


@pytest.mark.parametrize(("encoded", "value"), EXAMPLES)
def test_an_item_ends_where_the_next_begins(encoded: str, value: object) -> None:
    data = bytes.fromhex(encoded)
    assert item_end(b"\xff" + data + b"\0", 1) == 1 + len(data)


@pytest.mark.parametrize(("encoded", "value"), EXAMPLES)
def test_war_10_a_truncated_item_is_refused(encoded: str, value: object) -> None:
    data = bytes.fromhex(encoded)
    for length in range(len(data)):
        with refused("cbor"):
            decode_cbor(data[:length])


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "0000",
        "1c",
        "1d",
        "1e",
        "1f",
        "58ff01",  # a string of 255 bytes that has one
        "5bffffffffffffffff",
        "7bffffffffffffffff61",
        "9bffffffffffffffff00",
        "bbffffffffffffffff0000",
        "5f4101ff",  # indefinite lengths
        "7f6161ff",
        "9f00ff",
        "bf0000ff",
        "ff",
        "f6",  # null, undefined, simple values, floats
        "f7",
        "e0",
        "f0",
        "f818",
        "f8f5",
        "f90000",
        "fa00000000",
        "fb0000000000000000",
        "c000",  # tags
        "d818456449455446",
        "61ff",  # no UTF-8
        "63eda080",
        "a18000",  # a list for a key
        "a1a000",
        "a100",  # a key without a value
    ],
)
def test_war_10_what_ctap_2_does_not_know_is_refused(encoded: str) -> None:
    with refused("cbor"):
        decode_cbor(bytes.fromhex(encoded))


def test_war_10_deep_nesting_is_refused() -> None:
    decode_cbor(b"\x81" * (DEEPEST_NESTING - 1) + b"\0")
    for depth in (DEEPEST_NESTING, 1000, 48_000):
        for opening in (b"\x81", b"\xa1\0", b"\x82\0", b"\x9b" + b"\xff" * 8):
            with refused("cbor"):
                decode_cbor(opening * depth + b"\0")


def test_war_10_many_items_are_refused() -> None:
    assert decode_cbor(cbor([0] * (MOST_ITEMS - 1))) == [0] * (MOST_ITEMS - 1)
    for count in (MOST_ITEMS, 48_000):
        for item in (b"\0", b"\x80", b"\x60"):
            with refused("cbor"):
                decode_cbor(b"\x99" + count.to_bytes(2) + item * count)


def test_war_10_the_walk_alone_refuses_what_has_no_end() -> None:
    for data in (
        b"\x42\0",
        b"\x62a",
        b"\x19\0",
        b"\x1c" + bytes(16),
        b"\x1f" + bytes(128),
        b"\x9e" + bytes(64),
        b"\x99\1\0" + bytes(256),
    ):
        with refused("cbor"):
            item_end(data, 0)
