"""What belongs to somebody else is as good as unknown: the same bytes, whoever's it is (AUZ-01, PRV-01, PRV-02)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import handlers.webauthn
from tests.attacks.victim import Victim, World, totp
from tests.attacks.wire import Answer, Request

LONG_AGO = timedelta(minutes=11)
WRONG_BACKUP_CODE = "0000-0000-0000-0000"


def unknown() -> str:
    return str(uuid.uuid4())


def same_bytes(answers: dict[str, Answer], status: int, code: str) -> None:
    """That all answers are one and the same, and nothing of the victims' is spent."""
    assert {name: (answer.status, answer.code) for name, answer in answers.items()} == dict.fromkeys(
        answers, (status, code)
    )
    first = next(iter(answers.values()))
    assert {name: answer.bare() for name, answer in answers.items()} == dict.fromkeys(answers, first.bare())


@pytest.fixture
def attacker(world: World) -> Victim:
    return world.victim().has_totp().has_backup_codes("attacker").has_key()


@pytest.fixture(params=["another user", "the same sub in another tenant"])
def stranger(request: pytest.FixtureRequest, world: World, attacker: Victim) -> Victim:
    """Someone with the same kinds of factors, whom the attacker knows everything about but the token."""
    namesake = request.param == "the same sub in another tenant"
    sub, tenant = (attacker.caller.sub, "another") if namesake else (None, "")
    return world.victim(sub, tenant).has_totp().has_backup_codes("stranger").has_key()


def codes(attacker: Victim, stranger: Victim) -> Iterator[tuple[str, str]]:
    """Codes that are none of the attacker's own, or no longer."""
    long_ago = datetime.now(UTC) - LONG_AGO
    yield "wrong", attacker.wrong_code
    yield "expired", totp(attacker.secret, long_ago)
    yield "to come", totp(attacker.secret, datetime.now(UTC) + LONG_AGO)
    yield "foreign", stranger.code()
    yield "foreign backup code", stranger.backup_codes[0]
    yield "unknown backup code", WRONG_BACKUP_CODE
    for name, code in (("replayed", attacker.code()), ("used backup code", attacker.backup_codes[0])):
        assert attacker.world.send(attacker.verifies(attacker.challenge(), code))[0].status == 200
        yield name, code


def test_prv_01_wrong_expired_replayed_and_foreign_codes_are_refused_with_the_same_bytes(
    attacker: Victim, stranger: Victim
) -> None:
    challenge_id = stranger.challenge()
    answers = {}
    for name, code in codes(attacker, stranger):
        requests = {
            "totp/disable": attacker.posts("totp/disable", {"code": code}),
            "verify": attacker.verifies(attacker.challenge(), code),
        }
        if len(code) == 6:
            requests["regenerate"] = attacker.posts("backup-codes/regenerate", {"code": code})
        for operation, request in requests.items():
            attacker.clears()
            answers[f"{name} to {operation}"] = attacker.world.send(request)[0]
    same_bytes(answers, 403, "invalid_code")
    # All of the stranger's still works.
    assert stranger.world.send(stranger.verifies(challenge_id, stranger.code()))[0].status == 200
    assert stranger.world.send(stranger.verifies(stranger.challenge(), stranger.backup_codes[0]))[0].status == 200


def test_prv_01_mailed_codes_that_are_not_the_callers_are_refused_with_the_same_bytes(world: World) -> None:
    attacker, stranger = (world.victim().has_email().has_backup_codes() for _ in range(2))
    stranger.challenge("email", "246802")
    replaced = attacker.challenge("email", "135790")
    used = attacker.challenge("email", "975310")
    assert world.send(attacker.verifies(used, "975310"))[0].status == 200
    open_id = attacker.challenge("email", "864208")
    answers = {}
    for name, code in {"wrong": "111111", "foreign": "246802", "replaced": "135790", "used": "975310"}.items():
        attacker.clears()
        answers[f"{name} to verify"] = world.send(attacker.verifies(open_id, code))[0]
        answers[f"{name} to disable"] = attacker.sends("email/disable", {"code": code})
        answers[f"{name} to regenerate"] = attacker.sends("backup-codes/regenerate", {"code": code})
    same_bytes(answers, 403, "invalid_code")
    assert world.send(attacker.verifies(replaced, "135790"))[0].code == "challenge_not_found"
    pending, other = world.victim().begins_email("135790"), world.victim().begins_email("246802")
    wrong = {name: pending.sends("email/confirm", {"code": code}) for name, code in [("a", "246802"), ("b", "111111")]}
    same_bytes(wrong | {"to verify": answers["wrong to verify"]}, 403, "invalid_code")
    assert other.sends("email/confirm", {"code": "246802"}).status == 200


