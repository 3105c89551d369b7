"""The commands `mfa-server user …`: what the help desk sees of one user, and does for them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pkgutil import resolve_name
from typing import Any

import click

from server.operator import as_json, caller, opened, shown
from server.stop import Stop
from storage import help_desk
from storage.user import Caller

# Joined by name, as the contract joins the room of the handlers to this one: users are shown the same list.
LIST = "handlers.methods.list_all"


@click.group()
def user() -> None:
    """Help one user: SUB is the `sub` of their access tokens."""


def about_one_user(command: Callable[..., None]) -> Callable[..., None]:
    """A command's argument and options that name the user."""
    return click.argument("sub")(click.option("--tenant", default="", help="The user's tenant.")(command))


yes = click.option("--yes", is_flag=True, help="Do not ask.")


@user.command()
@about_one_user
def show(sub: str, tenant: str) -> None:
    """Print methods, wrong codes, and the latest events, as JSON. No secret is in it."""
    about, now = caller("user show", sub, tenant), datetime.now(UTC)
    with opened():
        account = _known(help_desk.look_up, about, now)
        listed = resolve_name(LIST)(about)
    locked_until = account.user.locked_until
    click.echo(
        as_json(
            {
                "sub": sub,
                "tenant": tenant,
                "user_id": about.id,
                "created_at": account.user.created_at,
                **listed,
                "pending": account.pending,
                "failures": account.user.failures,
                "locked_until": locked_until if locked_until and locked_until > now else None,
                "open_challenges": account.open_challenges,
                "latest_events": [shown(event) for event in account.latest_events],
            },
            indent=2,
        )
    )


@user.command()
@about_one_user
@yes
def reset(sub: str, tenant: str, yes: bool) -> None:
    """Remove all methods and codes of a user who has lost them, so that they begin anew."""
    _do(help_desk.reset, "reset", sub, tenant, ask=None if yes else "Remove all methods and backup codes of")
    click.echo("All methods and backup codes are removed; the user can set up new ones.")


@user.command()
@about_one_user
def unlock(sub: str, tenant: str) -> None:
    """Forget a user's wrong codes, and the lock that they brought."""
    _do(help_desk.unlock, "unlock", sub, tenant)
    click.echo("The user is not locked, and has five attempts.")


@user.command()
@about_one_user
@yes
def delete(sub: str, tenant: str, yes: bool) -> None:
    """Forget a user whose account has ended. The audit trail stays, until its retention ends."""
    _do(help_desk.delete, "delete", sub, tenant, ask=None if yes else "Delete everything that is kept of")
    click.echo("The user is deleted.")


def _do(
    change: Callable[[Caller, datetime], None], command: str, sub: str, tenant: str, *, ask: str | None = None
) -> None:
    about = caller(f"user {command}", sub, tenant)
    with opened():
        _known(help_desk.look_up, about, datetime.now(UTC))
        if ask is not None:
            click.confirm(f"{ask} {_name(about)}?", abort=True)
        _known(change, about, datetime.now(UTC))


def _known(action: Callable[[Caller, datetime], Any], about: Caller, now: datetime) -> Any:
    try:
        return action(about, now)
    except help_desk.UnknownUser:
        raise Stop(f"{_name(about)} is not known here. Is `sub`, or the tenant, another?") from None


def _name(about: Caller) -> str:
    return f"user {as_json(about.sub)}" + (f" of tenant {as_json(about.tenant)}" if about.tenant else "")
