"""Backup codes: how much chance is in one, how it may be typed, and what is kept of it."""

from __future__ import annotations

import base64
import re

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import VerifyMismatchError
from argon2.low_level import Type

from factors import backup
from factors.errors import InvalidCode

SALT = bytes(range(16))
CODE = "7Q2M-X4KD-91TB-C8Z0"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that cost little, for what is not about their cost."""
    monkeypatch.setattr(backup, "MEMORY_KIB", 8)
    monkeypatch.setattr(backup, "PASSES", 1)


def number_of(code: str) -> int:
    """The 80 bits that a code was made of."""
    number = 0
    for letter in code.replace("-", ""):
        number = number * 32 + backup.ALPHABET.index(letter)
    return number


def test_bck_01_the_alphabet_is_crockfords_without_the_letters_that_look_like_others() -> None:
    assert backup.ALPHABET == "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    assert len(set(backup.ALPHABET)) == 32


def test_bck_01_a_set_is_ten_codes_of_four_groups_of_four() -> None:
    codes = backup.codes_of(bytes(range(100)))
    assert len(codes) == len(set(codes)) == 10
    assert all(re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){3}", code) for code in codes)


def test_bck_01_a_code_holds_all_80_bits_of_its_chance_so_that_each_code_is_as_likely() -> None:
    entropy = bytes.fromhex("00" * 10 + "ff" * 10 + "0123456789abcdef8001" + "fedcba98765432107ffe") + bytes(60)
    codes = backup.codes_of(entropy)
    assert b"".join(number_of(code).to_bytes(10) for code in codes) == entropy
    assert codes[:2] == ["0000-0000-0000-0000", "ZZZZ-ZZZZ-ZZZZ-ZZZZ"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "typed",
    [
        "7Q2MX4KD91TBC8Z0",
        "7q2m-x4kd-91tb-c8z0",
        "7q2m x4kd 91tb c8z0",
        "7 Q 2 M X 4 K D 9 1 T B C 8 Z 0",
        "7Q2M-X4KD-9ITB-C8ZO",
        "7q2m-x4kd-9ltb-c8zo",
        "7Q2MX4KD9lTBC8Zo",
        "  7Q2M--X4KD--91TB--C8Z0  ",
    ],
)
def test_bck_01_case_hyphens_spaces_and_look_alikes_do_not_matter(typed: str) -> None:
    assert backup.digest(typed, SALT) == backup.digest(CODE, SALT)


@pytest.mark.usefixtures("quick")
def test_every_letter_of_a_code_matters() -> None:
    canonical = CODE.replace("-", "")
    others = {canonical[:at] + ("5" if canonical[at] != "5" else "6") + canonical[at + 1 :] for at in range(16)}
    digests = {backup.digest(code, SALT) for code in (*others, canonical)}
    assert len(digests) == 17


@pytest.mark.usefixtures("quick")
def test_bck_04_the_same_code_under_another_salt_has_another_digest() -> None:
    assert backup.digest(CODE, SALT) != backup.digest(CODE, SALT[::-1])


@pytest.mark.parametrize("salt", [b"", bytes(15), bytes(17), b"short"])
def test_sec_03_a_salt_that_was_written_over_makes_every_code_a_wrong_one(salt: bytes) -> None:
    with pytest.raises(InvalidCode):
        backup.digest(CODE, salt)


def test_bck_02_a_digest_is_argon2id_at_no_less_than_owasps_least() -> None:
    """Another interface of the same library agrees on what was computed: 19 MiB, two passes, one lane."""

    def unpadded(data: bytes) -> str:
        return base64.b64encode(data).rstrip(b"=").decode()

    encoded = f"$argon2id$v=19$m=19456,t=2,p=1${unpadded(SALT)}${unpadded(backup.digest(CODE, SALT))}"
    parameters = extract_parameters(encoded)
    assert (parameters.type, parameters.memory_cost, parameters.time_cost) == (Type.ID, 19 * 1024, 2)
    assert (parameters.salt_len, parameters.hash_len) == (16, 32)
    assert PasswordHasher().verify(encoded, "7Q2MX4KD91TBC8Z0")
    with pytest.raises(VerifyMismatchError):
        PasswordHasher().verify(encoded, "7Q2MX4KD91TBC8Z1")
