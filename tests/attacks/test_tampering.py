"""Rows that somebody has written over: that factor is unusable, and that is all (SEC-03)."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

import pytest

import handlers.webauthn
from storage.backup import BackupCode, BackupCodeSet
from storage.challenge import Challenge
from storage.database import atomic
from storage.email import EmailFactor
from storage.outbox import OutboxMail
from storage.totp import TotpSecret
from storage.user import User
from storage.webauthn import WebAuthnCredential, WebAuthnRegistration
from tests.attacks.victim import Victim, World, backup_codes
from tests.attacks.wire import Answer, Request


def flipped(value: str) -> str:
    """The same value with one bit of its ciphertext or digest turned."""
    name, _, data = value.partition(":")
    raw = bytearray(base64.b64decode(data))
    raw[-1] ^= 1
    return f"{name}:{base64.b64encode(raw).decode()}"


TAMPERINGS: dict[str, Callable[[str], str]] = {
    "empty": lambda value: "",
    "no key id": lambda value: value.partition(":")[2],
    "nothing but a key id": lambda value: value.partition(":")[0] + ":",
    "unknown key id": lambda value: "unknown:" + value.partition(":")[2],
    "not base64": lambda value: value.partition(":")[0] + ":***",
    "not ASCII": lambda value: value.partition(":")[0] + ":\u00e9\u20ac",
    "too short": lambda value: value[:20],
    "cut off": lambda value: value[:-4],
    "longer": lambda value: value + "AAAA",
    "a bit turned": flipped,
    "in clear": lambda value: "135790",
}


@pytest.fixture
def victim(world: World) -> Victim:
    return world.victim().has_totp().has_backup_codes().has_key()


def unusable(answer: Answer, victim: Victim) -> None:
    """Refused with the bytes of a wrong code."""
    assert (answer.status, answer.code) == (403, "invalid_code")
    assert answer.bare() == victim.sends("totp/disable", {"code": victim.wrong_code}).bare()
    victim.clears()


def others_work(victim: Victim) -> None:
    """The user's other factors do, and so do other users."""
    world = victim.world
    listed = world.send(Request("GET", "/api/v1/me/mfa", victim.token))[0]
    assert {method["type"] for method in listed.json()["methods"]} >= {"totp", "webauthn"}
    assert world.send(victim.verifies(victim.challenge(), victim.backup_codes[-1]))[0].status == 200
    challenge_id, options = victim.key_challenge()
    assert world.send(victim.verifies(challenge_id, victim.key_answer(options)))[0].status == 200
    other = world.victim().has_totp().has_backup_codes()
    assert world.send(other.verifies(other.challenge(), other.code()))[0].status == 200


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_sec_03_a_tampered_totp_secret_accepts_nothing(victim: Victim, tampering: str) -> None:
    device = TotpSecret.get(TotpSecret.user == victim.caller.id)
    with atomic():
        TotpSecret.update(sealed=TAMPERINGS[tampering](device.sealed)).where(
            TotpSecret.user == victim.caller.id
        ).execute()
    unusable(victim.sends("totp/disable", {"code": victim.code()}), victim)
    unusable(victim.sends("backup-codes/regenerate", {"code": victim.code()}), victim)
    unusable(victim.world.send(victim.verifies(victim.challenge(), victim.code()))[0], victim)
    assert "unsealable" in {event.reason for event in victim.audit()}
    others_work(victim)
    # And there is a way out: a backup code takes the broken factor away.
    assert victim.sends("totp/disable", {"code": victim.backup_codes[0]}).status == 200


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_sec_03_a_tampered_pending_secret_confirms_nothing(world: World, tampering: str) -> None:
    victim = world.victim().has_email().has_backup_codes().begins_totp()
    device = TotpSecret.get(TotpSecret.user == victim.caller.id)
    with atomic():
        TotpSecret.update(sealed=TAMPERINGS[tampering](device.sealed)).where(
            TotpSecret.user == victim.caller.id
        ).execute()
    assert victim.sends("totp/confirm", {"code": victim.code()}).code == "invalid_code"
    victim.secret = base64.b32decode(victim.sends("totp/enable").json()["secret"])
    assert victim.sends("totp/confirm", {"code": victim.code()}).status == 200


