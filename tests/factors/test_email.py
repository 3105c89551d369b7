"""Codes by e-mail: which claims name one mailbox, how it is shown, and what a code looks like."""

from __future__ import annotations

import pytest

from factors.email import CODES, code_of, mailbox, masked

LABEL = "d" * 63
AT_MOST = f"{'l' * 64}@{LABEL}.{LABEL}.{'d' * 61}"


@pytest.mark.parametrize(
    "address",
    [
        "alice@example.com",
        "a@example.com",
        "alice.b+mfa@mail.example.co.uk",
        "!#$%&'*+/=?^_`{|}~-@example.com",
        "UPPER.lower.123@EXAMPLE.com",
        "alice@localhost",
        "alice@xn--bcher-kva.example",
        "alice@a-b.example",
        AT_MOST,
    ],
)
def test_one_mailbox_is_taken_as_it_is(address: str) -> None:
    assert mailbox(address) == address


def test_the_longest_mailbox_has_254_characters_of_which_64_before_the_at() -> None:
    assert len(AT_MOST) == 254
    assert mailbox(f"{AT_MOST}d") is None
    assert mailbox(f"{'l' * 65}@example.com") is None
    assert mailbox(f"{'l' * 40}.{'l' * 24}@example.com") is None
    assert mailbox(f"{'l' * 40}.{'l' * 23}@example.com")


@pytest.mark.parametrize(
    "claim",
    [
        # A header, or a second command, would begin.
        "alice@example.com\r\nBcc: mallory@example.org",
        "alice@example.com\n",
        "alice@example.com\r",
        "\nalice@example.com",
        "alice\x00@example.com",
        "alice@example.com\x00.example.org",
        "alice\t@example.com",
        # More than one recipient.
        "alice@example.com,mallory@example.org",
        "alice@example.com, mallory@example.org",
        "alice@example.com;mallory@example.org",
        "alice@example.com mallory@example.org",
        "alice@example.com@example.org",
        "friends: alice@example.com;",
        # Not an address alone.
        "<alice@example.com>",
        "Alice <alice@example.com>",
        '"alice"@example.com',
        '"alice\\"@example.org"@example.com',
        "(comment)alice@example.com",
        "alice@example.com (comment)",
        "@example.org:alice@example.com",
        "mailto:alice@example.com",
        # No mailbox.
        "",
        "@",
        "alice",
        "alice@",
        "@example.com",
        ".alice@example.com",
        "alice.@example.com",
        "al..ice@example.com",
        "alice@.example.com",
        "alice@example.com.",
        "alice@example..com",
        "alice@-example.com",
        "alice@example-.com",
        "alice@exam_ple.com",
        f"alice@{'d' * 64}.com",
        "alice@[127.0.0.1]",
        "alice@[IPv6:::1]",
        # No ASCII: a look-alike, a full-width at, a direction mark, a zero width space, a mailbox of RFC 6531.
        "\u0430lice@example.com",
        "alice\uff20example.com",
        "alice\u202e@example.com",
        "ali\u200bce@example.com",
        "ålice@example.com",
        "alice@bücher.example",
    ],
)
def test_eml_07_what_is_not_exactly_one_mailbox_is_none(claim: str) -> None:
    assert mailbox(claim) is None


@pytest.mark.parametrize(
    "claim", [None, True, 7, 1.5, ["alice@example.com"], {"email": "alice@example.com"}, b"alice@example.com"]
)
def test_eml_07_a_claim_that_is_no_text_is_no_mailbox(claim: object) -> None:
    assert mailbox(claim) is None


def test_a_long_claim_that_is_almost_a_mailbox_is_refused_without_backtracking() -> None:
    assert mailbox("a." * 126 + "@") is None
    assert mailbox("a@" + "a-" * 125) is None
    assert mailbox("a" * 1_000_000 + "@example.com") is None


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("alice@example.com", "a•••@example.com"),
        ("al@example.com", "a•••@example.com"),
        ("a@example.com", "•••@example.com"),
        (AT_MOST, f"l•••@{LABEL}.{LABEL}.{'d' * 61}"),
    ],
)
def test_prv_03_a_masked_address_shows_one_letter_and_not_its_length(address: str, shown: str) -> None:
    assert masked(address) == shown
    assert len(shown) <= 300


def test_eml_02_codes_have_six_digits_with_their_leading_zeros() -> None:
    assert [code_of(number) for number in (0, 7, 12345, CODES - 1)] == ["000000", "000007", "012345", "999999"]


def test_eml_02_every_six_digits_are_a_code_and_each_is_as_likely() -> None:
    assert len({code_of(number) for number in range(CODES)}) == CODES == 10**6
