"""An assertion is worth what it says, to whom it says it, until it expires or a factor changes (STP-02)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import handlers.backup
import handlers.totp
import handlers.verification
import handlers.webauthn
from factors.errors import InvalidCode, StepUpRequired
from tests.attacks.victim import Victim, World
from tests.attacks.wire import Request

DEAD = {"active": False}


def enrolled(world: World, tenant: str = "") -> Victim:
    return world.victim(tenant=tenant).has_totp().has_email().has_backup_codes().has_key()


def adds_totp(victim: Victim) -> None:
    victim.begins_totp()
    assert victim.sends("totp/confirm", {"code": victim.code()}).status == 200


def adds_email(victim: Victim) -> None:
    victim.begins_email("135790")
    assert victim.sends("email/confirm", {"code": "135790"}).status == 200


def adds_a_key(victim: Victim) -> None:
    victim.authenticator.credentials.clear()
    opened = victim.calls(handlers.webauthn.begin)
    options = opened["options"] | {"excludeCredentials": []}
    answer = victim.authenticator.register(options, origin=victim.world.settings.origins[0])
    body = {name: str(opened[name]) for name in ("device_id", "challenge_id")} | {"credential": answer}
    assert victim.sends("webauthn/register/complete", body).status == 200


def removes_totp(victim: Victim) -> None:
    assert victim.sends("totp/disable", {"code": victim.code()}).status == 200


def removes_email(victim: Victim) -> None:
    assert victim.sends("email/disable", {"code": victim.code()}).status == 200


def removes_a_key(victim: Victim) -> None:
    assert victim.world.send(victim.deletes(victim.device_ids[0]))[0].status == 200


def regenerates(victim: Victim) -> None:
    assert victim.sends("backup-codes/regenerate", {"code": victim.code()}).status == 200


def removes_all_and_enrols_anew(victim: Victim) -> None:
    removes_email(victim)
    removes_a_key(victim)
    assert victim.sends("totp/disable", {"code": victim.backup_codes[0]}).status == 200
    adds_totp(victim)


def without_totp(world: World) -> Victim:
    return world.victim().has_email().has_backup_codes().has_key()


def without_email(world: World) -> Victim:
    return world.victim().has_totp().has_backup_codes().has_key()


CHANGES: dict[str, tuple[Callable[[World], Victim], Callable[[Victim], None]]] = {
    "a key was added": (enrolled, adds_a_key),
    "TOTP was added": (without_totp, adds_totp),
    "e-mail was added": (without_email, adds_email),
    "TOTP was removed": (enrolled, removes_totp),
    "e-mail was removed": (enrolled, removes_email),
    "a key was removed": (enrolled, removes_a_key),
    "codes were regenerated": (enrolled, regenerates),
    "everything was removed and TOTP is on anew": (enrolled, removes_all_and_enrols_anew),
}


@pytest.mark.parametrize("change", CHANGES)
def test_stp_02_an_assertion_dies_when_a_factor_changes(world: World, change: str) -> None:
    state, changes = CHANGES[change]
    victim = state(world)
    token = victim.assertion()
    assert world.introspect(token).json()["active"] is True
    changes(victim)
    assert world.introspect(token).json() == DEAD
    assert victim.sends("totp/disable", {"code": token}).code in ("invalid_code", "not_enabled")
    assert victim.sends("backup-codes/regenerate", {"code": token}).code == "invalid_code"
    demanded = world.settings.model_copy(update={"step_up": "required"})
    with pytest.raises(StepUpRequired):
        victim.calls(handlers.webauthn.begin, settings=demanded, mfa_assertion=token)


def test_stp_02_failures_and_beginnings_leave_an_assertion_alive(world: World) -> None:
    victim = world.victim().has_totp().has_backup_codes().has_key()
    token = victim.assertion()
    victim.sends("totp/disable", {"code": victim.wrong_code})
    assert victim.sends("email/enable").status == 200
    assert victim.sends("email/confirm", {"code": "000000"}).status in (200, 403)
    assert victim.sends("webauthn/register/begin").status == 200
    assert world.send(victim.deletes("00000000-0000-0000-0000-000000000000"))[0].status == 404
    assert world.send(victim.verifies(victim.challenge(), victim.code()))[0].status == 200
    assert world.introspect(token).json()["active"] is True
    assert victim.sends("totp/disable", {"code": token}).status == 200


def test_stp_02_an_assertion_lives_five_minutes(world: World) -> None:
    victim = enrolled(world)
    token = victim.assertion()
    made = datetime.fromtimestamp(jwt.decode(token, options={"verify_signature": False})["iat"], UTC)
    demanded = world.settings.model_copy(update={"step_up": "required"})
    backend = {"body": {"token": token}}
    in_time, too_late = made + timedelta(seconds=299), made + timedelta(minutes=5)
    assert victim.calls(handlers.verification.introspect, now=in_time, **backend)["active"] is True
    assert victim.calls(handlers.verification.introspect, now=too_late, **backend) == DEAD
    with pytest.raises(InvalidCode):
        victim.calls(handlers.totp.disable, now=too_late, body={"code": token})
    with pytest.raises(StepUpRequired):
        victim.calls(handlers.webauthn.begin, now=too_late, settings=demanded, mfa_assertion=token)
    victim.calls(handlers.webauthn.begin, now=in_time, settings=demanded, mfa_assertion=token)
    victim.calls(handlers.totp.disable, now=in_time, body={"code": token})


Forge = Callable[[Victim, dict[str, Any], dict[str, Any]], str]


def part(value: object) -> str:
    return (
        base64.urlsafe_b64encode(value if isinstance(value, bytes) else json.dumps(value).encode())
        .rstrip(b"=")
        .decode()
    )


def signed(victim: Victim, head: dict[str, Any], claims: dict[str, Any]) -> str:
    """Really signed by the server's own key."""
    return jwt.encode(claims, victim.world.signing_keys[0].private, "ES256", headers=head)


