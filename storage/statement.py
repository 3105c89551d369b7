"""Statements whose SQL is made once.

Peewee takes longer to build a query than SQLite to answer it, so each statement on the way of a request is a Peewee
query built at its first use, and after that only its parameters change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from inspect import signature
from typing import Any, Generic, NamedTuple, TypeVar, cast
from uuid import UUID

import peewee

from storage.database import database
from storage.pools import driver_errors

Row = TypeVar("Row")


class Statement:
    """A Peewee query with named parameters: `build` makes it, and its arguments stand in the place of values."""

    def __init__(self, build: Callable[..., Any], names: Iterable[str] | None = None) -> None:
        self._build = build
        self._names = tuple(signature(build).parameters if names is None else names)
        self._compiled: dict[bool, _Compiled] = {}

    def _execute(self, values: dict[str, Any]) -> tuple[_Compiled, Any]:
        driver = database.obj
        sqlite = isinstance(driver, peewee.SqliteDatabase)
        compiled = self._compiled.get(sqlite) or self._compile(sqlite)
        bind = _BIND_SQLITE if sqlite else _BIND
        bound = {name: bind[type(value)](value) if type(value) in bind else value for name, value in values.items()}
        parameters = [bound[slot] if is_name else slot for slot, is_name in compiled.parameters]
        with driver_errors:
            return compiled, driver.connection().execute(compiled.sql, parameters)

    def _compile(self, sqlite: bool) -> _Compiled:
        query = self._build(**{name: _Parameter(name) for name in self._names})
        sql, parameters = query.sql()
        columns = [_column(column) for column in query._returning or ()]
        slots = [(each.name, True) if isinstance(each, _Slot) else (each, False) for each in parameters]
        compiled = _Compiled(sql, slots, [name for name, _ in columns], [convert for _, convert in columns])
        self._compiled[sqlite] = compiled
        return compiled


class Change(Statement):
    """A statement that changes rows."""

    def __call__(self, **values: Any) -> int:
        """How many rows it changed: the answer to everything that works once."""
        return int(self._execute(values)[1].rowcount)


class Addition(Change):
    """An INSERT of one row: every field of the model is a parameter.

    Args:
        unless_there: Where the row would break a rule of uniqueness, nothing is added.
    """

    def __init__(self, model: type[peewee.Model], *, unless_there: bool = False) -> None:
        def build(**values: Any) -> Any:
            adding = model.insert(**values)
            if unless_there:
                adding = adding.on_conflict(action="NOTHING")
            return adding.returning()

        super().__init__(build, model._meta.fields)


class Query(Statement, Generic[Row]):
    """A statement that returns rows: a SELECT, or a change with RETURNING.

    Args:
        row: What a row becomes: a model, of which the columns that were read are set, or a function of the columns.
    """

    def __init__(self, build: Callable[..., Any], row: Callable[..., Row]) -> None:
        super().__init__(build)
        self._row = row

    def all(self, **values: Any) -> list[Row]:
        """Every row."""
        compiled, cursor = self._execute(values)
        return [self._made(compiled, found) for found in cursor.fetchall()]

    def first(self, **values: Any) -> Row | None:
        """The first row, or None. All are fetched: on SQLite, a change with RETURNING is done only then."""
        rows = self.all(**values)
        return rows[0] if rows else None

    def _made(self, compiled: _Compiled, found: Any) -> Row:
        read = [
            value if convert is None or value is None else convert(value)
            for value, convert in zip(found, compiled.converters, strict=True)
        ]
        if not isinstance(self._row, peewee.ModelBase):
            return self._row(*read)
        made: Any = self._row(__no_default__=True)
        made.__data__ = dict(zip(compiled.names, read, strict=True))
        return cast(Row, made)


class _Compiled(NamedTuple):
    sql: str
    parameters: list[tuple[Any, bool]]
    names: list[str]
    converters: list[Callable[[Any], Any] | None]


class _Slot(NamedTuple):
    name: str


class _Parameter(peewee.Node):
    def __init__(self, name: str) -> None:
        self.name = name

    def __sql__(self, ctx: Any) -> Any:
        return ctx.value(_Slot(self.name), converter=False)


def _column(column: Any) -> tuple[str, Callable[[Any], Any] | None]:
    if isinstance(column, peewee.ForeignKeyField):
        return column.name, column.rel_field.python_value
    if isinstance(column, peewee.Field):
        return column.name, column.python_value if type(column) not in AS_READ else None
    return "", None


# What the drivers return of these is what Python means by them.
AS_READ = (peewee.TextField, peewee.BigIntegerField, peewee.IntegerField, peewee.BlobField)


def _hex(value: UUID) -> str:
    return format(value.int, "032x")


# One request binds its time many times over.
@lru_cache(maxsize=1024)
def _text(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds")


_Bind = dict[type, Callable[[Any], Any]]
_BIND: _Bind = {UUID: _hex}
_BIND_SQLITE: _Bind = {UUID: _hex, datetime: _text}
