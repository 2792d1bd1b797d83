"""The logs of all our processes: lines of key=value on standard error.

What an exception says may quote what it was given: a URL with its password, a key, a row. So of one that nobody has
thought of the logs have its type and where it was raised, and neither its text nor the values of variables; also when
it ends the process, a thread or a task. Who knows that a text is safe writes it as `reason`.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from types import TracebackType

import structlog
from structlog.typing import EventDict

_MOST_PLACES = 8

log = structlog.get_logger(__name__)


def configure() -> None:
    """For this process, first thing."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_text,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(asctime)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    sys.excepthook = _process_ends
    threading.excepthook = _thread_ends


def place(error: BaseException) -> str:
    """Where it was raised: function and line."""
    return next(_places(error), "")


def describe(error: BaseException) -> str:
    """Its type and the way to where it was raised. What the system says (no such file) is told as well."""
    said = f" ({error.strerror}: {error.filename})" if isinstance(error, OSError) and error.filename else ""
    where = " < ".join([found for _, found in zip(range(_MOST_PLACES), _places(error), strict=False)])
    return f"{type(error).__name__}{said} in {where}"


def _places(error: BaseException) -> Iterator[str]:
    """The innermost first."""
    frames: list[TracebackType] = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    for frame in reversed(frames):
        yield f"{frame.tb_frame.f_code.co_qualname}:{frame.tb_lineno}"


def _without_text(_logger: object, _method: str, event: EventDict) -> EventDict:
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else sys.exc_info()[1]
    if given and error is not None:
        event["error"] = describe(error)
    return event


class _Plain(logging.Formatter):
    """For what libraries log."""

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        # Below asyncio's first line is the task, and with it the exception's text.
        message = record.getMessage().strip().partition("\n")[0]
        if error is not None:
            message = f"{message}: {describe(error)}"
        bare = logging.makeLogRecord(record.__dict__ | {"msg": message, "args": (), "exc_info": None, "exc_text": None})
        return super().format(bare)


def _process_ends(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    log.critical("process_ended", error=describe(error))


def _thread_ends(what: threading.ExceptHookArgs) -> None:
    if what.exc_value is not None:
        log.critical("thread_ended", error=describe(what.exc_value))
