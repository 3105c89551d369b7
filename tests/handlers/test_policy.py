"""The policy as a table: every set of methods, every change, every proof there is, with step-up off and required.

`accepts` says what the contract says (section 3, "What `code` accepts", and section 5). One test holds the handlers to
it, all of it; the others ask of the table what a user asks: can I always get out, and can nobody else get in?
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations, count

import pytest

from factors.errors import InvalidCode, Refusal, StepUpRequired, TotpRequired
from storage.backup import BackupCodeSet
from storage.database import atomic
from storage.user import User
from tests.authenticator import Authenticator
from tests.states import Person, World

METHODS = ("totp", "email", "webauthn")
SETS = [frozenset(some) for some in chain.from_iterable(combinations(METHODS, size) for size in range(4))]
POLICIES = ("off", "required")

TOKEN = "the access token alone"
CODES = {"totp": "a TOTP code", "email": "a mailed code", "backup_code": "a backup code"}
ASSERTIONS = {method: f"an assertion by {method}" for method in (*METHODS, "backup_code")}

# A change: what is done, and to which method.
Change = tuple[str, str]
REGENERATE: Change = ("regenerate", "backup codes")


def changes(on: frozenset[str]) -> list[Change]:
    """Every change that is there to make; a further key can always be added."""
    add = [("add", method) for method in METHODS if method not in on or method == "webauthn"]
    return [*add, *(("remove", method) for method in METHODS if method in on), *([REGENERATE] if on else [])]


def proofs(shows: frozenset[str]) -> list[str]:
    """What somebody can put forward who has a token and can show these methods."""
    return [TOKEN, *(CODES[method] for method in shows & CODES.keys()), *(ASSERTIONS[method] for method in shows)]


def accepts(change: Change, on: frozenset[str], policy: str) -> set[str]:
    """The proofs that the contract accepts for a change."""
    kind, method = change
    strong = bool(on & {"totp", "webauthn"})
    by = {"totp", "webauthn", "backup_code"} | ({"email"} if method == "email" or not strong else set())
    if kind == "add" or change == ("remove", "webauthn"):
        # No code of its own: the header's assertion, where the policy asks for one. A first method needs a fresh login.
        if policy == "off" or not on:
            return {TOKEN, *CODES.values(), *ASSERTIONS.values()}
        return {ASSERTIONS[method] for method in by}
    if change == REGENERATE:
        too_weak = "webauthn" in on and policy == "required"
        codes = {"totp"} if "totp" in on else set() if too_weak else {"email"}
        return {CODES[method] for method in codes} | {ASSERTIONS[method] for method in by - {"backup_code"}}
    codes = {"backup_code"} if method == "totp" or "totp" not in on else set()
    codes |= {"totp"} if "totp" in on else {"email"}
    return {CODES[method] for method in codes} | {ASSERTIONS[method] for method in by}


# The handlers keep to the table.


def people(world: World, on: frozenset[str]) -> Iterator[Person]:
    """One user after the other who has these methods, and a fresh login."""
    for number in count():
        person = Person(world, f"user {number}", auth_time=world.now)
        for method, enrol in (
            ("totp", person.enrol_totp),
            ("email", person.enrol_email),
            ("webauthn", person.enrol_key),
        ):
            if method in on:
                enrol()
        yield person


def shown(person: Person, proof: str) -> str | None:
    """What is put forward. Nothing before it is in the way: no mail too many, no wrong code too many."""
    if proof == TOKEN:
        return None
    with atomic():
        User.clear_attempts(person.caller)
    method = next((name for name in (*METHODS, "backup_code") if proof == ASSERTIONS[name]), None)
    if method == "email" or proof == CODES["email"]:
        person.world.later(hours=1)
    if method is not None:
        return person.prove(method)
    if proof == CODES["totp"]:
        return person.next_code()
    if proof == CODES["backup_code"]:
        return person.backup_codes[0]
    person.challenge("email")
    return person.mailed_code()


def make(person: Person, change: Change, proof: str) -> None:
    """Make a change with a proof. What the contract's patterns refuse before a handler sees it counts as refused."""
    person.claims["auth_time"] = person.world.now
    token = shown(person, proof)
    assertion = token if proof in ASSERTIONS.values() else None
    match change:
        case ("add", "totp"):
            person.enrol_totp(assertion)
        case ("add", "email"):
            person.enrol_email(assertion)
        case ("add", _):
            person.enrol_key(Authenticator(), assertion)
        case ("remove", "webauthn"):
            person.call("webauthn.remove", device_id=person.device_id("webauthn"), assertion=assertion)
        case ("regenerate", _):
            person.call("backup.regenerate", code=token)
        case (_, method):
            person.call(f"{method}.disable", code=token)