def test_auz_01_challenges_that_are_not_the_callers_are_as_good_as_unknown(
    world: World, attacker: Victim, stranger: Victim
) -> None:
    long_ago = datetime.now(UTC) - LONG_AGO
    foreign, mine = stranger.challenge(), attacker.challenge()
    backend = Request("POST", f"/api/v1/users/{attacker.caller.sub}/mfa/challenge", world.service("mfa:verify"), {})
    assert world.send(attacker.verifies(mine, attacker.code()))[0].status == 200
    ids = {
        "unknown": unknown(),
        "foreign": foreign,
        "used": mine,
        "expired": attacker.challenge(at=long_ago),
        "of a backend": world.send(backend)[0].json()["challenge_id"],
        "of a registration": str(attacker.calls(handlers.webauthn.begin)["challenge_id"]),
    }
    right = attacker.code(1)
    answers = {name: world.send(attacker.verifies(challenge_id, right))[0] for name, challenge_id in ids.items()}
    of_session = world.victim(attacker.caller.sub, sid="another session")
    answers["of another session"] = world.send(of_session.verifies(attacker.challenge(), right))[0]
    answers["foreign code and all"] = world.send(attacker.verifies(foreign, stranger.code()))[0]
    same_bytes(answers, 404, "challenge_not_found")
    assert world.send(stranger.verifies(foreign, stranger.code()))[0].status == 200
    assert attacker.row.failures == 0


def test_auz_01_devices_that_are_not_the_callers_are_as_good_as_unknown(
    world: World, attacker: Victim, stranger: Victim
) -> None:
    gone, epoch = attacker.device_ids[0], attacker.row.epoch
    assert world.send(attacker.deletes(gone))[0].status == 200
    totp_device = attacker.methods.totp
    assert totp_device is not None
    ids = {
        "unknown": unknown(),
        "foreign": stranger.device_ids[0],
        "gone": gone,
        "an authenticator app": str(totp_device.device_id),
        "a registration's": str(attacker.calls(handlers.webauthn.begin)["device_id"]),
    }
    answers = {name: world.send(attacker.deletes(device_id))[0] for name, device_id in ids.items()}
    same_bytes(answers, 404, "device_not_found")
    assert len(stranger.methods.credentials) == 1
    assert attacker.row.epoch == epoch + 1  # One key was removed.


def test_auz_01_registrations_that_are_not_the_callers_are_as_good_as_unknown(
    world: World, attacker: Victim, stranger: Victim
) -> None:
    foreign, mine, old = begun(stranger), begun(attacker), begun(attacker, datetime.now(UTC) - LONG_AGO)
    answer = registered(stranger, foreign)
    given = {
        "unknown": {"device_id": unknown(), "challenge_id": unknown()},
        "foreign": ids(foreign),
        "expired": ids(old),
        "with another device": ids(mine) | {"device_id": unknown()},
        "with a device that is there": ids(mine) | {"device_id": attacker.device_ids[0]},
        "with a foreign device": ids(mine) | {"device_id": str(foreign["device_id"])},
    }
    answers = {
        name: attacker.sends("webauthn/register/complete", {**body, "credential": answer})
        for name, body in given.items()
    }
    same_bytes(answers, 404, "challenge_not_found")
    completed = stranger.sends("webauthn/register/complete", {**ids(foreign), "credential": answer})
    assert completed.status == 200


def test_waa_07_prv_01_answers_by_key_that_are_not_right_are_refused_with_the_same_bytes(
    world: World, attacker: Victim, stranger: Victim
) -> None:
    def answers_to(name: str, challenge_id: str, options: dict[str, Any]) -> dict[str, Any]:
        allowed = stranger.key_challenge()[1]["allowCredentials"]
        match name:
            case "wrong signature":
                return attacker.key_answer(
                    options, signature=lambda signature: signature[:-1] + bytes([signature[-1] ^ 1])
                )
            case "wrong origin":
                return attacker.key_answer(options, client_data={"origin": "https://example.org"})
            case "wrong challenge":
                return attacker.key_answer(options | {"challenge": attacker.key_challenge()[1]["challenge"]})
            case "foreign user handle":
                return attacker.key_answer(options, response={"userHandle": "AAAA"})
            case "unknown credential":
                return attacker.key_answer(options, credential={"id": "AAAA", "rawId": "AAAA"})
            case "foreign credential":
                return stranger.key_answer(options | {"allowCredentials": allowed})
            case "foreign credential with the caller's handle":
                handle = {"userHandle": attacker.key_answer(options)["response"]["userHandle"]}
                return stranger.key_answer(options | {"allowCredentials": allowed}, response=handle)
            case "count that goes back":
                return attacker.key_answer(options, sign_count=0)
        raise ValueError(name)

    names = ["wrong signature", "wrong origin", "wrong challenge", "foreign user handle", "unknown credential"]
    names += ["foreign credential", "foreign credential with the caller's handle", "count that goes back"]
    challenge_id, options = attacker.key_challenge()
    assert world.send(attacker.verifies(challenge_id, attacker.key_answer(options)))[0].status == 200
    answers = {}
    for name in names:
        challenge_id, options = attacker.key_challenge()
        answer = answers_to(name, challenge_id, options)
        answers[name] = world.send(attacker.verifies(challenge_id, answer))[0]
    challenge_id, options = attacker.key_challenge()
    not_asked = attacker.challenge("totp")
    answers["not asked for"] = world.send(attacker.verifies(not_asked, attacker.key_answer(options)))[0]
    same_bytes(answers, 403, "invalid_credential")


