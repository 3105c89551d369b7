"""The command `mfa-server`: serve, token, migrate, check; the operator's commands are in modules of their own."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

import click
import peewee
import structlog

from server import checks, development, help_desk, logs, operator, serving, settings
from server.courier import Courier
from server.settings import Settings
from server.stop import Stop, StopAtSettings, load_settings, warn_of_unknown_settings
from server.tokens import Verifier
from storage import database, schema

TOKEN_SECONDS = 3600
DATABASE_SECONDS = 30

log = structlog.get_logger()


class Serve(click.Command):
    """A command whose help ends with the table of settings."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Settings, from the environment"):
            formatter.write_dl(settings.table())


@click.group()
def main() -> None:
    """Multi-factor authentication for apps that already have a login."""
    # All that is ever written is for the owner alone: database, mail, keys.
    os.umask(0o077)


for command in (operator.rotate_keys, operator.after_restore, operator.audit, help_desk.user):
    main.add_command(command)


@main.command(cls=Serve)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 takes any free one.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes that serve.")
def serve(host: str, port: int, workers: int) -> None:
    """Start the server. Without any setting: for development, with SQLite, keys and mail in ./mfa-data."""
    warn_of_unknown_settings()
    _settings()
    try:
        listener = serving.listen(host, port)
    except OSError as error:
        raise Stop(f"Cannot listen on {host} port {port}: {error.strerror}.") from error
    _set_default_urls(listener.getsockname()[1])
    current = load_settings()
    logs.configure(current)
    _ready_database(current)
    if current.env == "development":
        _say_where(current)
    elif current.step_up == "off":
        log.warning("step_up.off", hint="Anyone with a user's token can add a method. See MFA_STEP_UP.")
    try:
        serving.run(listener, workers)
    except serving.StartFailed:
        raise Stop("The server did not start; the log says why.") from None


@main.command()
@click.option("--sub", required=True, help="The user.")
@click.option("--email", help="The user's mail address.")
@click.option("--tenant", help="The user's tenant.")
@click.option("--scope", help="Scopes, separated by spaces.")
@click.option("--ttl", default=TOKEN_SECONDS, show_default=True, type=click.IntRange(1), help="Seconds it is good for.")
def token(sub: str, email: str | None, tenant: str | None, scope: str | None, ttl: int) -> None:
    """Print an access token for development, signed with the key in the data folder."""
    warn_of_unknown_settings()
    current = _settings()
    if not current.takes_development_tokens:
        raise Stop("Tokens come from the issuer that the MFA_JWT_ settings name. Ask it for one.")
    now = datetime.now(UTC)
    click.echo(development.access_token(current, sub=sub, now=now, ttl=ttl, email=email, tenant=tenant, scope=scope))


@main.command()
def migrate() -> None:
    """Bring the database's schema up to date."""
    warn_of_unknown_settings()
    for step in _migrate(_settings()):
        click.echo(step)
    click.echo("The schema is up to date.")


@main.command()
def check() -> None:
    """Try settings, database, keys and mail, and say what is wrong."""
    warn_of_unknown_settings()
    try:
        current = _settings()
    except StopAtSettings as wrong:
        for line in wrong.lines:
            click.echo(f"settings: {line}")
        raise SystemExit(1) from None
    click.echo("settings: ok")
    logs.configure(current)
    failed = []
    for part, attempt in checks.PARTS.items():
        if checks.NEEDS.get(part) in failed:
            continue
        try:
            for fact in attempt(current):
                click.echo(f"{part}: {fact}")
        except ValueError as error:
            failed.append(part)
            click.echo(f"{part}: {error}")
        else:
            click.echo(f"{part}: ok")
    if failed:
        raise SystemExit(1)


def _settings() -> Settings:
    """The settings, of which each part of the server can be made."""
    current = load_settings()
    wrong = []
    try:
        Verifier.from_settings(current)
    except ValueError as error:
        # What is wrong with a key is told without the name of the setting that it came from.
        given = next(name for name in ("jwt_jwks_url", "jwt_secret", "jwt_key_file") if getattr(current, name))
        wrong.append(str(error) if "MFA_" in str(error) else f"MFA_{given.upper()}: {error}")
    try:
        Courier(current)
    except ValueError as error:
        wrong.append(str(error))
    if wrong:
        raise StopAtSettings(*wrong)
    return current


def _set_default_urls(port: int) -> None:
    """Let all processes of this server have the defaults that hang on its port."""
    for name in ("MFA_ORIGINS", "MFA_PUBLIC_URL"):
        if not os.environ.get(name):
            os.environ[name] = f"http://localhost:{port}"


def _ready_database(current: Settings) -> None:
    """Bring SQLite up to date. PostgreSQL belongs to several servers, so it is waited for, and only looked at."""
    if current.database_url.startswith("sqlite:"):
        _migrate(current)
    deadline = time.monotonic() + DATABASE_SECONDS
    while True:
        try:
            for fact in checks.check_database(current):
                log.warning("database.unusual", hint=fact)
        except ValueError as error:
            if isinstance(error.__cause__, peewee.OperationalError) and time.monotonic() < deadline:
                time.sleep(1)
                continue
            raise Stop(str(error)) from None
        return


def _migrate(current: Settings) -> list[str]:
    try:
        development.make_folder(current.data_dir)
        database.connect(current.database_url, options=schema.OPTIONS)
        try:
            return schema.migrate()
        finally:
            database.close()
    except schema.NewerSchema:
        raise Stop(checks.NEWER) from None
    except (OSError, peewee.DatabaseError) as error:
        raise Stop(f"The database cannot be used: {str(error).splitlines()[0]}.") from error


def _say_where(current: Settings) -> None:
    click.echo(f"API       {current.public_url}")
    click.echo(f"Try it    {current.public_url}/docs")
    click.echo(f"Contract  {current.public_url}/openapi.json")
    if current.takes_development_tokens:
        ready = development.access_token(current, sub="alice", email="alice@example.com", now=datetime.now(UTC))
        click.echo(f"Token     {ready}")
