"""Logs: one logger factory per host, human-readable lines on a terminal, JSON otherwise, always on standard error."""

import sys
from collections.abc import MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final, Literal, TextIO, cast

import structlog

from clonk_core.interfaces.host import Log
from clonk_core.observe.log_text import printable, write_traceback

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "pretty"]

_LEVELS: Final[dict[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}

MASK: Final = "********"
_SECRET_WORDS: Final = ("secret", "token", "password", "authorization", "api_key", "bearer", "credential")


_request: ContextVar[tuple[str, str | None] | None] = ContextVar("clonk_request", default=None)
"""The request that the current task works for, and the trace that it belongs to."""


def _mask_secrets(_logger: object, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask members named like a secret: the last net, for what should not have been logged at all."""
    for name in record:
        if _is_named_like_a_secret(name):
            record[name] = MASK
    return record


@lru_cache(maxsize=1000)
def _is_named_like_a_secret(name: str) -> bool:
    """Remembered, since a dozen names come with every request: half the cost of its line."""
    lowered = name.lower()
    return any(word in lowered for word in _SECRET_WORDS)


class request_context:  # noqa: N801 - used like the function that it would be, were that not three times slower
    """Mark everything that is logged inside, by whichever package and in tasks started there.

    Args:
        request_id: Names the request (`req_...`).
        trace_id: The trace that it belongs to, 32 hex digits; None where none was told.
    """

    def __init__(self, request_id: str, trace_id: str | None = None) -> None:
        self._ids = (request_id, trace_id)

    def __enter__(self) -> None:
        self._token = _request.set(self._ids)

    def __exit__(self, *_error: object) -> None:
        _request.reset(self._token)


def _add_request(_logger: object, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    request = _request.get()
    if request is not None:
        request_id, trace_id = request
        record.setdefault("request_id", request_id)
        if trace_id is not None:
            record.setdefault("trace_id", trace_id)
    return record


class _Lines:
    """Writes lines to a stream. What cannot be written (a full disk, a closed pipe) is lost: logging harms nobody."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        """Write one line at once."""
        with suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = error = exception = msg


class Logs:
    """Makes the loggers of one host. Nothing here is global: two hosts in one process log apart.

    Args:
        level: The least level that is written.
        format: `pretty` for people, `json` for machines, `auto` to decide by whether `stream` is a terminal.
        stream: Where lines go; standard error when None.
    """

    def __init__(self, *, level: Level = "info", format: Format = "auto", stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        pretty = format == "pretty" or (format == "auto" and self._stream.isatty())
        self._level = _LEVELS[level]
        self._processors: list[Any] = [
            _add_request,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _mask_secrets,
        ]
        if pretty:
            colors = self._stream.isatty()
            # Not the default formatter: that one would print local variables, and with them secrets.
            renderer = structlog.dev.ConsoleRenderer(
                colors=colors, exception_formatter=write_traceback, pad_event_to=24
            )
            self._processors += [printable, renderer]
        else:
            # It writes ASCII alone, everything else as `\u001b`.
            self._processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]

    def get(self, name: str) -> Log:
        """Return the logger that marks its records with `name`."""
        logger = structlog.wrap_logger(
            _Lines(self._stream),
            processors=self._processors,
            wrapper_class=structlog.make_filtering_bound_logger(self._level),
        )
        return cast("Log", logger.bind(logger=name))
