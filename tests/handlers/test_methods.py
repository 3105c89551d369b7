"""The list of what a user has."""

from __future__ import annotations

from storage.user import User
from tests.authenticator import Authenticator
from tests.states import Person, World


def test_a_stranger_has_nothing_and_asking_leaves_no_trace(alice: Person) -> None:
    assert alice.listed() == {
        "mfa_enabled": False,
        "methods": [],
        "backup_codes": {"total": 0, "remaining": 0, "generated_at": None},
    }
    assert not User.select().exists()


def test_stp_05_only_confirmed_methods_are_listed(alice: Person) -> None:
    alice.scan()
    alice.call("email.enable")
    alice.call("webauthn.begin")
    assert alice.methods() == []
    assert not alice.listed()["mfa_enabled"]


def test_all_methods_are_listed_with_the_keys_in_the_order_they_were_added(alice: Person, world: World) -> None:
    ids = []
    for _ in range(3):
        ids.append(alice.enrol_key(Authenticator())["device_id"])
        world.later(seconds=1)
    alice.enrol_email()
    alice.enrol_totp()
    assert alice.methods() == ["totp", "email", "webauthn", "webauthn", "webauthn"]
    assert [method["device_id"] for method in alice.listed()["methods"][2:]] == ids


def test_a_key_is_listed_with_what_is_known_of_it(alice: Person, world: World) -> None:
    aaguid = "ee882879-721c-4913-9775-3dfcce97072a"
    key = Authenticator(aaguid=bytes.fromhex(aaguid.replace("-", "")), transports=("usb", "nfc"), backup_eligible=True)
    answer = alice.enrol_key(key)
    [method] = alice.listed()["methods"]
    assert method == {
        "type": "webauthn",
        "device_id": answer["device_id"],
        "name": answer["name"],
        "created_at": "2026-03-01T12:00:00Z",
        "last_used_at": None,
        "aaguid": aaguid,
        "transports": ["usb", "nfc"],
        "backup_eligible": True,
        "backed_up": False,
    }
    assert answer["name"].startswith("YubiKey 5")


def test_bck_06_codes_are_counted_and_never_shown(user_with_totp: Person, world: World) -> None:
    codes = list(user_with_totp.backup_codes)
    world.later(hours=1)
    for remaining in (9, 8):
        user_with_totp.prove("backup_code")
        listed = user_with_totp.listed()
        assert listed["backup_codes"] == {
            "total": 10,
            "remaining": remaining,
            "generated_at": "2026-03-01T12:00:00Z",
        }
    assert not any(code in str(listed) for code in codes)


def test_the_last_use_of_each_method_is_told(user_with_everything: Person, world: World) -> None:
    for method in ("totp", "webauthn", "email"):
        world.later(hours=1)
        user_with_everything.prove(method)
    listed = {method["type"]: method["last_used_at"] for method in user_with_everything.listed()["methods"]}
    assert listed == {
        "totp": "2026-03-01T13:00:30Z",
        "webauthn": "2026-03-01T14:00:30Z",
        "email": "2026-03-01T15:01:30Z",
    }


def test_auz_01_nobody_is_told_of_another_users_methods(user_with_everything: Person, world: World) -> None:
    for stranger in (Person(world, "bob"), Person(world, "Alice"), Person(world, "alice", "tenant")):
        assert stranger.listed()["methods"] == []
