"""Schemas of a database: what one looks like, and versions of the server that know other steps."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage import schema
from storage.database import database as db
from tests.running import TOP

ROOMS = ("factors", "handlers", "server", "storage")
STEPS = {path.stem: path.read_text() for path in sorted(schema.STEPS.glob("[0-9]*.py"))}
FIRST = dict(list(STEPS.items())[:1])


def write_steps(folder: Path, steps: Mapping[str, str]) -> None:
    """Let these be the steps in a folder, and no others."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, text in steps.items():
        (folder / f"{name}.py").write_text(text)


def step(sql: str) -> str:
    """The text of a step."""
    return f"def up(migrator, db):\n    db.execute_sql('''{sql}''')\n"


def version(folder: Path, steps: Mapping[str, str]) -> Path:
    """Another version of the server, in a folder: the same but for the steps of its schema and Argon2id's cost."""
    for room in ROOMS:
        shutil.copytree(TOP / room, folder / room)
    shutil.copy(TOP / "openapi.yaml", folder)
    module = folder / "factors" / "backup.py"
    module.write_text(re.sub(r"^(MEMORY_KIB|PASSES) = .*$", r"\1 = 8", module.read_text(), flags=re.MULTILINE))
    write_steps(folder / schema.STEPS.relative_to(TOP), steps)
    return folder


def shape() -> dict[str, Any]:
    """What the statements of a version stand on: tables and columns, and what must be unique or exist. And indexes."""
    found = {}
    for table in db.get_tables():
        columns = db.get_columns(table)
        indexes = db.get_indexes(table)
        found[table] = {
            "columns": {each.name: (each.data_type, each.null, each.primary_key) for each in columns},
            "defaults": {each.name for each in columns if each.default is not None},
            "unique": {tuple(index.columns) for index in indexes if index.unique},
            "references": {(each.column, each.dest_table) for each in db.get_foreign_keys(table)},
            "indexes": {index.name: index.sql for index in indexes},
        }
    return found
