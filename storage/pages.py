"""A whole table, a page at a time in the order of its ids, for the commands that go through all of one.

No statement reads or locks more than a page, so requests are answered meanwhile, and a command that was stopped has
lost at most the page it was at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import peewee

ALL_IDS = 2**128


@dataclass(frozen=True, slots=True)
class Page:
    """The ids after one, up to and including another; without that, all the rest."""

    after: UUID | None = None
    last: UUID | None = None

    def holds(self, field: Any) -> peewee.Expression:
        """The condition that a field, an id or a reference to one, is on the page."""
        condition = peewee.Value(1) == 1 if self.after is None else field > self.after
        return condition if self.last is None else condition & (field <= self.last)

    @property
    def share(self) -> float:
        """How much of the table lies before the end of the page, from 0 to 1: ids are random, so spread evenly."""
        return 1.0 if self.last is None else self.last.int / ALL_IDS


def pages(key: Any, size: int) -> Iterator[Page]:
    """The pages of a table, by its primary key, of `size` rows each. An empty table has one, without a row."""
    page: Page | None = None
    while page is None or page.last is not None:
        after = None if page is None else page.last
        beyond = key.model.select(key).where(Page(after).holds(key)).order_by(key)
        found = beyond.offset(size - 1).limit(1).tuples().first()
        page = Page(after, found[0] if found else None)
        yield page