def with_head(**changes: Any) -> Forge:
    return lambda victim, head, claims: signed(victim, head | changes, claims)


def with_claims(**changes: Any) -> Forge:
    return lambda victim, head, claims: signed(victim, head, claims | changes)


def with_another_key(victim: Victim, head: dict[str, Any], claims: dict[str, Any]) -> str:
    return jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), "ES256", headers=head)


def with_the_access_tokens_key(victim: Victim, head: dict[str, Any], claims: dict[str, Any]) -> str:
    pem = (victim.world.server.data / "jwt-key.pem").read_bytes()
    return jwt.encode(claims, pem, "ES256", headers=head)


def without_signature(algorithm: str) -> Forge:
    return lambda victim, head, claims: f"{part(head | {'alg': algorithm})}.{part(claims)}.{part(b'0')}"


def with_the_public_key_as_secret(encoding: str) -> Forge:
    """RFC 8725 section 2.1: what everybody can read in the JWKS, taken for the secret of an HMAC."""

    def forge(victim: Victim, head: dict[str, Any], claims: dict[str, Any]) -> str:
        public = victim.world.signing_keys[0].private.public_key()
        jwk = victim.world.signing_keys[0].public_jwk()
        secret = {
            "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            "jwk": json.dumps(jwk).encode(),
            "x": jwk["x"].encode(),
        }[encoding]
        message = f"{part(head | {'alg': 'HS256'})}.{part(claims)}"
        return f"{message}.{part(hmac.new(secret, message.encode(), hashlib.sha256).digest())}"

    return forge


def with_its_own_key_in_the_head(victim: Victim, head: dict[str, Any], claims: dict[str, Any]) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    return jwt.encode(claims, key, "ES256", headers=head | {"jwk": jwk})


def with_changed_claims(victim: Victim, head: dict[str, Any], claims: dict[str, Any]) -> str:
    first, _, last = signed(victim, head, claims | {"acr": "mfa"}).split(".")
    return f"{first}.{part(claims)}.{last}"


def of_another(tenant: str, same_sub: bool) -> Forge:
    def forge(victim: Victim, head: dict[str, Any], claims: dict[str, Any]) -> str:
        sub = victim.caller.sub if same_sub else None
        other = victim.world.victim(sub, tenant).has_backup_codes().has_key()
        return other.assertion()

    return forge


FORGED: dict[str, Forge] = {
    "no assertion at all": lambda *_: "a.b.c",
    "signed by another key": with_another_key,
    "signed by the access tokens' key": with_the_access_tokens_key,
    "signed by a key in its head": with_its_own_key_in_the_head,
    "with changed claims": with_changed_claims,
    "alg none": without_signature("none"),
    "alg NONE": without_signature("NONE"),
    "alg empty": without_signature(""),
    **{
        f"HS256 by the public key as {name}": with_the_public_key_as_secret(name) for name in ("pem", "der", "jwk", "x")
    },
    "of another user": of_another("", same_sub=False),
    "of the same sub in another tenant": of_another("another", same_sub=True),
    "typ JWT": with_head(typ="JWT"),
    "typ at+jwt": with_head(typ="at+jwt"),
    "unknown kid": with_head(kid="somebody's"),
    "aud of another": with_claims(aud="another-app"),
    "no aud": with_claims(aud=None),
    "iss of another": with_claims(iss="http://localhost:1"),
    "iss and a slash": lambda victim, head, claims: signed(victim, head, claims | {"iss": claims["iss"] + "/"}),
    "expired": with_claims(exp=1_700_000_000),
    "an older epoch": with_claims(epoch=0),
    "an epoch to come": with_claims(epoch=99),
    "sub of another": with_claims(sub="somebody-else"),
}


