"""An older backup comes back: what was used since it was made stays used (REL-06). On both databases, as documented."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from factors.errors import ChallengeNotFound, InvalidCode, NoPendingEnrolment
from storage import restoration
from storage.audit import AuditEvent
from storage.challenge import Challenge
from storage.database import atomic, connection, database, is_sqlite
from storage.email import EmailFactor
from storage.outbox import OutboxMail
from storage.restoration import BATCH, EVERYONE
from storage.totp import TotpSecret
from storage.user import Caller, User
from storage.webauthn import WebAuthnRegistration
from tests.authenticator import Authenticator
from tests.authenticator_app import step_at
from tests.databases import Operated, key
from tests.states import Person, World


@pytest.fixture
def world(operated: Operated) -> World:
    return operated.world()


@pytest.fixture
def alice(world: World) -> Person:
    """A user with an authenticator app and backup codes."""
    alice = Person(world, "alice")
    alice.enrol_totp()
    return alice


def verified(person: Person, code: str) -> bool:
    try:
        return bool(person.verify(person.challenge(), code=code)["verified"])
    except InvalidCode:
        return False


def test_rel_06_a_totp_code_that_was_used_after_the_backup_stays_used(
    operated: Operated, world: World, alice: Person
) -> None:
    backup = operated.databases.back_up(operated.url)
    world.now = datetime.now(UTC)
    used = alice.code()
    assert verified(alice, used)
    assert not verified(alice, used)

    operated.use(operated.databases.restore(backup))
    assert verified(alice, used), "the backup does not know"

    operated.use(operated.databases.restore(backup))
    first = step_at(datetime.now(UTC)) + 1
    operated.done("after-restore", "--yes")
    shut = TotpSecret.get().last_step
    assert first <= shut <= step_at(datetime.now(UTC)) + 1
    assert not verified(alice, used)
    for step in range(step_at(world.now) - 1, shut + 1):
        world.now = datetime.fromtimestamp(step * 30, UTC)
        assert not verified(alice, alice.code())
        User.update(failures=0, locked_until=None).execute()
    world.now = datetime.fromtimestamp((shut + 1) * 30, UTC)
    assert verified(alice, alice.code())


def test_rel_06_backup_codes_that_were_used_or_replaced_after_the_backup_do_not_come_back(
    operated: Operated, world: World, alice: Person
) -> None:
    backup = operated.databases.back_up(operated.url)
    stolen = alice.backup_codes[:]
    assert verified(alice, stolen[0])
    alice.call("backup.regenerate", code=alice.next_code())
    assert not verified(alice, stolen[1])

    operated.use(operated.databases.restore(backup))
    assert operated.invoke("after-restore", "--yes", "--backup-codes", "keep").exit_code == 0
    assert verified(alice, stolen[0])
    assert alice.listed()["backup_codes"]["remaining"] == 9

    operated.use(operated.databases.restore(backup))
    assert operated.invoke("after-restore", "--yes").exit_code == 0
    assert not verified(alice, stolen[0])
    assert not verified(alice, stolen[1])
    assert alice.listed()["backup_codes"]["remaining"] == 0
    assert ("backup_codes.spent", "restored") in alice.events()
    # Nobody is stuck: whoever has codes has a method, which makes new ones.
    world.now = datetime.now(UTC) + timedelta(minutes=2)
    User.update(failures=0, locked_until=None).execute()
    codes = alice.call("backup.regenerate", code=alice.code())["backup_codes"]
    assert verified(alice, codes[0])


def test_rel_06_assertions_of_the_lost_time_are_dead(operated: Operated, world: World, alice: Person) -> None:
    """Also one whose epoch the restored database would come to again with the next change."""
    service = Person(world, "service")
    backup = operated.databases.back_up(operated.url)
    same_epoch = alice.prove("totp")
    alice.enrol_key()
    next_epoch = alice.prove("webauthn")
    operated.use(operated.databases.restore(backup))
    assert service.call("verification.introspect", token=same_epoch)["active"]
    assert operated.invoke("after-restore", "--yes").exit_code == 0
    for assertion in (same_epoch, next_epoch):
        assert service.call("verification.introspect", token=assertion) == {"active": False}
    with atomic():
        User.change_factors(alice.caller)
    assert service.call("verification.introspect", token=next_epoch) == {"active": False}


def test_rel_06_what_was_open_is_closed_and_what_was_on_stays_on(
    operated: Operated, world: World, alice: Person
) -> None:
    alice.enrol_email()
    alice.enrol_key()
    begun = alice.call("webauthn.begin")
    opened = alice.challenge("totp")
    bob = Person(world, "bob")
    bob.scan()
    bob.call("email.enable")
    backup = operated.databases.back_up(operated.url)
    operated.use(operated.databases.restore(backup))
    shown = operated.done("after-restore", "--yes")
    assert shown.startswith("2 users: 1 authenticator apps moved on, 10 backup codes made invalid, ")
    assert not any(table.select().count() for table in (Challenge, WebAuthnRegistration, OutboxMail))
    assert alice.methods() == ["totp", "email", "webauthn"]
    with pytest.raises(ChallengeNotFound):
        alice.verify(opened, code=alice.code())
    with pytest.raises(ChallengeNotFound):
        alice.complete(begun, Authenticator())
    with pytest.raises(NoPendingEnrolment):
        bob.call("totp.confirm", code=bob.code())
    with pytest.raises(NoPendingEnrolment):
        bob.call("email.confirm", code="123456")
    event = AuditEvent.get(AuditEvent.user_id == EVERYONE)
    assert (event.type, event.operation) == ("database.restored", "mfa-server after-restore")
    assert bool(event.address)
    assert alice.prove("webauthn")


@pytest.mark.usefixtures("operated")
def test_it_goes_through_every_user_in_batches_and_may_be_run_again() -> None:
    now = datetime.now(UTC)
    with atomic():
        for number in range(BATCH + 5):
            caller = Caller.of(f"user-{number}")
            User.ensure(caller, now)
            TotpSecret.begin(caller, b"secret", now).activate(1, now)
    ahead = Caller.of("user-0")
    step = step_at(now) + 1
    TotpSecret.update(last_step=step + 100).where(TotpSecret.user == ahead.id).execute()
    for _ in range(2):
        shares = [batch.share for batch in restoration.shut(ahead, now, step, backup_codes=True)]
        assert len(shares) == 3  # Two pages of users, and what has none.
        assert shares == sorted(shares)
        assert TotpSecret.select().where(TotpSecret.last_step == step).count() == BATCH + 4
        assert TotpSecret.get(TotpSecret.user == ahead.id).last_step == step + 100


@pytest.mark.parametrize("operated", ["sqlite"], indirect=True)
def test_it_asks_and_changes_nothing_where_the_keys_do_not_open_the_backup(operated: Operated, alice: Person) -> None:
    before = list(User.select().tuples()), list(TotpSecret.select().tuples())
    asked = operated.invoke("after-restore", answer="n\n")
    assert asked.exit_code == 1
    assert "make all backup codes invalid, end all assertions, and drop what is open? [y/N]" in asked.stdout
    operated.use_keys(dict([key("another")]))
    refused = operated.invoke("after-restore", "--yes")
    assert refused.exit_code == 1
    assert refused.stderr == "Error: Nothing was changed. MFA_SECRET_KEYS lacks first: add it at the end.\n"
    assert (list(User.select().tuples()), list(TotpSecret.select().tuples())) == before


def test_a_backup_that_is_made_while_requests_write_is_whole(operated: Operated) -> None:
    """All that was acknowledged before it began is in it, and every user in it has what their transaction gave them."""
    now = datetime.now(UTC)
    acknowledged: list[Caller] = []
    enough, stop = threading.Event(), threading.Event()

    def write() -> None:
        with connection():
            while not stop.is_set():
                caller = Caller.of(f"user-{len(acknowledged)}")
                with atomic():
                    User.ensure(caller, now)
                    TotpSecret.begin(caller, b"secret", now)
                    EmailFactor.begin(caller, "a@example.com", "1", now)
                acknowledged.append(caller)
                if len(acknowledged) == 50:
                    enough.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert enough.wait(20)
    before = {caller.id for caller in acknowledged}
    backup = operated.databases.back_up(operated.url)
    stop.set()
    writer.join()
    operated.use(operated.databases.restore(backup))
    users = {user.id for user in User.select()}
    assert before <= users <= {caller.id for caller in acknowledged}
    assert users == {row.user_id for row in TotpSecret.select()} == {row.user_id for row in EmailFactor.select()}
    if is_sqlite():
        assert database.execute_sql("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert operated.invoke("check").exit_code == 0
