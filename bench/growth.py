"""How the CPU time of a request grows with the users that the database holds: it should not."""

from __future__ import annotations

import secrets
import time

import click
import peewee

from bench import pieces, seed
from bench.measure import compare, meet
from bench.people import SECRET_BYTES, Issuer, People, Person
from bench.stage import set_up
from bench.table import Table, title
from storage.backup import BackupCodeSet
from storage.database import atomic, database, is_sqlite
from storage.totp import TotpSecret
from storage.user import User

FEW = 1000
# Keys in their order and spread over all the space, so that the requests' own users fall in between anywhere.
KEY = {
    True: "printf('%08x%016x%08x', n * 4294967295 / {users}, random(), n)",
    False: "(lpad(to_hex(n * 4294967295 / {users}), 8, '0') || md5(n::text))::varchar(32)::uuid",
}


def run(rounds: int, most: int, *, on_postgresql: bool) -> None:
    """Measure the same users, with and without many others around them."""
    title(f"Growth: the same requests with {FEW:,} and with {most:,} users in the database")
    with set_up(FEW // 2, on_postgresql=on_postgresql) as stage:
        large, small = stage.ours(), stage.ours()
        large.name, small.name = f"{most:,}", f"{FEW:,}"
        began = time.monotonic()
        with large.storage():
            _fill(stage.issuer, most)
        click.echo(f"{most:,} users seeded in {time.monotonic() - began:.0f} s\n")
        sites = [stage.site(large), stage.site(small)]
        meet(sites)
        table = Table(sites)
        for piece in (pieces.LIST, pieces.VERIFY):
            table.add(piece._replace(target=None), compare(sites, piece, rounds))


def _fill(issuer: Issuer, users: int) -> None:
    """Users with an authenticator app and a set of backup codes, all of them like a first one."""
    first = issuer.person("first", secrets.token_bytes(SECRET_BYTES))
    seed.people(People(issuer, [first], []))
    numbers = f"WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {users})"
    key = KEY[is_sqlite()].format(users=users)
    with atomic():
        if not is_sqlite():
            database.execute_sql("SET LOCAL statement_timeout = 0")
        _copy(User, first, {"id": key, "sub": "'user-' || n"}, numbers, "numbers")
        for model in (TotpSecret, BackupCodeSet):
            _copy(model, first, {"user_id": "id"}, "", f"mfa_user WHERE sub <> '{first.sub}' ORDER BY id")


def _copy(model: type[peewee.Model], of: Person, own: dict[str, str], before: str, source: str) -> None:
    """Insert a row like a user's for each row of the source, but for the columns that are each row's own."""
    names = [field.column_name for field in model._meta.sorted_fields if field.column_name not in own]
    table, mark = model._meta.table_name, database.param
    find = f"SELECT {', '.join(names)} FROM {table} WHERE {next(iter(own))} = {mark}"
    row = database.execute_sql(find, (of.caller.id.hex,)).fetchone()
    same = {name: value for name, value in zip(names, row, strict=True) if value is not None}
    values = ", ".join([*own.values(), *(mark for _ in same)])
    insert = f"INSERT INTO {table} ({', '.join([*own, *same])}) {before} SELECT {values} FROM {source}"
    database.execute_sql(insert, tuple(same.values()))
