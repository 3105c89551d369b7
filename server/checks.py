"""What `mfa-server check` tries: each part raises ValueError, in one sentence, when the server could not use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import peewee

from server.mail import Delayed
from server.settings import Settings
from server.tokens import Verifier
from server.transport import transport
from storage import database


def check_database(settings: Settings) -> None:
    """Raises ValueError as well when the schema is not the one of this version."""
    database.connect(settings.database_url)
    try:
        pending = database.pending_migrations()
    except peewee.DatabaseError as error:
        raise ValueError(f"MFA_DATABASE_URL cannot be opened: {str(error).splitlines()[0]}.") from error
    except database.NewerSchema as error:
        raise ValueError("The schema is that of a newer version. Install it.") from error
    finally:
        database.close()
    if pending:
        raise ValueError("The schema is not current. Run `mfa-server migrate`.")


def check_keys(settings: Settings) -> None:
    if not asyncio.run(Verifier.from_settings(settings).keys.ready()):
        raise ValueError("MFA_JWT_JWKS_URL gives no key for MFA_JWT_ALGORITHMS.")


def check_mail(settings: Settings) -> None:
    try:
        transport(settings).check()
    except Delayed as error:
        raise ValueError(f"Mail would not be taken: {error}.") from error


PARTS: dict[str, Callable[[Settings], None]] = {
    "database": check_database,
    "keys": check_keys,
    "mail": check_mail,
}
