"""Secrets at rest: what opens, and everything that does not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from typing import Any

import pytest

from storage import sealing
from storage.sealing import Keyring, Unsealable

OLD, NEW = bytes(32), bytes(range(32))
USER, ROW = uuid.UUID(int=1), uuid.UUID(int=2)
SECRET = b"a secret of twenty b"


@pytest.fixture
def keyring() -> Keyring:
    return Keyring({"new": NEW, "old": OLD})


def seal(keyring: Keyring, plaintext: bytes = SECRET) -> str:
    return keyring.seal(plaintext, table="totp_secret", user=USER, row=ROW)


def opened(keyring: Keyring, sealed: str, **place: Any) -> bytes:
    return keyring.unseal(sealed, **{"table": "totp_secret", "user": USER, "row": ROW, **place})


def test_what_was_sealed_opens_in_its_place(keyring: Keyring) -> None:
    for plaintext in (SECRET, b"", bytes(10_000)):
        assert opened(keyring, seal(keyring, plaintext)) == plaintext


def test_sec_01_the_newest_key_seals_and_its_id_is_in_the_value(keyring: Keyring) -> None:
    assert seal(keyring).startswith("new:")
    assert seal(Keyring({"old": OLD})).startswith("old:")


def test_sec_01_all_keys_open(keyring: Keyring) -> None:
    assert opened(keyring, seal(Keyring({"old": OLD}))) == SECRET


def test_sec_01_the_same_secret_is_never_sealed_the_same_way(keyring: Keyring) -> None:
    assert len({seal(keyring) for _ in range(100)}) == 100


def test_sec_01_a_value_that_was_moved_to_another_row_user_or_table_does_not_open(keyring: Keyring) -> None:
    sealed = seal(keyring)
    for place in ({"row": USER}, {"user": ROW}, {"user": ROW, "row": USER}, {"table": "outbox_mail"}, {"table": ""}):
        with pytest.raises(Unsealable):
            opened(keyring, sealed, **place)


def test_sec_01_a_table_cannot_take_over_the_bytes_of_its_user(keyring: Keyring) -> None:
    """What is bound together cannot be cut elsewhere: the ids have one length."""
    user = uuid.UUID(bytes=b"|" * 16)
    sealed = keyring.seal(SECRET, table="t|", user=user, row=ROW)
    with pytest.raises(Unsealable):
        opened(keyring, sealed, table="t", user=user, row=ROW)


def test_sec_03_every_single_changed_bit_is_noticed(keyring: Keyring) -> None:
    name, _, value = seal(keyring).partition(":")
    raw = base64.b64decode(value)
    for at in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises(Unsealable):
            opened(keyring, f"{name}:{base64.b64encode(changed).decode()}")


@pytest.mark.parametrize(
    "sealed",
    ["", ":", "new", "new:", "new:AAAA", "new:not base64!", "gone:AAAA", "new:" + "A" * 40, "new:é", "old" * 9_999],
)
def test_sec_03_whatever_is_in_the_column_it_opens_or_is_unsealable(keyring: Keyring, sealed: str) -> None:
    with pytest.raises(Unsealable):
        opened(keyring, sealed)


def test_sec_03_another_key_of_the_same_name_does_not_open(keyring: Keyring) -> None:
    with pytest.raises(Unsealable):
        opened(Keyring({"new": bytes(31) + b"\x01"}), seal(keyring))


def test_sec_03_without_the_key_nothing_opens_and_the_error_tells_no_secret(keyring: Keyring) -> None:
    with pytest.raises(Unsealable) as caught:
        opened(Keyring({"old": OLD}), seal(keyring))
    assert str(caught.value) == "totp_secret"


@pytest.mark.parametrize("keys", [{}, {"short": bytes(31)}, {"long": bytes(33)}, {"good": OLD, "empty": b""}])
def test_sec_02_no_key_or_one_of_another_length_is_no_keyring(keys: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keyring(keys)


def test_eml_09_a_digest_matches_its_code_in_its_context_alone(keyring: Keyring) -> None:
    digest = keyring.digest("012345", "purpose", "user")
    assert keyring.digest_matches(digest, "012345", "purpose", "user")
    for code, *context in (
        ("012346", "purpose", "user"),
        ("012345", "other", "user"),
        ("012345", "purpose", "other"),
        ("012345", "purpose"),
        ("012345", "user", "purpose"),
        ("012345", "purposeuser"),
        ("user012345", "purpose"),
    ):
        assert not keyring.digest_matches(digest, code, *context)


def test_eml_09_a_digest_takes_the_key_and_keeps_matching_while_that_is_there(keyring: Keyring) -> None:
    old = Keyring({"old": OLD}).digest("012345", "purpose")
    assert keyring.digest("012345", "purpose") != old
    assert keyring.digest_matches(old, "012345", "purpose")
    assert not Keyring({"new": NEW}).digest_matches(old, "012345", "purpose")


@pytest.mark.parametrize("kept", ["", ":", "gone:00", "new:", "new:" + "0" * 64, "new"])
def test_eml_09_what_is_no_digest_matches_nothing(keyring: Keyring, kept: str) -> None:
    assert not keyring.digest_matches(kept, "012345")


def test_the_key_of_the_digests_is_not_the_one_that_seals() -> None:
    """One is derived from the other (HKDF), so that no use of either helps against the other."""
    plain = hmac.new(NEW, b"purpose\x00012345", hashlib.sha256).hexdigest()
    assert Keyring({"new": NEW}).digest("012345", "purpose") != f"new:{plain}"


def test_the_keys_of_the_process_are_those_that_were_last_given() -> None:
    sealing.use({"old": OLD})
    sealed = sealing.seal(SECRET, table="totp_secret", user=USER, row=ROW)
    sealing.use({"new": NEW, "old": OLD})
    assert sealing.unseal(sealed, table="totp_secret", user=USER, row=ROW) == SECRET
    assert sealing.digest("1", "2").startswith("new:")
    assert sealing.digest_matches(sealing.digest("1", "2"), "1", "2")


def test_without_keys_nothing_is_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_keyring", None)
    with pytest.raises(RuntimeError):
        sealing.seal(SECRET, table="totp_secret", user=USER, row=ROW)
