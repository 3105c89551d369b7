"""One log for all: our own events and the records of libraries, JSON lines in production, readable in development.

Two promises are kept here. No library may write what it was given (NOT-04): below WARNING they print SQL with its
parameters, credential ids and bodies, so only uvicorn follows MFA_LOG_LEVEL. And one event is one line that no input
can end, colour or reorder (NOT-05).
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

if TYPE_CHECKING:
    from server.settings import Settings

HANDLER = "mfa-server"
# Connexion quotes the value that breaks a schema, here even in warnings and errors. `server/problems.py` logs these.
QUOTING_LOGGERS = ("connexion.validators", "connexion.middleware.exceptions")


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send all that is logged to one stream, in one form. Calling it again replaces the former choice.

    Args:
        settings: `log_level` is the lowest that is written; `env` decides between JSON lines and columns.
        stream: Where to; standard error by default.
    """
    stream = stream or sys.stderr
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    begin: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    end = _json_lines() if settings.env == "production" else _columns(terminal=stream.isatty())
    structlog.configure(
        processors=[*begin, *end],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    _route_standard_logging(level, stream, begin, end)


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
    # The encoder's own escapes leave nothing but printable ASCII.
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]


def _columns(*, terminal: bool) -> list[Processor]:
    """Columns in colours for a terminal; elsewhere `name=value`, which takes a third of the time."""
    columns = structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=_write_traceback)
    pairs = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)

    def render(logger: WrappedLogger, method: str, event: EventDict) -> Any:
        return (columns if terminal or "exc_info" in event else pairs)(logger, method, event)

    return [_encode, render]


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