def test_prv_02_a_credential_of_another_user_is_refused_like_a_broken_one(
    world: World, attacker: Victim, stranger: Victim
) -> None:
    taken = stranger.authenticator.credentials[0].id
    answers = {}
    wrong: dict[str, dict[str, Any]] = {
        "of another user": {"credential_id": taken},
        "broken": {"rp_id": "example.org"},
        "of another origin": {"client_data": {"origin": "https://example.org"}},
    }
    for name, deviations in wrong.items():
        opened = begun(attacker)
        body = {**ids(opened), "credential": registered(attacker, opened, **deviations)}
        answers[name] = attacker.sends("webauthn/register/complete", body)
    same_bytes(answers, 403, "invalid_credential")
    opened = begun(attacker)
    own = registered(attacker, opened, credential_id=attacker.authenticator.credentials[0].id)
    assert attacker.sends("webauthn/register/complete", {**ids(opened), "credential": own}).code == "credential_exists"


def test_tok_05_one_sub_in_two_tenants_is_two_users(world: World) -> None:
    sub = f"namesake-{uuid.uuid4().hex}"
    here = world.victim(sub).has_totp().has_backup_codes()
    there = world.victim(sub, tenant="another")
    listed = [world.send(Request("GET", "/api/v1/me/mfa", who.token))[0].json()["mfa_enabled"] for who in (here, there)]
    assert listed == [True, False]
    assert there.sends("totp/disable", {"code": here.code()}).code == "not_enabled"
    backend = world.service("mfa:verify", "another")
    asked = world.send(Request("POST", f"/api/v1/users/{sub}/mfa/challenge", backend, {}))[0]
    assert asked.code == "not_enabled"


@pytest.mark.parametrize("sub", ["1:a", "a\x01b", "\u00e9", "e\u0301", " a", "a ", "A", "a"])
def test_tok_05_subs_are_compared_byte_for_byte(world: World, sub: str) -> None:
    """Names that a careless comparison, or a careless joining with the tenant, takes for one another."""
    names = [(sub, ""), (sub, "a"), ("a:" + sub, ""), (sub.swapcase() + "-", ""), (f"{sub}\u200b", "")]
    users = [world.victim(f"{name}-{uuid.uuid5(uuid.NAMESPACE_OID, sub)}", tenant) for name, tenant in names]
    assert len({user.caller.id for user in users}) == len(users)
    users[0].has_totp().has_backup_codes()
    enabled = [world.send(Request("GET", "/api/v1/me/mfa", user.token))[0].json()["mfa_enabled"] for user in users]
    assert enabled == [True] + [False] * (len(users) - 1)


def test_a_backend_of_another_tenant_reaches_no_user_of_this_one(world: World) -> None:
    victim = world.victim(tenant="one").has_totp().has_backup_codes()
    path = f"/api/v1/users/{victim.caller.sub}/mfa"
    own, foreign = world.service("mfa:verify", "one"), world.service("mfa:verify", "two")
    opened = world.send(Request("POST", f"{path}/challenge", own, {}))[0].json()["challenge_id"]
    body = {"challenge_id": opened, "code": victim.code()}
    nobody = Request("POST", f"/api/v1/users/{unknown()}/mfa/verify", own, body)
    refused = world.send(Request("POST", f"{path}/verify", foreign, body), nobody)
    same_bytes(dict(zip(("another tenant's", "nobody's"), refused, strict=True)), 404, "challenge_not_found")
    assert world.send(Request("POST", f"{path}/verify", own, body))[0].status == 200


def test_stp_07_a_users_token_verifies_nobody_by_path(world: World, attacker: Victim) -> None:
    for sub in (attacker.caller.sub, "somebody-else"):
        for operation in ("challenge", "verify"):
            body = {} if operation == "challenge" else {"challenge_id": unknown(), "code": "135790"}
            refused = world.send(Request("POST", f"/api/v1/users/{sub}/mfa/{operation}", attacker.token, body))[0]
            assert (refused.status, refused.code) == (403, "insufficient_scope")


def begun(victim: Victim, now: datetime | None = None) -> dict[str, Any]:
    opened: dict[str, Any] = victim.calls(handlers.webauthn.begin, now=now)
    return opened


def ids(opened: dict[str, Any]) -> dict[str, str]:
    return {name: str(opened[name]) for name in ("device_id", "challenge_id")}


def registered(victim: Victim, opened: dict[str, Any], **deviations: Any) -> dict[str, Any]:
    options = opened["options"] | {"excludeCredentials": []}
    return victim.authenticator.register(options, origin=victim.world.settings.origins[0], **deviations)
