"""What a person reads in a log, made harmless: nothing that was sent starts a line of its own or moves the cursor.

Names of methods, headers and the texts of errors come from callers. Escape sequences in them would rewrite what the
terminal shows, and line ends would look like records of ours.
"""

import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Final, TextIO

_PLAIN: Final = (bool, int, float, type(None))
_BELOW: Final = frozenset({"exception", "stack"})
"""Members that are printed below the record, on lines of their own."""

_MARK: Final = "  | "
"""Before each of those lines: a record begins with its time, where the line does."""


class _Shown:
    """A value with the text that is printed for it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def printable(_logger: object, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what is not printable in the names and values of a record: a processor for structlog."""
    return {_escaped(name): value if name == "exc_info" else _harmless(name, value) for name, value in record.items()}


def _harmless(name: str, value: object) -> object:
    if isinstance(value, _PLAIN):
        return value
    if name in _BELOW:
        return _marked(value if isinstance(value, str) else repr(value))
    if not isinstance(value, str):
        text = repr(value)
        return value if text.isprintable() else _Shown(_escaped(text))
    if value.isprintable():
        return value
    return _escaped(value) if name == "event" else _Shown(repr(value))


def _escaped(text: str) -> str:
    r"""Return `text` with everything unprintable as `\x1b`; this includes line ends and what turns writing round."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def write_traceback(sink: TextIO, exc_info: tuple[type[BaseException], BaseException, TracebackType | None]) -> None:
    """Write an exception with its traceback, without local variables, each line marked."""
    sink.write("\n" + _marked("".join(traceback.format_exception(*exc_info))))


def _marked(text: str) -> str:
    return "\n".join(_MARK + _escaped(line) for line in text.split("\n") if line)