def test_sec_01_a_sealed_secret_opens_in_its_own_row_alone(victim: Victim) -> None:
    """Neither that of another user, with all that belongs to it, nor a former one of the same user."""
    own = TotpSecret.get(TotpSecret.user == victim.caller.id)
    attacker = victim.world.victim().has_totp().has_backup_codes()
    foreign = TotpSecret.get(TotpSecret.user == attacker.caller.id)
    for written in (
        {"sealed": foreign.sealed},
        {"sealed": foreign.sealed, "device_id": foreign.device_id},
        {"sealed": own.sealed, "device_id": foreign.device_id},
    ):
        with atomic():
            TotpSecret.update(written).where(TotpSecret.user == victim.caller.id).execute()
        for code in (attacker.code(), victim.code()):
            assert victim.sends("totp/disable", {"code": code}).code == "invalid_code"
            victim.clears()
    others_work(victim)


@pytest.mark.parametrize("tampering", TAMPERINGS.keys() - {"a bit turned"})
def test_sec_03_a_tampered_digest_of_a_mailed_code_accepts_nothing(world: World, tampering: str) -> None:
    pending = world.victim().has_totp().has_backup_codes().has_key().begins_email("135790")
    asked = world.victim().has_email().has_backup_codes()
    challenge_id = asked.challenge("email", "135790")
    tamper = TAMPERINGS[tampering]
    with atomic():
        digest = str(EmailFactor.get(EmailFactor.user == pending.caller.id).code_digest)
        EmailFactor.update(code_digest=tamper(digest)).where(EmailFactor.user == pending.caller.id).execute()
        digest = str(Challenge.get(Challenge.user == asked.caller.id).code_digest)
        Challenge.update(code_digest=tamper(digest)).where(Challenge.user == asked.caller.id).execute()
    unusable(pending.sends("email/confirm", {"code": "135790"}), pending)
    others_work(pending)
    assert asked.sends("email/disable", {"code": "135790"}).code == "invalid_code"
    assert asked.sends("backup-codes/regenerate", {"code": "135790"}).code == "invalid_code"
    assert world.send(asked.verifies(challenge_id, "135790"))[0].code == "invalid_code"
    assert asked.sends("email/disable", {"code": asked.backup_codes[0]}).status == 200


def test_sec_03_a_digest_of_a_mailed_code_is_good_in_its_own_row_alone(world: World) -> None:
    attacker, victim = (world.victim().has_email().has_backup_codes() for _ in range(2))
    attacker.challenge("email", "246802")
    challenge_id = victim.challenge("email", "135790")
    with atomic():
        digest = Challenge.get(Challenge.user == attacker.caller.id).code_digest
        Challenge.update(code_digest=digest).where(Challenge.user == victim.caller.id).execute()
    assert world.send(victim.verifies(challenge_id, "246802"))[0].code == "invalid_code"


@pytest.mark.parametrize("salt", [b"", b"short", b"another salt of sixteen"[:16], b"s" * 4096])
def test_sec_03_a_tampered_salt_makes_backup_codes_unusable(victim: Victim, salt: bytes) -> None:
    with atomic():
        BackupCodeSet.update(salt=salt).where(BackupCodeSet.user == victim.caller.id).execute()
    for code in victim.backup_codes[:2]:
        unusable(victim.sends("totp/disable", {"code": code}), victim)
        unusable(victim.world.send(victim.verifies(victim.challenge(), code))[0], victim)
    assert victim.world.send(victim.verifies(victim.challenge(), victim.code()))[0].status == 200
    assert victim.sends("backup-codes/regenerate", {"code": victim.code(1)}).status == 200


