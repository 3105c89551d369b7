"""The log: one line an event, readable or JSON, without what libraries were given and without what input forges."""

from __future__ import annotations

import errno
import io
import json
import logging
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any, Literal

import peewee
import pytest
import structlog

from server import logs
from server.settings import Settings

MARKER = "hush-marker-hush"
FORGERY = f"x\r\n2026-01-01T00:00:00Z [info] forged\x1b[31m\x00\x85\u2028\u202e{MARKER}"

# What a forger wants to write is escaped, and so none of these.
OUR_COLOURS = re.compile("(?<!forged)\x1b\\[\\d+m")
on_a_terminal_or_not = pytest.mark.parametrize("tty", [True, False], ids=["columns", "lines"])

Configure = Callable[..., io.StringIO]


@pytest.fixture
def configure() -> Iterator[Configure]:
    """Configures the log into a buffer; afterwards all loggers are as before."""
    root = logging.getLogger()
    names = ("uvicorn", *logs.QUOTING_LOGGERS)
    levels = {name: logging.getLogger(name).level for name in names}
    handlers, level = list(root.handlers), root.level

    def into_buffer(
        env: Literal["development", "production"] = "production", log_level: str = "debug", *, tty: bool = False
    ) -> io.StringIO:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return tty

        stream = Terminal()
        logs.configure(Settings.model_construct(env=env, log_level=log_level), stream)
        return stream

    yield into_buffer
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, former in levels.items():
        logging.getLogger(name).setLevel(former)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def lines_of(stream: io.StringIO) -> list[str]:
    """The lines without the colours that we give them."""
    return OUR_COLOURS.sub("", stream.getvalue()).removesuffix("\n").split("\n")


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_production_writes_json_lines_with_time_level_event_and_request(configure: Configure) -> None:
    stream = configure("production")
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger().warning("mail.delayed", attempts=2)
    (event,) = events(stream)
    at = datetime.fromisoformat(event.pop("timestamp"))
    assert at.utcoffset() == timedelta(0)
    assert event == {"event": "mail.delayed", "level": "warning", "request_id": "r-1", "attempts": 2}


@pytest.mark.parametrize("env", ["development", "production"])
@on_a_terminal_or_not
def test_only_development_on_a_terminal_has_colours(configure: Configure, env: str, tty: bool) -> None:
    stream = configure(env, tty=tty)
    structlog.get_logger().info("mail.sent", template="code")
    assert "mail.sent" in stream.getvalue()
    assert ("\x1b[" in stream.getvalue()) == (tty and env == "development")


def test_records_of_libraries_have_the_same_form(configure: Configure) -> None:
    stream = configure("production")
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    (event,) = events(stream)
    assert event["event"] == "Started server process [7]"
    assert event["logger"] == "uvicorn.error"
    assert event["level"] == "info"
    assert event["request_id"] == "r-1"


def test_configuring_twice_does_not_write_twice(configure: Configure) -> None:
    earlier, later = configure(), configure()
    logging.getLogger("uvicorn.error").info("once")
    structlog.get_logger().info("once")
    assert earlier.getvalue() == ""
    assert len(events(later)) == 2


@pytest.mark.parametrize(("level", "written"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_that_of_the_setting(configure: Configure, level: str, written: int) -> None:
    stream = configure(log_level=level)
    for log in (structlog.get_logger(), logging.getLogger("uvicorn.error")):
        for method in ("debug", "info", "warning", "error"):
            getattr(log, method)("event")
    assert len(events(stream)) == 2 * written


@pytest.mark.parametrize("env", ["development", "production"])
def test_not_04_at_debug_no_library_writes_what_it_was_given(configure: Configure, env: str) -> None:
    stream = configure(env)
    database: Any = peewee.SqliteDatabase(":memory:")  # Untyped in parts.
    database.execute_sql("SELECT ?", (MARKER,))
    database.close()
    for name in ("peewee", "fido2.server", "httpx", "httpcore.http11", "connexion.security", "asyncio", "smtplib"):
        logging.getLogger(name).debug("given %s", MARKER)
        logging.getLogger(name).info("given %s", MARKER)
    # These quote the rejected value in warnings and errors.
    for name in ("connexion.validators.json", "connexion.validators.form_data", "connexion.middleware.exceptions"):
        logging.getLogger(name).warning("given %s", MARKER)
        logging.getLogger(name).error("given %s", MARKER)
    assert stream.getvalue() == ""


@on_a_terminal_or_not
def test_not_05_no_input_ends_colours_or_turns_a_line(configure: Configure, tty: bool) -> None:
    stream = configure("development", tty=tty)
    structlog.get_logger().info("request", path=FORGERY, nested={"key": [FORGERY]}, error=ValueError(FORGERY))
    structlog.get_logger().info(FORGERY)
    logging.getLogger("uvicorn.error").warning("refused %s", FORGERY)
    lines = lines_of(stream)
    assert len(lines) == 3
    assert all(line.isprintable() and MARKER in line for line in lines)


@on_a_terminal_or_not
@pytest.mark.parametrize("logger", ["structlog", "logging"])
def test_an_exception_is_written_with_traceback_but_without_local_variables(
    configure: Configure, tty: bool, logger: str
) -> None:
    stream = configure("development", tty=tty)
    log = structlog.get_logger() if logger == "structlog" else logging.getLogger("uvicorn.error")
    local = "".join(reversed(MARKER))
    try:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute(local)
    except sqlite3.Error:
        log.exception("internal_error")
    text = stream.getvalue()
    assert "Traceback (most recent call last)" in text
    assert "OperationalError" in text
    assert local not in text


@on_a_terminal_or_not
def test_not_05_no_line_of_a_traceback_passes_for_an_event(configure: Configure, tty: bool) -> None:
    stream = configure("development", tty=tty)
    try:
        raise ValueError(FORGERY)
    except ValueError:
        structlog.get_logger().exception("internal_error")
        logging.getLogger("uvicorn.error").exception("failed")
    lines = lines_of(stream)
    assert all(line.isprintable() for line in lines)
    beginning = "20" if tty else "{"
    assert sum(line.startswith(beginning) for line in lines) == 2
    assert all(line.startswith((beginning, "    ")) for line in lines)


def test_a_full_disk_costs_lines_and_nothing_else_and_is_told_when_there_is_room(configure: Configure) -> None:
    configure()

    class Disk(io.StringIO):
        is_full = False

        def write(self, text: str) -> int:
            if self.is_full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(text)

    disk = Disk()
    logs.configure(Settings.model_construct(env="production", log_level="debug"), disk)
    for number in range(4):
        disk.is_full = number in (1, 2)
        structlog.get_logger().info(f"event {number}")
        logging.getLogger("uvicorn").info("record %s", number)
    written = [json.loads(line) for line in lines_of(disk)]
    assert [line["event"] for line in written] == ["event 0", "record 0", "log.interrupted", "event 3", "record 3"]
    assert written[2]["lines"] == 4
