"""SQLite's one writer: what is shared is the commit, never the fate of what failed."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from storage import group_commit
from storage.group_commit import GroupCommit
from tests import memory


@pytest.fixture
def file() -> Iterator[Path]:
    with memory.folder() as folder:
        path = folder / "a.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=wal")
            connection.execute("CREATE TABLE note (text TEXT)")
            connection.execute("CREATE TABLE page (number INTEGER PRIMARY KEY)")
            connection.execute("CREATE TABLE line (page INTEGER REFERENCES page DEFERRABLE INITIALLY DEFERRED)")
        yield path


class Writer:
    """The writer of a file, and what it has done."""

    def __init__(self, file: Path, busy_seconds: float = 5) -> None:
        self.file = file
        self.connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=0)
        self.connection.execute("PRAGMA foreign_keys=1")
        self.statements: list[str] = []
        self.connection.set_trace_callback(self.statements.append)
        self.commits = GroupCommit(self.connection, busy_seconds)

    def write(self, text: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        with self.commits.transaction(lambda _: None):
            self.connection.execute("INSERT INTO note VALUES (?)", (text,))
            meanwhile()

    def count(self, statement: str) -> int:
        return self.statements.count(statement)

    def on_disk(self) -> list[str]:
        """What another process would see."""
        with closing(sqlite3.connect(self.file)) as other:
            return [text for (text,) in other.execute("SELECT text FROM note ORDER BY text")]

    def wait_for(self, count: int) -> None:
        """Until so many threads stand in line."""
        while self.commits._waiting < count:
            threading.Event().wait(0.001)


@pytest.fixture
def writer(file: Path) -> Iterator[Writer]:
    writer = Writer(file)
    yield writer
    writer.commits.close()


class Line:
    """Threads that stand in line behind a transaction, in the order in which they were added."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.threads: list[threading.Thread] = []
        self.outcomes: dict[str, str] = {}

    def add(self, name: str, act: Callable[[], object]) -> None:
        def run() -> None:
            try:
                act()
                self.outcomes[name] = "done"
            except Exception as error:
                self.outcomes[name] = type(error).__name__

        thread = threading.Thread(target=run)
        self.threads.append(thread)
        thread.start()
        self.writer.wait_for(len(self.threads))

    def end(self) -> dict[str, str]:
        for thread in self.threads:
            thread.join()
        return self.outcomes


def fail() -> None:
    raise ZeroDivisionError


def test_a_transaction_alone_is_on_disk_when_it_ends(writer: Writer) -> None:
    writer.write("one")
    assert writer.on_disk() == ["one"]
    assert (writer.count("COMMIT"), writer.count("SAVEPOINT one")) == (1, 0)


def test_nothing_is_on_disk_before_it_ends(writer: Writer) -> None:
    writer.write("one", lambda: None if writer.on_disk() == [] else fail())


def test_a_transaction_that_fails_alone_has_written_nothing(writer: Writer) -> None:
    with pytest.raises(ZeroDivisionError):
        writer.write("one", fail)
    assert writer.on_disk() == []
    writer.write("two")
    assert writer.on_disk() == ["two"]


def test_those_that_gathered_share_one_commit_and_all_are_on_disk_when_they_end(writer: Writer) -> None:
    line = Line(writer)
    names = [f"{n:02}" for n in range(10)]
    seen: list[bool] = []

    def write(name: str) -> None:
        writer.write(name)
        seen.append(name in writer.on_disk())

    def gather() -> None:
        for name in names:
            line.add(name, partial(write, name))

    writer.write("first", gather)
    assert writer.on_disk() == [*names, "first"]
    assert set(line.end().values()) == {"done"}
    assert seen == [True] * 10
    assert writer.count("COMMIT") == 1


def test_one_that_fails_among_others_is_undone_alone(writer: Writer) -> None:
    line = Line(writer)

    def gather() -> None:
        line.add("bad", lambda: writer.write("bad", fail))
        line.add("good", lambda: writer.write("good"))
        line.add("last and bad", lambda: writer.write("last and bad", fail))

    writer.write("first", gather)
    assert line.end() == {"bad": "ZeroDivisionError", "good": "done", "last and bad": "ZeroDivisionError"}
    assert writer.on_disk() == ["first", "good"]