@pytest.mark.parametrize("forged", FORGED)
def test_stp_02_an_assertion_that_is_not_the_servers_for_this_user_proves_nothing(world: World, forged: str) -> None:
    victim = enrolled(world)
    right = victim.assertion()
    head = jwt.get_unverified_header(right)
    claims = jwt.decode(right, options={"verify_signature": False})
    token = FORGED[forged](victim, head, claims)

    refused = victim.sends("totp/disable", {"code": token})
    wrong = victim.sends("totp/disable", {"code": victim.wrong_code})
    assert (refused.status, refused.code) == (403, "invalid_code")
    assert refused.bare() == wrong.bare()
    assert victim.sends("email/disable", {"code": token}).bare() == wrong.bare()
    assert victim.sends("backup-codes/regenerate", {"code": token}).bare() == wrong.bare()
    # A string that was not made here cannot be guessed, and costs no attempt; the wrong code did.
    assert victim.row.failures == 1

    if not forged.startswith(("of another", "of the same")):
        assert world.introspect(token).json() == DEAD
    # And the right one was right all along.
    assert victim.sends("totp/disable", {"code": right}).status == 200


def test_auz_02_a_header_that_is_no_live_assertion_is_refused_with_the_bytes_of_none(strict_world: World) -> None:
    victim = enrolled(strict_world)
    right, dead = victim.assertion(), victim.assertion()
    head = jwt.get_unverified_header(right)
    claims = jwt.decode(right, options={"verify_signature": False})
    without = victim.sends("webauthn/register/begin")
    assert (without.status, without.code) == (401, "step_up_required")
    tokens = {name: forge(victim, head, claims) for name, forge in FORGED.items()}
    answers = {name: victim.sends("webauthn/register/begin", MFA_Assertion=token) for name, token in tokens.items()}
    assert {name: answer.bare() for name, answer in answers.items()} == dict.fromkeys(answers, without.bare())
    assert victim.sends("webauthn/register/begin", MFA_Assertion=right).status == 200
    assert strict_world.send(victim.deletes(victim.device_ids[0], MFA_Assertion=right))[0].status == 200
    assert victim.sends("webauthn/register/begin", MFA_Assertion=dead).bare() == without.bare()


def test_introspection_of_another_tenants_assertion_is_that_of_a_dead_one(world: World) -> None:
    victim = enrolled(world, tenant="one")
    token = victim.assertion()
    own, foreign, forged = (
        world.introspect(token, tenant="one"),
        world.introspect(token, tenant="two"),
        world.introspect("a.b.c", tenant="two"),
    )
    assert own.json()["active"] is True
    assert foreign.bare() == forged.bare()
    assert foreign.json() == DEAD
    assert world.introspect(victim.token, tenant="one").json() == DEAD


def test_introspection_is_for_its_scope(world: World) -> None:
    victim = enrolled(world)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for token in (victim.token, world.service("mfa:verify"), world.service("xmfa:introspect mfa:introspection")):
        refused = world.send(Request("POST", "/api/v1/mfa/introspect", token, b"token=a.b.c", form))[0]
        assert (refused.status, refused.code) == (403, "insufficient_scope")


def test_an_assertion_is_no_access_token(world: World) -> None:
    victim = enrolled(world)
    assert world.send(Request("GET", "/api/v1/me/mfa", victim.assertion()))[0].code == "invalid_token"


def test_stp_02_an_assertion_by_backup_code_makes_no_new_backup_codes(world: World) -> None:
    victim = enrolled(world)
    body = {"challenge_id": victim.challenge(), "code": victim.backup_codes[0]}
    token = victim.sends("verify", body).json()["assertion"]
    with pytest.raises(InvalidCode):
        victim.calls(handlers.backup.regenerate, body={"code": token})
    refused = victim.sends("backup-codes/regenerate", {"code": token})
    assert refused.bare() == victim.sends("backup-codes/regenerate", {"code": victim.wrong_code}).bare()