def factors_of(person: Person) -> tuple[set[str], bytes | None]:
    """The devices that are on, and the salt of the set of backup codes."""
    codes = BackupCodeSet.of(person.caller)
    return {method["device_id"] for method in person.listed()["methods"]}, bytes(codes.salt) if codes else None


def fits(change: Change, proof: str) -> bool:
    """Whether a request can put this proof forward at all: a code needs a member of the body, a token alone none."""
    takes_code = change == REGENERATE or (change[0] == "remove" and change[1] != "webauthn")
    if not takes_code:
        return proof not in CODES.values()
    return proof != TOKEN and not (change == REGENERATE and proof == CODES["backup_code"])


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("on", SETS, ids=lambda on: " and ".join(sorted(on)) or "nothing")
def test_auz_02_to_05_every_change_takes_the_proofs_of_the_contract_and_no_others(
    world: World, on: frozenset[str], policy: str
) -> None:
    world.set(step_up="off")
    crowd = people(world, on)
    person = next(crowd)
    for change in changes(on):
        expected = accepts(change, on, policy)
        for proof in proofs(on | {"backup_code"} if on else on):
            if not fits(change, proof):
                continue
            world.set(step_up=policy)
            before = factors_of(person)
            if proof in expected:
                make(person, change, proof)
                assert factors_of(person) != before, (change, proof)
                world.set(step_up="off")
                person = next(crowd)
            else:
                with pytest.raises((InvalidCode, StepUpRequired, TotpRequired)):
                    make(person, change, proof)
                assert factors_of(person) == before, (change, proof)


# What the table means.


def can(change: Change, on: frozenset[str], policy: str, shows: frozenset[str]) -> bool:
    """Whether somebody with a token who can show these methods can make a change."""
    return any(fits(change, proof) and proof in accepts(change, on, policy) for proof in proofs(shows))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("codes", [{"backup_code"}, set()], ids=["codes left", "codes spent"])
def test_nobody_who_has_their_factors_is_ever_stuck(policy: str, codes: set[str]) -> None:
    for on in SETS:
        assert [change for change in changes(on) if not can(change, on, policy, on | codes)] == []


@pytest.mark.parametrize("policy", POLICIES)
def test_nobody_who_has_a_backup_code_is_stuck_whatever_else_they_lost(policy: str) -> None:
    """Every method can be removed and every method added. New codes come with a method that is set up anew."""
    for on in SETS:
        if not on:
            continue
        for kept in SETS:
            if kept <= on:
                possible = {change for change in changes(on) if can(change, on, policy, kept | {"backup_code"})}
                # With TOTP on, a mailbox goes by an assertion, which a backup code is worth too.
                assert possible | {REGENERATE} == {*changes(on), REGENERATE}


def test_auz_02_a_stolen_token_alone_changes_nothing_once_there_is_a_method() -> None:
    for on in SETS:
        assert [change for change in changes(on) if on and can(change, on, "required", frozenset())] == []


def test_auz_04_token_and_mailbox_change_nothing_but_the_mailbox_beside_something_stronger() -> None:
    """Nor do they make backup codes, which could."""
    for on in SETS:
        if on & {"totp", "webauthn"}:
            possible = [change for change in changes(on) if can(change, on, "required", on & {"email"})]
            assert [change for change in possible if change[1] != "email"] == []


def test_bck_05_backup_codes_alone_make_no_backup_codes() -> None:
    for on in SETS:
        assert not can(REGENERATE, on, "required", frozenset({"backup_code"}))


@pytest.mark.parametrize("policy", POLICIES)
def test_what_the_document_asks_a_code_for_never_goes_by_a_token_alone(policy: str) -> None:
    for on in SETS:
        for change in (("remove", "totp"), ("remove", "email"), REGENERATE):
            assert not can(change, on, policy, frozenset())


def test_auz_04_a_mailed_code_makes_no_codes_that_could_remove_a_key(alice: Person, world: World) -> None:
    """Mailbox, new backup codes, key: no way leads from the first to the last."""
    alice.enrol_key()
    alice.enrol_email()
    world.set(step_up="required")
    world.later(minutes=2)
    alice.challenge("email")
    with pytest.raises(Refusal) as caught:
        alice.call("backup.regenerate", code=alice.mailed_code())
    assert caught.value.code == "totp_required"
    assert alice.listed()["backup_codes"]["remaining"] == 10
