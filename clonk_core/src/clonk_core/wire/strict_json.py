"""JSON bytes to values, exactly: no duplicate names, no numbers that lose digits, no lone surrogates, bounded depth.

orjson does nearly all of it and is quick; what it lets pass (repeated names, and integers beyond 64 bit, which it turns
into floats) is found by two scans, and only then the standard library's slower parser reads the text again.
"""

import json
from typing import Any, Final

import orjson

from clonk_core.errors import ParseError
from clonk_core.messages import JsonValue

MAX_DEPTH: Final = 254
"""Levels of nesting that orjson writes; what could not be written back is not read either."""

_TOO_DEEP: Final = f"not JSON that is read here: nested deeper than {MAX_DEPTH} levels"

_DIGITS: Final = bytes(48 if 48 <= byte <= 57 else 32 for byte in range(256))
"""Translation of every digit to `0` and everything else to a space."""

_LONG_NUMBER: Final = b"0" * 19
"""Shorter runs of digits fit into 64 bits with a sign."""


class RepeatedNames(dict[str, JsonValue]):
    """A JSON object in which a name stood twice.

    Attributes:
        repeated: The first such name.
    """

    repeated: str = ""


def load(data: bytes | str) -> tuple[JsonValue, bool]:
    """Parse one JSON text.

    Integers up to 308 digits keep every digit. The last value of a repeated name stays.

    Returns:
        The value, and whether a name is repeated in any object in it (those objects are then `RepeatedNames`).

    Raises:
        ParseError: Not UTF-8, not JSON, a lone surrogate, a number that is infinite, or nested too deeply.
    """
    if isinstance(data, str):
        try:
            data = data.encode()
        except UnicodeEncodeError as error:
            raise ParseError(f"not JSON: lone surrogate at character {error.start}") from error
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ParseError(f"not JSON: {error}") from error
    if loses_digits(data) or b"\\u003" in data:
        return _load_slowly(data)
    # Every colon of the text is written back, inside strings and out (the escape \u003a is ruled out above), unless a
    # member was dropped because a later one had the same name. So equal counts mean that no name is repeated.
    try:
        written = orjson.dumps(value)
    except TypeError as error:
        raise ParseError(_TOO_DEEP) from error
    if data.count(b":") != written.count(b":"):
        return _load_slowly(data)
    return value, False


def first_repeated(value: JsonValue) -> str | None:
    """Return the first name that is repeated in an object inside `value`, None when there is none."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, RepeatedNames):
            return item.repeated
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return None


def loses_digits(data: bytes) -> bool:
    """Tell whether there may be an integer that orjson would read as a float."""
    return len(data) >= len(_LONG_NUMBER) and _LONG_NUMBER in data.translate(_DIGITS)


def _load_slowly(data: bytes) -> tuple[JsonValue, bool]:
    """Parse what orjson has found to be JSON with the standard library: exact integers, repeated names seen."""
    found_repeated = False

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found_repeated
        plain = dict(pairs)
        if len(plain) == len(pairs):
            return plain
        found_repeated = True
        seen: set[str] = set()
        marked = RepeatedNames(plain)
        marked.repeated = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        return marked

    try:
        value = json.loads(data, object_pairs_hook=build)
    except RecursionError as error:
        raise ParseError(_TOO_DEEP) from error
    except ValueError as error:  # pragma: no cover - orjson has read it; the two parsers would have to disagree
        raise ParseError(f"not JSON: {error}") from error
    if _is_too_deep(value):
        raise ParseError(_TOO_DEEP)
    return value, found_repeated


def _is_too_deep(value: JsonValue) -> bool:
    """Tell whether containers are nested deeper than `MAX_DEPTH`, level by level and so without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[JsonValue] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return False
        level = below
    return True
