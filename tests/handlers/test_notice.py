"""What a user is told and what is put on record: everything that happened to their factors, and no secret."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from jinja2 import Environment, FileSystemLoader

from factors.errors import InvalidCode
from storage.audit import AuditEvent
from storage.outbox import OutboxMail
from tests.databases import bytes_on_disk, on_sqlite_only
from tests.states import NOW, Person, World

# Each change, the events that it puts on record, and the notices.
CHANGES: dict[str, tuple[Callable[[Person], object], list[str], set[str]]] = {
    "authenticator on": (Person.enrol_totp, ["totp.begun", "totp.enabled"], {"totp.enabled"}),
    "mailbox on": (Person.enrol_email, ["email.begun", "email.enabled"], {"email.enabled"}),
    "key on": (Person.enrol_key, ["webauthn.enabled"], {"webauthn.enabled"}),
}
UNDONE: dict[str, tuple[Callable[[Person], object], list[str], set[str]]] = {
    "authenticator off": (
        lambda alice: alice.call("totp.disable", code=alice.next_code()),
        ["totp.disabled"],
        {"totp.disabled"},
    ),
    "authenticator off by backup code": (
        lambda alice: alice.call("totp.disable", code=alice.backup_code()),
        ["backup_code.used", "totp.disabled"],
        {"backup_code.used", "totp.disabled"},
    ),
    "mailbox off": (
        lambda alice: alice.call("email.disable", code=alice.next_code()),
        ["email.disabled"],
        {"email.disabled"},
    ),
    "mailbox off by recovery": (
        lambda alice: alice.call("email.disable", code=alice.prove("backup_code")),
        ["backup_code.used", "backup_code.verified", "email.disabled"],
        {"backup_code.used", "backup_code.recovery", "email.disabled"},
    ),
    "key off": (
        lambda alice: alice.call("webauthn.remove", device_id=alice.device_id("webauthn")),
        ["webauthn.disabled"],
        {"webauthn.disabled"},
    ),
    "codes anew": (
        lambda alice: alice.call("backup.regenerate", code=alice.next_code()),
        ["backup_codes.regenerated"],
        {"backup_codes.regenerated"},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_not_01_what_is_turned_on_is_on_record_and_told(alice: Person, change: str) -> None:
    act, events, notices = CHANGES[change]
    act(alice)
    assert alice.events() == [(event, None) for event in events]
    assert alice.notices() == dict.fromkeys(notices, 1)


@pytest.mark.parametrize("change", UNDONE)
def test_not_01_what_is_turned_off_or_anew_is_on_record_and_told(user_with_everything: Person, change: str) -> None:
    act, events, notices = UNDONE[change]
    before, told = user_with_everything.events(), user_with_everything.notices()
    act(user_with_everything)
    assert user_with_everything.events() == [*before, *((event, None) for event in events)]
    assert user_with_everything.notices() - told == dict.fromkeys(notices, 1)


def test_not_01_every_notice_has_its_words(user_with_everything: Person) -> None:
    """Whatever a handler writes to the outbox, the courier's templates know."""
    templates = Path(__file__).parent.parent.parent / "server" / "templates"
    template = Environment(loader=FileSystemLoader(templates), autoescape=True).get_template("events.jinja")
    known = set(template.make_module().events)  # type: ignore[attr-defined]
    written = {event for _, _, notices in (*CHANGES.values(), *UNDONE.values()) for event in notices} | {"locked"}
    assert written <= known


def test_not_01_a_notice_tells_when_and_is_worth_sending_for_a_day(user_with_totp: Person, world: World) -> None:
    [mail] = world.mails()
    assert datetime.fromisoformat(str(mail.values["at"])) == NOW
    assert OutboxMail.get().expires_at == NOW + timedelta(days=1)


def test_eml_08_notices_go_to_the_confirmed_mailbox_and_not_to_a_new_claim(user_with_everything: Person) -> None:
    alice = user_with_everything
    alice.claims["email"] = "mallory@example.com"
    alice.call("totp.disable", code=alice.next_code())
    told = [mail.to for mail in alice.world.mails() if mail.values.get("event") == "totp.disabled"]
    assert told == ["alice@example.com"]


def test_not_03_an_event_names_user_device_operation_request_address_and_time(alice: Person) -> None:
    device = alice.enrol_totp()["device_id"]
    begun, enabled = AuditEvent.select().order_by(AuditEvent.at, AuditEvent.id)
    assert [begun.operation, enabled.operation] == ["handlers.totp.enable", "handlers.totp.confirm"]
    for event in (begun, enabled):
        assert (event.user_id, str(event.device_id)) == (alice.caller.id, device)
        assert (event.request_id, event.address, event.at) == ("request-1", "192.0.2.1", NOW.astimezone(UTC))


def test_not_03_a_refused_request_leaves_its_event_though_all_else_is_undone(user_with_totp: Person) -> None:
    before = user_with_totp.listed()
    with pytest.raises(InvalidCode):
        user_with_totp.call("totp.disable", code=user_with_totp.code())
    assert user_with_totp.listed() == before
    event = AuditEvent.get(AuditEvent.type == "proof.refused")
    assert (event.reason, event.operation) == ("spent", "handlers.totp.disable")


def test_not_03_no_event_holds_a_secret_a_code_or_an_address(user_with_everything: Person) -> None:
    alice = user_with_everything
    assert alice.app
    secrets = [alice.code(), alice.mailed_code(), alice.email, *alice.backup_codes]
    for method in ("totp", "email", "backup_code", "webauthn"):
        secrets.append(alice.prove(method))
    with pytest.raises(InvalidCode):
        alice.call("totp.disable", code="ZZZZ-ZZZZ-ZZZZ-ZZZZ")
    secrets += [alice.code(), alice.mailed_code(), "ZZZZ-ZZZZ-ZZZZ-ZZZZ"]
    kept = str(list(AuditEvent.select().dicts()))
    assert not [secret for secret in secrets if secret in kept]


@on_sqlite_only
def test_sec_01_no_file_of_the_database_holds_a_secret_in_clear(user_with_everything: Person, database: str) -> None:
    alice = user_with_everything
    alice.world.later(minutes=2)
    alice.challenge("email")
    assert alice.app
    written = bytes_on_disk(database)
    assert alice.caller.id.hex.encode() in written
    secrets = [alice.app.secret, alice.mailed_code().encode(), *(code.encode() for code in alice.backup_codes)]
    secrets += [code.replace(b"-", b"") for code in secrets[2:]]
    assert not [secret for secret in secrets if secret in written]