@pytest.mark.parametrize("digest", [b"", b"short", b"d" * 32])
def test_sec_03_a_tampered_digest_of_a_backup_code_takes_that_code_alone(victim: Victim, digest: bytes) -> None:
    _, _, digests = backup_codes("")
    with atomic():
        changed = (
            BackupCode.update(digest=digest)
            .where(BackupCode.user == victim.caller.id, BackupCode.digest == digests[0])
            .execute()
        )
    assert changed == 1
    unusable(victim.sends("totp/disable", {"code": victim.backup_codes[0]}), victim)
    others_work(victim)


@pytest.mark.parametrize(
    "written",
    [
        {"public_key": b""},
        {"public_key": b"\xff"},
        {"public_key": b"\xa0"},
        {"public_key": b"\x9f" * 200},
        {"public_key": b"\xa1\x03\x26"},
        {"sign_count": 2**40},
        {"backup_eligible": True},
        {"credential_id": b"another"},
    ],
    ids=str,
)
def test_sec_03_a_tampered_credential_verifies_nothing(victim: Victim, written: dict[str, object]) -> None:
    challenge_id, options = victim.key_challenge()
    if "credential_id" in written:
        written = {"credential_id": victim.caller.id.bytes}
    with atomic():
        WebAuthnCredential.update(written).where(WebAuthnCredential.user == victim.caller.id).execute()
    refused = victim.world.send(victim.verifies(challenge_id, victim.key_answer(options)))[0]
    assert (refused.status, refused.code) == (403, "invalid_credential")
    assert victim.world.send(victim.verifies(victim.challenge(), victim.code()))[0].status == 200
    assert victim.world.send(victim.deletes(victim.device_ids[0]))[0].status == 200


def test_sec_03_a_public_key_of_another_user_verifies_nothing(victim: Victim) -> None:
    attacker = victim.world.victim().has_backup_codes().has_key()
    challenge_id, options = victim.key_challenge()
    [credential] = victim.authenticator.credentials
    with atomic():
        # The attacker's authenticator signs in the victim's name: who can write public keys is in. But no half of it.
        WebAuthnCredential.update(public_key=attacker.methods.credentials[0].public_key).where(
            WebAuthnCredential.user == victim.caller.id
        ).execute()
    assert victim.world.send(victim.verifies(challenge_id, victim.key_answer(options)))[0].code == "invalid_credential"
    assert credential.user_handle == bytes(User.handle_of(victim.caller))


@pytest.mark.parametrize("challenge", [b"", b"\0" * 32])
def test_sec_03_a_tampered_webauthn_challenge_takes_no_answer(victim: Victim, challenge: bytes) -> None:
    challenge_id, options = victim.key_challenge()
    opened = victim.calls(handlers.webauthn.begin)
    with atomic():
        Challenge.update(webauthn_challenge=challenge).where(Challenge.user == victim.caller.id).execute()
        WebAuthnRegistration.update(challenge=challenge).where(WebAuthnRegistration.user == victim.caller.id).execute()
    refused = victim.world.send(victim.verifies(challenge_id, victim.key_answer(options)))[0]
    assert refused.code == "invalid_credential"
    answer = victim.authenticator.register(
        opened["options"] | {"excludeCredentials": []}, origin=victim.world.settings.origins[0]
    )
    body = {name: str(opened[name]) for name in ("device_id", "challenge_id")} | {"credential": answer}
    assert victim.sends("webauthn/register/complete", body).code == "invalid_credential"


def test_sec_03_a_tampered_mail_holds_up_no_other(world: World) -> None:
    broken, whole = world.victim(), world.victim()
    assert broken.sends("email/enable").status == 200
    with atomic():
        OutboxMail.update(sealed="development:***").where(OutboxMail.user_id == broken.caller.id).execute()
    assert whole.sends("email/enable").status == 200
    folder = world.server.data / "outbox"
    deadline = time.monotonic() + 20
    while not any(str(whole.caller.email) in mail.read_text() for mail in folder.glob("[!.]*.eml")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
