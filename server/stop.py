"""How a command ends before its work is done: a line for each reason, and an exit status."""

from __future__ import annotations

import os

import click

from server import settings
from server.settings import Settings, WrongSettings


class Stop(click.ClickException):
    """The command ends here; each line says a reason."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines

    def show(self, file: object = None) -> None:
        for line in self.lines:
            click.echo(f"Error: {line}", err=True)


class StopAtSettings(Stop):
    """The settings are wrong."""

    exit_code = 2


def load_settings() -> Settings:
    """The settings of the environment. Raises StopAtSettings."""
    try:
        return settings.load()
    except WrongSettings as error:
        raise StopAtSettings(*error.lines) from None


def warn_of_unknown_settings() -> None:
    for line in settings.unknown(os.environ):
        click.echo(f"Warning: {line}", err=True)
