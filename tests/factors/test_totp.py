"""Codes of an authenticator app: the RFCs' own, the window around the clock, and the key URI that an app scans."""

from __future__ import annotations

import base64
import hmac
import json
import string
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from factors import totp
from factors.errors import InvalidCode
from tests.authenticator_app import AuthenticatorApp, code_at_step, step_at

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent.parent / "vectors" / "otp_rfc_vectors.json").read_text())
SHA1_ROWS = [row for row in VECTORS["rfc6238"] if row["mode"] == "SHA1"]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STEP = 59_078_880  # The step that begins at NOW.
SECRET = b"12345678901234567890"
HOSTILE = [
    "alice@example.com",
    "urn:example:alice",
    "alice?secret=AAAAAAAA&issuer=Evil",
    "alice&algorithm=SHA512&digits=8&period=1",
    "alice#fragment",
    "alice%26issuer%3DEvil",
    "100% alice + bob/carol\\dave",
    "\"><script>alert(1)</script>'",
    "alice\r\nSet-Cookie: a=b\x00",
    "alice\u202egro.elpmaxe@",
    "  alice  ",
    ":",
    "..//",
    "ålice 🔑 愛麗絲",
]


@pytest.mark.parametrize("row", SHA1_ROWS, ids=lambda row: str(row["time"]))
def test_otp_02_the_rows_of_rfc_6238_appendix_b_give_their_steps(row: dict[str, Any]) -> None:
    now = datetime.fromtimestamp(row["time"], UTC)
    secret = row["secret_ascii"].encode()
    assert totp.matching_step(secret, row["totp6"], now, window=0) == int(row["T_hex"], 16)


def test_otp_02_all_six_sha_1_rows_are_there_with_leading_zeros_among_them() -> None:
    assert [row["totp6"] for row in SHA1_ROWS] == ["287082", "081804", "050471", "005924", "279037", "353130"]


@pytest.mark.parametrize(("counter", "code"), list(enumerate(VECTORS["rfc4226"]["codes"])))
def test_otp_02_the_rows_of_rfc_4226_appendix_d_give_their_counters(counter: int, code: str) -> None:
    now = datetime.fromtimestamp(counter * 30, UTC)
    assert totp.matching_step(VECTORS["rfc4226"]["secret_ascii"].encode(), code, now, window=0) == counter


def test_otp_02_steps_beyond_32_bits_are_steps_like_any_other() -> None:
    now = datetime(9999, 12, 31, tzinfo=UTC)
    step = totp.matching_step(SECRET, AuthenticatorApp(SECRET).code(now), now, window=1)
    assert step == step_at(now) > 2**32


@pytest.mark.parametrize("seconds", [0, 1, 29, 29.999999])
def test_a_code_belongs_to_its_step_from_the_first_to_the_last_moment(seconds: float) -> None:
    now = NOW + timedelta(seconds=seconds)
    assert totp.matching_step(SECRET, code_at_step(SECRET, STEP), now, window=0) == STEP


@pytest.mark.parametrize(("window", "accepted"), [(0, [0]), (1, [-1, 0, 1])])
def test_otp_05_so_many_steps_before_and_after_are_accepted_and_no_others(window: int, accepted: list[int]) -> None:
    for offset in range(-3, 4):
        code = code_at_step(SECRET, STEP + offset)
        if offset in accepted:
            assert totp.matching_step(SECRET, code, NOW, window) == STEP + offset
        else:
            with pytest.raises(InvalidCode):
                totp.matching_step(SECRET, code, NOW, window)


def test_otp_09_every_candidate_step_is_compared_wherever_the_match_is(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def watched(one: str, other: str) -> bool:
        compared.append(one)
        return compare(one, other)

    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", watched)
    codes = [code_at_step(SECRET, STEP + offset) for offset in (-1, 0, 1)]
    for code in codes:
        totp.matching_step(SECRET, code, NOW, window=1)
    with pytest.raises(InvalidCode):
        totp.matching_step(SECRET, "000000", NOW, window=1)
    assert compared == codes * 4


def test_otp_03_a_code_that_two_steps_share_counts_for_the_later_so_that_both_are_shut() -> None:
    secret = b"00000000000000284254"
    code = code_at_step(secret, STEP)
    assert code == code_at_step(secret, STEP - 1)
    assert totp.matching_step(secret, code, NOW, window=1) == STEP


def test_otp_06_the_timezone_of_the_clock_has_no_effect() -> None:
    elsewhere = NOW.astimezone(datetime.strptime("+0545", "%z").tzinfo)
    assert elsewhere.hour != NOW.hour
    assert totp.matching_step(SECRET, code_at_step(SECRET, STEP), elsewhere, window=0) == STEP


def test_otp_01_a_secret_of_160_bits_is_32_letters_of_base32_without_padding() -> None:
    assert totp.SECRET_BYTES * 8 == 160
    text = totp.base32(bytes(range(totp.SECRET_BYTES)))
    assert len(text) == 32
    assert set(text) <= set(string.ascii_uppercase + "234567")
    assert base64.b32decode(text) == bytes(range(totp.SECRET_BYTES))


@pytest.mark.parametrize("account", HOSTILE)
def test_otp_08_an_app_reads_back_the_account_as_it_was_and_nothing_beside_it(account: str) -> None:
    app = AuthenticatorApp.scan(totp.otpauth_uri(SECRET, account=account, issuer="Example Inc."))
    assert app == AuthenticatorApp(SECRET, "Example Inc.", account)


@pytest.mark.parametrize("issuer", HOSTILE)
def test_otp_08_an_app_reads_back_the_issuer_as_it_was_and_nothing_beside_it(issuer: str) -> None:
    app = AuthenticatorApp.scan(totp.otpauth_uri(SECRET, account="alice", issuer=issuer))
    assert app == AuthenticatorApp(SECRET, issuer, "alice")


@pytest.mark.parametrize("text", HOSTILE)
def test_otp_08_nothing_in_the_uri_could_break_markup_a_header_or_a_line(text: str) -> None:
    uri = totp.otpauth_uri(SECRET, account=text, issuer=text)
    assert set(uri) <= set(string.ascii_letters + string.digits + "-._~%:/?&=")


def test_a_long_account_is_cut_so_that_the_code_stays_readable() -> None:
    app = AuthenticatorApp.scan(totp.otpauth_uri(SECRET, account="a" * 255, issuer="Example"))
    assert app.account == "a" * 100