def test_when_the_first_fails_those_behind_it_begin_anew(writer: Writer) -> None:
    line = Line(writer)

    def gather_and_fail() -> None:
        line.add("second", lambda: writer.write("second"))
        fail()

    with pytest.raises(ZeroDivisionError):
        writer.write("first", gather_and_fail)
    assert line.end() == {"second": "done"}
    assert writer.on_disk() == ["second"]


def test_a_commit_that_fails_fails_for_all_who_shared_it_and_for_nobody_after(writer: Writer) -> None:
    """A line without its page is found at the commit; nobody was told that theirs was kept."""
    line = Line(writer)

    def orphan() -> None:
        with writer.commits.transaction(lambda _: None):
            writer.connection.execute("INSERT INTO line VALUES (7)")

    with pytest.raises(sqlite3.OperationalError):
        writer.write("first", lambda: line.add("orphan", orphan))
    assert line.end() == {"orphan": "OperationalError"}
    assert writer.on_disk() == []
    writer.write("after")
    assert writer.on_disk() == ["after"]


def test_when_the_disk_is_full_nothing_is_acknowledged_that_is_not_kept(writer: Writer) -> None:
    pages = writer.connection.execute("PRAGMA page_count").fetchone()[0]
    writer.connection.execute(f"PRAGMA max_page_count = {pages}")
    line = Line(writer)
    outcome = "done"
    try:
        writer.write("small", lambda: line.add("huge", lambda: writer.write("h" * 1_000_000)))
    except sqlite3.OperationalError:
        outcome = "OperationalError"
    outcomes = line.end() | {"small": outcome}
    assert outcomes["huge"] == "OperationalError"
    assert writer.on_disk() == [name for name, how in outcomes.items() if how == "done"]
    writer.connection.execute("PRAGMA max_page_count = 100000")
    writer.write("zz")
    assert writer.on_disk()[-1] == "zz"


def test_whoever_waits_too_long_gives_up_and_the_others_go_on(file: Path) -> None:
    writer = Writer(file, busy_seconds=0.05)
    line = Line(writer)

    def gather() -> None:
        line.add("impatient", lambda: writer.write("impatient"))
        line.end()

    writer.write("first", gather)
    assert line.outcomes == {"impatient": "OperationalError"}
    assert writer.on_disk() == ["first"]
    writer.commits.close()


def test_a_transaction_whose_last_neighbour_gave_up_is_committed_all_the_same(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves the commit to one who waits, who then is gone: it looks again and does it itself."""
    monkeypatch.setattr(group_commit, "LOOK_SECONDS", 0.01)

    def pretend_and_leave() -> None:
        writer.commits._waiting += 1
        threading.Timer(0.05, lambda: setattr(writer.commits, "_waiting", 0)).start()

    writer.write("first", pretend_and_leave)
    assert writer.on_disk() == ["first"]


def test_a_long_line_is_committed_in_pieces(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the first of them need not wait for the last."""
    monkeypatch.setattr(group_commit, "MOST_AT_ONCE", 4)
    line = Line(writer)

    def gather() -> None:
        for n in range(8):
            line.add(str(n), partial(writer.write, str(n)))

    writer.write("first", gather)
    assert set(line.end().values()) == {"done"}
    assert writer.count("COMMIT") >= 2
    assert len(writer.on_disk()) == 9


def test_atm_04_while_another_process_holds_the_file_the_turn_is_given_back(writer: Writer) -> None:
    with closing(sqlite3.connect(writer.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                writer.write("one")
        other.execute("ROLLBACK")
    writer.write("two")
    assert writer.on_disk() == ["two"]


def test_many_threads_lose_nothing_and_keep_nothing_that_failed(writer: Writer) -> None:
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for n in range(20):
            name = f"{number}-{n:02}"
            try:
                writer.write(name, fail if n % 3 == 0 else lambda: None)
            except ZeroDivisionError:
                continue

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.on_disk() == [f"{number}-{n:02}" for number in range(8) for n in range(20) if n % 3]
