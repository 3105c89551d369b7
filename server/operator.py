"""The commands for whoever runs the server: rotate-keys, audit, after-restore. docs/operations.md says when."""

from __future__ import annotations

import getpass
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import click
import peewee

from factors.totp import STEP_SECONDS
from server import checks
from server.progress import Stopped, tracked
from server.settings import Settings
from server.stop import Stop, load_settings, warn_of_unknown_settings
from storage import audit_trail, database, restoration, rotation, sealing
from storage.audit import AuditEvent
from storage.restoration import EVERYONE
from storage.rotation import Unreadable
from storage.user import Caller, User

# Beyond these, what cannot be read is only counted.
MOST_TOLD = 1000


class Time(click.ParamType[datetime]):
    """A date or a time in ISO 8601, in UTC unless it names an offset."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            time = datetime.fromisoformat(value)
            return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            self.fail("Write a time such as 2026-03-01 or 2026-03-01T12:00:00Z.", param, ctx)


@contextmanager
def opened() -> Iterator[Settings]:
    """The settings of the environment, connected to the database that they name. Raises Stop."""
    warn_of_unknown_settings()
    current = load_settings()
    try:
        checks.check_database(current)
    except ValueError as error:
        raise Stop(str(error)) from None
    database.connect(current.database_url)
    sealing.use(current.secret_keys)
    try:
        with database.connection():
            yield current
    except (peewee.DatabaseError, peewee.InterfaceError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Stop(f"The database failed: {reason}. What was done stays done; run the command again.") from error
    finally:
        database.close()


def caller(command: str, sub: str = "", tenant: str = "") -> Caller:
    """For the audit: the user that a command is about, and in the place of an address who on this machine runs it."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):  # Containers run under numbers that no name belongs to.
        who = f"uid {os.getuid()}"
    return Caller.of(sub, tenant, operation=f"mfa-server {command}", address=who)


def as_json(value: object, indent: int | None = None) -> str:
    """JSON in printable ASCII, so that nothing in it reaches the terminal's controls (NOT-05); times as in answers."""
    return json.dumps(value, indent=indent, default=_text)


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


@click.command("rotate-keys")
def rotate_keys() -> None:
    """Seal everything anew with the first key of MFA_SECRET_KEYS, while the server runs.

    It may be stopped and run again at any time. Exits 1 when something cannot be opened; that is named, and left as
    it is.
    """
    with opened() as current:
        keyring = sealing.Keyring(current.secret_keys)
        counts: Counter[str] = Counter()
        unreadable: list[Unreadable] = []
        stopped: Stopped | None = None
        try:
            for batch in tracked(rotation.reseal(keyring), "Sealing anew"):
                counts.update(
                    read=batch.read,
                    resealed=batch.resealed,
                    changed_meanwhile=batch.changed_meanwhile,
                    unreadable=len(batch.unreadable),
                )
                unreadable += batch.unreadable[: MOST_TOLD - len(unreadable)]
        except Stopped as stop:
            stopped = stop
        for line in _unreadable(unreadable):
            click.echo(line)
        click.echo(
            f"Read {counts['read']}, sealed {counts['resealed']} anew with key {keyring.current}; "
            f"{counts['changed_meanwhile']} changed meanwhile, {counts['unreadable']} cannot be opened."
        )
    if stopped is not None:
        raise stopped
    if counts["unreadable"]:
        raise SystemExit(1)


def _unreadable(rows: list[Unreadable]) -> Iterator[str]:
    found = audit_trail.names({row.user_id for row in rows})
    for row in rows:
        yield "Cannot be opened: " + as_json({"table": row.table, "key": row.key_id, **_named(found, row.user_id)})


def _named(found: dict[Any, User], user_id: Any) -> dict[str, Any]:
    user = found.get(user_id)
    return {"user_id": user_id, "tenant": user and user.tenant, "sub": user and user.sub}


@click.command()
@click.option("--user", "sub", help="Events of this user alone.")
@click.option("--tenant", default="", help="The user's tenant.")
@click.option("--type", "kind", help="Events of this type alone, such as proof.refused.")
@click.option("--since", type=Time(), help="The time from which on.")
@click.option("--until", type=Time(), help="The time before which.")
@click.option("--limit", type=click.IntRange(1), help="At most so many, the oldest.")
def audit(
    sub: str | None,
    tenant: str,
    kind: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
) -> None:
    """Print the audit trail as JSON lines, oldest first."""
    if tenant and sub is None:
        raise click.UsageError("--tenant goes with --user.")
    left = limit
    with opened():
        user = None if sub is None else Caller.of(sub, tenant).id
        for page in audit_trail.read(user=user, kind=kind, since=since, until=until):
            found = audit_trail.names({event.user_id for event in page})
            for event in page[:left]:
                click.echo(as_json(shown(event) | _named(found, event.user_id)))
            if left is not None:
                left -= min(left, len(page))
                if left == 0:
                    return


def shown(event: AuditEvent) -> dict[str, Any]:
    """An event as it is printed."""
    return {
        "id": event.id,
        "at": event.at,
        "type": event.type,
        "reason": event.reason,
        "device_id": event.device_id,
        "operation": event.operation,
        "request_id": event.request_id,
        "address": event.address,
    }


@click.command("after-restore")
@click.option(
    "--backup-codes",
    type=click.Choice(["invalidate", "keep"]),
    default="invalidate",
    show_default=True,
    help="What becomes of unused backup codes: the backup does not know which were used since.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def after_restore(backup_codes: Literal["invalidate", "keep"], yes: bool) -> None:
    """Make what was used since the backup stay used. Run it after a restore, before the server starts."""
    with opened() as current:
        try:
            list(checks.sealing_keys(current.secret_keys))
        except ValueError as error:
            raise Stop(f"Nothing was changed. {error}") from None
        if not yes:
            codes = "make all backup codes invalid, " if backup_codes == "invalidate" else ""
            click.confirm(f"For all users: {codes}end all assertions, and drop what is open?", abort=True)
        now = datetime.now(UTC)
        # A code of the last step that is accepted may have been used.
        step = int(now.timestamp()) // STEP_SECONDS + current.totp_window
        everyone = Caller(EVERYONE, "", "", operation="mfa-server after-restore", address=caller("").address)
        counts: Counter[str] = Counter()
        work = restoration.shut(everyone, now, step, backup_codes=backup_codes == "invalidate")
        for batch in tracked(work, "Shutting what was used"):
            counts.update(
                users=batch.users, totp=batch.authenticators, closed=batch.closed, backup_codes=batch.backup_codes
            )
    click.echo(
        f"{counts['users']} users: {counts['totp']} authenticator apps moved on, {counts['backup_codes']} backup codes "
        f"made invalid, {counts['closed']} open enrolments, challenges and mails dropped."
    )
