"""One log for all: our own events and the records of libraries, as JSON lines or, for a developer's terminal, columns.

Two promises are kept here. No library may write what it was given (NOT-04): below WARNING they print SQL with its
parameters, credential ids and bodies, so only uvicorn follows MFA_LOG_LEVEL. And one event is one line that no input
can end, colour or reorder (NOT-05).
"""

from __future__ import annotations

import io
import json
import logging
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

if TYPE_CHECKING:
    from server.settings import Settings

HANDLER = "mfa-server"
# Connexion quotes the value that breaks a schema, here even in warnings and errors. `server/problems.py` logs these.
QUOTING_LOGGERS = ("connexion.validators", "connexion.middleware.exceptions")


class NeverFails(io.TextIOBase):
    """A stream for the log. No request fails because its line cannot be written, as on a full disk: the line comes late
    or not at all, and as soon as there is room again the log says of how many that is so.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._missed = 0

    def write(self, line: str) -> int:
        told = f'{{"event":"log.interrupted","level":"warning","lines":{self._missed}}}\n' if self._missed else ""
        try:
            self._stream.write(told + line)
            self._stream.flush()
        except OSError:
            self._missed += 1
        else:
            self._missed = 0
        return len(line)


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send all that is logged to one stream, in one form. Calling it again replaces the former choice.

    Args:
        settings: `log_level` is the lowest that is written; in development a terminal gets columns.
        stream: Where to; standard error by default.
    """
    stream = stream or sys.stderr
    steady: Any = NeverFails(stream)
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    begin: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    readable = settings.env == "development" and stream.isatty()
    end = _columns() if readable else _json_lines()
    structlog.configure(
        processors=[*begin, *end],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(steady),
        cache_logger_on_first_use=True,
    )
    _route_standard_logging(level, steady, begin, end)


def let_go() -> None:
    """For the end of the process: give up what could not be written. Python would try once more, and exit with 120."""
    try:
        sys.stderr.flush()
    except OSError:
        sys.stderr = io.StringIO()


def _route_standard_logging(level: int, stream: TextIO, begin: Sequence[Processor], end: Sequence[Processor]) -> None:
    handler = logging.StreamHandler(stream)
    handler.set_name(HANDLER)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *begin],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *end],
        )
    )
    root = logging.getLogger()
    for former in [each for each in root.handlers if each.name == HANDLER]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("uvicorn").setLevel(level)
    for name in QUOTING_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _json_lines() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]


def _json(event: EventDict, **_: Any) -> str:
    """JSON of printable ASCII, in which any character can be read and none ends the line."""
    with suppress(TypeError):  # Lone surrogates and the like; then the slower encoder does it.
        line = orjson.dumps(event, default=str).decode()
        if line.isascii():
            return line
    return json.dumps(event, default=str)


def _columns() -> list[Processor]:
    return [_encode, structlog.dev.ConsoleRenderer(colors=True, exception_formatter=_write_traceback)]


def _encode(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Make every name and value printable; only the traceback is left for the renderer."""
    exception = {"exc_info": event.pop("exc_info")} if "exc_info" in event else {}
    return {_printable(str(name)): _printable(str(value)) for name, value in event.items()} | exception


def _printable(text: str) -> str:
    """Escape control, format and separator characters, as `repr` does."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _write_traceback(stream: TextIO, error: tuple[type[BaseException], BaseException, TracebackType | None]) -> None:
    """The plain traceback, without local variables, indented so that no line of it passes for an event."""
    lines = "".join(traceback.format_exception(*error)).splitlines()
    stream.write("".join(f"\n    {_printable(line)}" for line in lines))
