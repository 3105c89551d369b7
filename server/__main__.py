"""The command `mfa-server`, also as `python -m server`: where each of its processes begins."""

import os
import sys

# Peewee imports every driver that it finds, and PostgreSQL's takes 12 MiB, which nobody misses on SQLite.
if not any(name.upper() == "MFA_DATABASE_URL" and "postgresql" in url for name, url in os.environ.items()):
    sys.modules["psycopg"] = None  # type: ignore[assignment]  # So an import fails.

from server.command import main

if __name__ == "__main__":
    main(prog_name="mfa-server")
