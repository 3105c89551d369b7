"""SQLite's one writer: what is shared is the commit, never the fate of what failed."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from storage import group_commit
from storage.group_commit import GroupCommit
from storage.turns import Turns
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
        while self.commits._turns.waiting < count:
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
    pretended: list[str] = []
    monkeypatch.setattr(group_commit, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(Turns, "waiting", property(lambda turns: len(pretended) + len(turns._line)))

    def pretend_and_leave() -> None:
        pretended.append("someone")
        threading.Timer(0.05, pretended.clear).start()

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


def test_atm_04_while_another_process_holds_the_file_the_turn_is_given_back(file: Path) -> None:
    writer = Writer(file, busy_seconds=0.1)
    with closing(sqlite3.connect(writer.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                writer.write("one")
        other.execute("ROLLBACK")
    writer.write("two")
    assert writer.on_disk() == ["two"]
    writer.commits.close()


def test_a_transaction_that_hides_that_sqlite_has_undone_it_is_not_acknowledged(writer: Writer) -> None:
    """A full disk takes the whole batch back, and a block that swallows the error would write on outside of it."""
    pages = writer.connection.execute("PRAGMA page_count").fetchone()[0]
    line = Line(writer)

    def hide() -> None:
        with writer.commits.transaction(lambda _: None):
            writer.connection.execute(f"PRAGMA max_page_count = {pages}")
            try:
                writer.connection.execute("INSERT INTO note VALUES (?)", ("h" * 1_000_000,))
            except sqlite3.OperationalError:
                writer.connection.execute("PRAGMA max_page_count = 100000")

    def gather() -> None:
        line.add("hidden", hide)
        line.add("next", lambda: writer.write("next"))

    with pytest.raises(sqlite3.OperationalError):
        writer.write("first", gather)
    outcomes = line.end()
    assert outcomes["hidden"] == "OperationalError"
    assert writer.on_disk() == (["next"] if outcomes["next"] == "done" else [])


def refuse(word: str, times: int) -> Callable[..., int]:
    """An authorizer that lets a statement fail so often."""
    left = [times]

    def authorize(action: int, first: str | None, second: str | None, *_: object) -> int:
        if word in (first, second) and left[0]:
            left[0] -= 1
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    return authorize


def test_where_one_cannot_be_undone_alone_nothing_of_its_batch_is_kept(writer: Writer) -> None:
    line = Line(writer)

    def fail_for_good() -> None:
        writer.connection.set_authorizer(refuse("one", 1))
        fail()

    def gather() -> None:
        line.add("bad", lambda: writer.write("bad", fail_for_good))
        line.add("next", lambda: writer.write("next"))

    with pytest.raises(sqlite3.OperationalError):
        writer.write("first", gather)
    outcomes = line.end()
    assert outcomes["bad"] == "ZeroDivisionError"
    # Whether it shared the batch or came after it.
    assert writer.on_disk() == (["next"] if outcomes["next"] == "done" else [])


def test_what_could_not_even_be_taken_back_is_before_the_next_begins(writer: Writer) -> None:
    line = Line(writer)

    def gather_and_fail_for_good() -> None:
        line.add("next", lambda: writer.write("next"))
        writer.connection.set_authorizer(refuse("ROLLBACK", 1))
        fail()

    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        writer.write("first", gather_and_fail_for_good)
    assert line.end() == {"next": "done"}
    assert writer.on_disk() == ["next"]


def test_closing_makes_durable_what_waits_for_its_commit(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its neighbour has given up, and it has not looked yet."""
    monkeypatch.setattr(group_commit, "LOOK_SECONDS", 0.5)
    writer = Writer(file)
    pretended: list[str] = []
    monkeypatch.setattr(Turns, "waiting", property(lambda turns: len(pretended) + len(turns._line)))
    thread = threading.Thread(target=lambda: writer.write("left", lambda: pretended.append("someone")))
    thread.start()
    while writer.commits._batch is None or not writer.commits._batch.transactions:
        time.sleep(0.001)
    writer.commits.close()
    thread.join()
    assert writer.on_disk() == ["left"]


def test_closing_does_not_wait_for_ever_for_a_thread_that_hangs(file: Path) -> None:
    writer = Writer(file, busy_seconds=0.05)
    line = Line(writer)
    go_on, began = threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        go_on.wait()

    thread = threading.Thread(target=writer.write, args=("slow", hang))
    thread.start()
    began.wait()
    writer.commits.close()
    go_on.set()
    thread.join()
    assert line.end() == {}
    assert writer.on_disk() == ["slow"]
    writer.commits.close()


PROCESS = """
import sqlite3, sys, threading
from storage.group_commit import GroupCommit

path, name, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
connection.execute("PRAGMA synchronous=full")
commits = GroupCommit(connection, 5)
saying = threading.Lock()

def work(thread):
    number = 0
    while True:
        text = f"{name}-{thread}-{number}"
        with commits.transaction(lambda _: None):
            connection.execute("INSERT INTO note VALUES (?)", (text,))
            connection.execute("INSERT INTO note VALUES (?)", (text,))
        with saying:
            print(text, flush=True)
        number += 1

for thread in range(threads):
    threading.Thread(target=work, args=(thread,)).start()
"""


def start_process(file: Path, name: str, threads: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", PROCESS, str(file), name, str(threads)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_rel_05_what_two_killed_processes_acknowledged_is_there_and_whole(writer: Writer) -> None:
    chance = random.Random(3)  # noqa: S311 - it decides when the kill comes
    for number in range(3):
        processes = [start_process(writer.file, f"{number}-{name}", 6) for name in "ab"]
        heads = [process.stdout.readline() for process in processes if process.stdout]
        time.sleep(chance.random() / 4)
        for process in processes:
            process.kill()
        tails = [process.communicate()[0] for process in processes]
        # A last line without its end was cut off.
        lines = "".join([*heads, *(tail[: tail.rfind("\n") + 1] for tail in tails)])
        acknowledged = set(lines.split())
        kept = writer.on_disk()
        assert acknowledged <= set(kept)
        assert kept[::2] == kept[1::2]
        for _ in range(2):
            writer.write("after")


def test_atm_04_a_busy_process_leaves_another_its_turns(writer: Writer) -> None:
    """It takes the file again the moment it lets go, and whoever asks rarely never finds it free."""
    process = start_process(writer.file, "busy", 1)
    assert process.stdout
    drain = threading.Thread(target=process.stdout.read)
    process.stdout.readline()
    drain.start()
    took = []
    for _ in range(100):
        began = time.monotonic()
        writer.write("seldom")
        took.append(time.monotonic() - began)
        time.sleep(0.005)
    process.kill()
    drain.join()
    process.communicate()
    assert max(took) < 2, sorted(took)[-5:]


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
