"""The help desk's commands and the audit trail, on both databases: the real command beside a database in use."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from factors.errors import InvalidCode, TooManyAttempts
from server.command import main
from server.courier import Courier
from server.help_desk import user
from server.mail import compose, sender_address
from server.settings import Settings
from storage import audit, audit_trail, purge
from storage.audit import AuditEvent
from storage.backup import BackupCode, BackupCodeSet
from storage.challenge import Challenge
from storage.database import Model, atomic, database, is_sqlite
from storage.email import EmailFactor
from storage.mail_quota import MailQuota
from storage.outbox import OutboxMail
from storage.totp import TotpSecret
from storage.user import Caller, User
from storage.webauthn import WebAuthnCredential, WebAuthnRegistration
from tests.authenticator import Authenticator
from tests.databases import Operated
from tests.running import TOP
from tests.server.mail_server import MailSettings
from tests.states import Person, World

NOW = datetime.now(UTC)
ON_SQLITE = pytest.mark.parametrize("operated", ["sqlite"], indirect=True)
OF_A_USER: tuple[Any, ...] = (
    TotpSecret,
    EmailFactor,
    BackupCodeSet,
    BackupCode,
    WebAuthnCredential,
    WebAuthnRegistration,
    Challenge,
)
# Each table, and the column that says whose a row is.
OWNED = {
    **{User: User.id, MailQuota: MailQuota.key, OutboxMail: OutboxMail.user_id},
    **{model: model.user for model in OF_A_USER},
}


@pytest.fixture
def world(operated: Operated) -> World:
    return operated.world()


@pytest.fixture
def alice(world: World) -> Person:
    """A user of a tenant with everything that there is: methods, codes, something open of each kind, wrong answers."""
    alice = Person(world, "alice", "acme")
    alice.enrol_totp()
    alice.enrol_email()
    alice.enrol_key()
    alice.call("webauthn.begin")
    alice.challenge("totp")
    world.later(seconds=61)
    alice.challenge("email")
    with pytest.raises(InvalidCode):
        alice.call("totp.disable", code=alice.wrong_code())
    return alice


def owned(caller: Caller) -> dict[str, int]:
    """How many rows of each table are about the user."""
    counts = {
        model._meta.table_name: model.select().where(owner == caller.id).count() for model, owner in OWNED.items()
    }
    return {table: count for table, count in counts.items() if count}


def state(caller: Caller) -> list[str]:
    """All that is kept of a user."""
    return [
        row
        for model, owner in OWNED.items()
        for row in sorted(map(str, model.select().where(owner == caller.id).tuples()))
    ]


def lines(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


# audit


def events(count: int, user: Caller, start: datetime, kind: str = "totp.verified") -> None:
    with atomic():
        for number in range(count):
            # Some share their time, as the events of one request do.
            audit.record(user, kind, start + timedelta(seconds=number // 3))


def test_the_trail_is_told_oldest_first_through_many_pages(operated: Operated) -> None:
    one, other = Caller.of("one"), Caller.of("one", "acme")
    start = NOW - timedelta(days=1)
    count = audit_trail.PAGE + 100
    User.ensure(one, NOW)
    events(count, one, start)
    events(count, other, start + timedelta(seconds=1), "proof.refused")
    told = lines(operated.done("audit"))
    assert len({event["id"] for event in told}) == len(told) == 2 * count
    assert [event["at"] for event in told] == sorted(event["at"] for event in told)
    assert {(event["user_id"], event["tenant"], event["sub"]) for event in told} == {
        (str(one.id), "", "one"),
        (str(other.id), None, None),
    }
    ids = [str(row.id) for row in AuditEvent.select().order_by(AuditEvent.at, AuditEvent.id)]
    assert [event["id"] for event in told] == ids


def test_the_trail_of_a_user_a_type_and_a_time(operated: Operated) -> None:
    one, other = (
        Caller.of("one", operation="handlers.totp.verify", request_id="r1", address="192.0.2.1"),
        Caller.of("two"),
    )
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    events(9, one, noon)
    events(3, one, noon + timedelta(seconds=1), "proof.refused")
    events(9, other, noon)

    def told(*options: str) -> list[dict[str, Any]]:
        done = operated.invoke("audit", *options)
        assert done.exit_code == 0, done.stderr
        return lines(done.stdout)

    assert {event["user_id"] for event in told("--user", "one")} == {str(one.id)}
    assert len(told("--user", "one")) == 12
    assert told("--user", "one", "--tenant", "acme") == []
    assert [event["type"] for event in told("--user", "one", "--type", "proof.refused")] == ["proof.refused"] * 3
    assert len(told("--type", "proof.refused")) == 3
    times = ("--since", "2026-03-01T12:00:01", "--until", "2026-03-01T13:00:02+01:00")
    assert {event["at"] for event in told(*times)} == {"2026-03-01T12:00:01Z"}
    assert len(told("--user", "one", *times)) == 6
    assert told("--limit", "4") == told()[:4]
    assert told("--user", "one", "--limit", "2", "--since", "2026-03-01T12:00:01Z") == told("--user", "one")[3:5]
    assert told("--since", "2026-03-02") == []
    first = told("--user", "one")[0]
    assert first == {
        **{"id": first["id"], "at": "2026-03-01T12:00:00Z", "type": "totp.verified", "reason": None},
        **{"device_id": None, "operation": "handlers.totp.verify", "request_id": "r1", "address": "192.0.2.1"},
        **{"user_id": str(one.id), "tenant": None, "sub": None},
    }


def test_each_page_of_the_trail_is_found_by_an_index(operated: Operated) -> None:
    user = Caller.of("one")
    events(3, user, NOW)
    for number in range(20):
        events(20, Caller.of(f"user-{number}"), NOW)
    last = AuditEvent.get(AuditEvent.user_id == user.id)
    for of in (user.id, None):
        sql, parameters = audit_trail._page(of, last, None, NOW).limit(audit_trail.PAGE).sql()
        if is_sqlite():
            plan = database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
            index = "PRIMARY KEY (user_id=? AND (at,id)>(?,?)" if of else "INDEX audit_event_at ((at,id)>(?,?)"
            assert [line for *_, line in plan] == [f"SEARCH t1 USING {index} AND at<?)"]
        else:
            with database.atomic():
                # The tables of a test are so small that reading all of one is quicker.
                database.execute_sql("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
                plan = database.execute_sql(f"EXPLAIN {sql}", parameters).fetchall()
            index = "audit_event_pkey" if of else "audit_event_at"
            assert any(f"Index Scan using {index}" in line for (line,) in plan)
            assert any("Index Cond" in line and "(ROW(at, id) > ROW(" in line for (line,) in plan)
            assert not any("Sort" in line for (line,) in plan)


@ON_SQLITE
def test_not_05_nothing_in_the_trail_reaches_the_terminals_controls(operated: Operated) -> None:
    hostile = Caller.of("\x1b[2J\u202e\x9b31m\r\n{}", address="\x1b]0;")
    User.ensure(hostile, NOW)
    events(1, hostile, NOW)
    for command in (("audit",), ("user", "show", hostile.sub)):
        shown = operated.invoke(*command).stdout
        assert hostile.sub[4] not in shown
        assert all(character == "\n" or " " <= character <= "~" for character in shown)


@ON_SQLITE
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--since", "yesterday"), "Write a time such as 2026-03-01"),
        (("--until", "0001-01-01T00:00+14:00"), "Write a time such as 2026-03-01"),
        (("--limit", "0"), "0 is not in the range"),
        (("--tenant", "acme"), "--tenant goes with --user."),
    ],
)
def test_a_question_that_cannot_be_meant_is_refused(operated: Operated, options: tuple[str, ...], said: str) -> None:
    done = operated.invoke("audit", *options)
    assert done.exit_code == 2
    assert said in done.stderr


def test_rel_03_audit_events_are_kept_as_long_as_the_setting_says(operated: Operated, monkeypatch: Any) -> None:
    user = Caller.of("one")
    events(25, user, NOW - timedelta(days=400, minutes=1))
    events(3, user, NOW - timedelta(days=399))
    monkeypatch.setattr(purge, "BATCH", 10)
    Courier(MailSettings(operated.folder)).purge(NOW)
    assert AuditEvent.select().count() == 28
    monkeypatch.setattr(purge, "MOST", 20)
    Courier(MailSettings(operated.folder), timedelta(days=400)).purge(NOW)
    # As many as one call deletes; each batch took those of the same time with it.
    assert 3 < AuditEvent.select().count() <= 8
    database.connect(reuse_if_open=True)
    purge.purge(NOW, timedelta(days=400))
    assert AuditEvent.select().count() == 3


def test_expired_rows_of_every_kind_go_in_batches(alice: Person, world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(purge, "BATCH", 2)
    for _ in range(5):
        alice.challenge("totp")
    Person(world, "bob").scan()
    purge.purge(world.now + timedelta(days=2))
    assert owned(alice.caller) == {
        **{"mfa_user": 1, "totp_secret": 1, "email_factor": 1, "backup_code_set": 1, "backup_code": 10},
        **{"webauthn_credential": 1},
    }
    assert owned(Caller.of("bob")) == {"mfa_user": 1}


# user


def test_the_help_desk_sees_what_a_user_has_and_no_secret(operated: Operated, alice: Person) -> None:
    printed = operated.done("user", "show", "alice", "--tenant", "acme")
    shown = json.loads(printed)
    listed = alice.listed()
    assert {name: shown[name] for name in listed} == listed
    assert {method["type"] for method in shown["methods"]} == {"totp", "email", "webauthn"}
    assert [method["email"] for method in shown["methods"] if method["type"] == "email"] == ["a•••@example.com"]
    assert shown["backup_codes"]["remaining"] == 10
    assert shown["failures"] == 1
    assert shown["locked_until"] is None
    assert shown["open_challenges"] == 2
    assert shown["pending"] == ["webauthn"]
    assert [event["type"] for event in shown["latest_events"]] == [kind for kind, _ in alice.events()][-10:]
    assert alice.app is not None
    secrets = [
        *alice.backup_codes,
        *(alice.app.secret.hex(), "alice@example.com", alice.mailed_code(), TotpSecret.get().sealed),
        *(str(row.code_digest) for row in Challenge.select() if row.code_digest),
    ]
    assert not [secret for secret in secrets if secret in printed]


def test_a_lock_is_shown_and_taken_away(operated: Operated, alice: Person, world: World) -> None:
    bystander = Person(world, "bob")
    bystander.enrol_totp()
    world.now = datetime.now(UTC)
    for _ in range(4):
        for person in (alice, bystander):
            with pytest.raises(InvalidCode):
                person.call("totp.disable", code=person.wrong_code())
    with pytest.raises(TooManyAttempts):
        alice.call("totp.disable", code=alice.code())
    shown = json.loads(operated.invoke("user", "show", "alice", "--tenant", "acme").stdout)
    assert shown["failures"] == 5
    locked_until = User.get_by_id(alice.caller.id).locked_until
    assert datetime.fromisoformat(shown["locked_until"]) == locked_until
    assert operated.done("user", "unlock", "alice", "--tenant", "acme")
    assert User.get_by_id(bystander.caller.id).failures == 4
    assert alice.events()[-1] == ("user.unlocked", None)
    alice.call("totp.disable", code=alice.code())


def test_a_reset_removes_every_way_in_and_what_was_proved_by_it(
    operated: Operated, alice: Person, world: World
) -> None:
    bystander = Person(world, "alice")
    bystander.enrol_totp()
    OutboxMail.delete().execute()
    left_alone = state(bystander.caller)
    assertion = alice.prove("totp")
    handle = User.get_by_id(alice.caller.id).handle
    alice.challenge("webauthn")
    with pytest.raises(InvalidCode):
        alice.call("totp.disable", code=alice.wrong_code())
    operated.done("user", "reset", "alice", "--tenant", "acme", "--yes")
    assert owned(alice.caller) == {"mfa_user": 1, "mail_quota": 1, "outbox_mail": 1}
    assert alice.listed() == {
        **{"mfa_enabled": False, "methods": []},
        "backup_codes": {"total": 0, "remaining": 0, "generated_at": None},
    }
    row = User.get_by_id(alice.caller.id)
    assert (row.failures, row.locked_until, row.handle) == (0, None, handle)
    assert state(bystander.caller) == left_alone
    told = [kind for kind, _ in alice.events()][-4:]
    assert sorted(told) == ["email.disabled", "totp.disabled", "user.reset", "webauthn.disabled"]
    event = AuditEvent.get(AuditEvent.type == "user.reset")
    assert (event.operation, event.request_id) == ("mfa-server user reset", "")
    assert event.address
    service = Person(world, "service", "acme")
    assert service.call("verification.introspect", token=assertion) == {"active": False}
    alice.enrol_totp()


def test_not_01_the_mailbox_hears_of_a_reset_and_codes_on_their_way_to_it_are_dropped(
    operated: Operated, alice: Person
) -> None:
    assert "code" in {mail.template for mail in OutboxMail.select()}
    assert operated.invoke("user", "reset", "alice", "--tenant", "acme", "--yes").exit_code == 0
    assert "code" not in {mail.template for mail in OutboxMail.select()}
    notice = OutboxMail.select().order_by(OutboxMail.created_at.desc()).get()
    message = compose(notice, sender=sender_address("mfa@example.org", "Example"), issuer="Example")
    assert (message["To"], message["Subject"]) == ("alice@example.com", "Example: All second factors removed")


@ON_SQLITE
@pytest.mark.parametrize("command", ["reset", "delete"])
def test_what_cannot_be_undone_is_asked_about_first(operated: Operated, alice: Person, command: str) -> None:
    before = state(alice.caller)
    for answer in ("n\n", ""):
        refused = operated.invoke("user", command, "alice", "--tenant", "acme", answer=answer)
        assert refused.exit_code == 1
        assert 'user "alice" of tenant "acme"? [y/N]' in refused.stdout
        assert state(alice.caller) == before
    assert operated.invoke("user", command, "alice", "--tenant", "acme", answer="y\n").exit_code == 0
    assert state(alice.caller) != before


@ON_SQLITE
@pytest.mark.parametrize("command", [("show",), ("reset", "--yes"), ("unlock",), ("delete", "--yes")])
def test_auz_01_the_same_sub_without_the_tenant_is_somebody_else(
    operated: Operated, alice: Person, command: tuple[str, ...]
) -> None:
    before = state(alice.caller)
    done = operated.invoke("user", *command, "alice")
    assert done.exit_code == 1
    assert done.stderr == 'Error: user "alice" is not known here. Is `sub`, or the tenant, another?\n'
    assert state(alice.caller) == before
    assert AuditEvent.select().where(AuditEvent.user_id == Caller.of("alice").id).count() == 0


def test_prv_04_of_a_deleted_user_only_the_audit_trail_stays(operated: Operated, alice: Person, world: World) -> None:
    bystander = Person(world, "alice")
    bystander.enrol_totp()
    left_alone = state(bystander.caller)
    assertion = alice.prove("totp")
    before = len(alice.events())
    assert set(owned(alice.caller)) == {model._meta.table_name for model in OWNED}
    operated.done("user", "delete", "alice", "--tenant", "acme", "--yes")
    assert owned(alice.caller) == {}
    assert state(bystander.caller) == left_alone
    assert len(alice.events()) == before + 1
    told = lines(operated.invoke("audit", "--user", "alice", "--tenant", "acme").stdout)
    assert [event["type"] for event in told][-1] == "user.deleted"
    assert not [event for event in told if "alice" in str(event)]
    # Nor does what was proved come back when as many factors were set up as there were.
    service = Person(world, "service", "acme")
    alice.enrol_totp()
    for key in (alice.key, Authenticator()):
        alice.enrol_key(key)
        assert service.call("verification.introspect", token=assertion) == {"active": False}


def test_every_table_is_known_here() -> None:
    """A new one has to be thought of where users are reset and deleted."""
    assert {model for model in Model.__subclasses__() if model.__module__.startswith("storage.")} == {
        *OWNED,
        AuditEvent,
    }


def test_the_document_for_operators_names_what_there_is() -> None:
    text = (TOP / "docs" / "operations.md").read_text()
    named = set(re.findall(r"(?:`|^\$ )mfa-server ((?:user )?[a-z-]+)", text, re.MULTILINE))
    assert {"check", "migrate", "rotate-keys", "audit", "after-restore"} <= named
    assert {name.removeprefix("user ") for name in named if name.startswith("user ")} == set(user.commands)
    assert {name for name in named if " " not in name} <= set(main.commands)
    commands = (*main.commands.values(), *user.commands.values())
    options = {option for command in commands for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"`(--[a-z-]+)`", text)) <= options
    assert set(re.findall(r"MFA_[A-Z_]+", text)) <= {f"MFA_{name.upper()}" for name in Settings.model_fields}
