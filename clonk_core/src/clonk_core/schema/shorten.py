"""JSON values made short enough to be written down: what is long is cut, and told by its size and digest."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import orjson

from clonk_core.messages import JsonValue

MASK: Final = "********"
"""Stands in place of a secret."""

MAX_NAME: Final = 64
"""Characters of a member's name that are kept."""

_MAX_DEPTH: Final = 12
_REST: Final = "…"
"""Stands in place of what is too deep, and for the members and items that are left out."""

_LEAST: Final = 16
"""Bytes below which nothing is worth to be kept."""


class Shape(Protocol):
    """What may be shown of the value in one place. Where everything may, there is None in place of a shape."""

    def shows(self, value: JsonValue) -> bool:
        """Tell whether a value may be shown: a text or number as it is, a container as far as what is in it may be."""

    def member(self, name: str) -> "Shape | None":
        """Return the shape of a member of an object that stands here."""

    def item(self, index: int) -> "Shape | None":
        """Return the shape of an item of a list that stands here."""


def shorten(value: JsonValue, max_bytes: int, shape: Shape | None = None) -> JsonValue:
    """Return a value whose JSON text is at most `max_bytes` long; one that is not longer comes back as it is.

    A long text keeps its beginning: `Once upon a…(4711 bytes, sha256:0123456789abcdef)`. Of an object or a list the
    first members stay, as far as there is room, and the last one says how many are missing. What is no JSON is told by
    its class. Nothing is raised, and no more is looked at than is kept.

    Args:
        value: Any JSON value.
        max_bytes: Most bytes of its JSON text; below 16 the answer may be up to 16 long.
        shape: What may be shown of it; what may not is masked. Everything when None.
    """
    room = max_bytes
    while room >= _LEAST:
        cutter = _Cutter(room)
        short = cutter.cut(value, shape, _MAX_DEPTH)
        # Marks of what is left out are not counted beforehand; when they are too many, the rest gets less room.
        if cutter.fits or len(orjson.dumps(short)) <= max_bytes:
            return short
        room = room * 3 // 4
    return {} if isinstance(value, Mapping) else _REST


class _Cutter:
    """Walks over one value with so much room left."""

    def __init__(self, room: int) -> None:
        self._has_cut = False
        self._left = room
        # Half of the room, so that one long text leaves some for the members behind it.
        self._longest_text = room // 2

    @property
    def fits(self) -> bool:
        """Whether nothing was left out, and there was room for all."""
        return not self._has_cut and self._left >= 0

    def cut(self, value: JsonValue, shape: Shape | None, depth: int) -> JsonValue:  # noqa: PLR0911 - one for each type
        if value is None:
            self._left -= 5
            return None
        if shape is not None and not shape.shows(value):
            self._left -= len(MASK) + 3
            return MASK
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, bool):
            self._left -= 6
            return value
        if isinstance(value, int):
            return self._integer(value)
        if isinstance(value, float):
            self._left -= 26
            return value if math.isfinite(value) else None
        if isinstance(value, Mapping):
            return self._object(value, shape, depth - 1) if depth else self._left_out()
        if isinstance(value, list | tuple):
            return self._list(value, shape, depth - 1) if depth else self._left_out()
        return self._text(f"({type(value).__name__})")

    def _object(self, value: Mapping[Any, JsonValue], shape: Shape | None, depth: int) -> JsonValue:
        self._left -= 3
        kept: dict[str, JsonValue] = {}
        for name, item in value.items():
            if self._left <= 0:
                kept[_REST] = f"{len(value) - len(kept)} more"
                self._has_cut = True
                break
            short_name = self._name(name)
            kept[short_name] = self.cut(item, shape and shape.member(str(name)), depth)
        return kept

    def _list(self, value: Sequence[JsonValue], shape: Shape | None, depth: int) -> JsonValue:
        self._left -= 3
        kept: list[JsonValue] = []
        for index, item in enumerate(value):
            if self._left <= 0:
                kept.append(f"{_REST}{len(value) - index} more")
                self._has_cut = True
                break
            kept.append(self.cut(item, shape and shape.item(index), depth))
        return kept

    def _name(self, name: object) -> str:
        text = str(name)
        if len(text) > MAX_NAME:
            text = text[:MAX_NAME] + _REST
            self._has_cut = True
        text, size = _sized(text)
        self._left -= size + 1
        return text

    def _integer(self, value: int) -> JsonValue:
        if -(2**63) <= value < 2**63:
            self._left -= len(str(value)) + 1
            return value
        # Beyond what is written as JSON here, and perhaps beyond what Python is willing to write in decimals.
        return self._text(hex(value))

    def _text(self, value: str) -> str:
        longest = min(self._longest_text, max(self._left, _LEAST))
        if len(value) <= longest:
            text, size = _sized(value)
            if size <= longest + 2:
                self._left -= size + 1
                return text
        self._has_cut = True
        encoded = value.encode(errors="replace")
        digest = hashlib.sha256(encoded).hexdigest()[:16]
        begin = _beginning(value, longest)
        self._left -= longest + 48
        return f"{begin}{_REST}({len(encoded)} bytes, sha256:{digest})"

    def _left_out(self) -> str:
        self._left -= 6
        self._has_cut = True
        return _REST


def _sized(text: str) -> tuple[str, int]:
    """Return a text, without halves of surrogate pairs, and the bytes that it takes as JSON."""
    try:
        return text, len(orjson.dumps(text))
    except TypeError:
        text = text.encode(errors="replace").decode()
        return text, len(orjson.dumps(text))


def _beginning(text: str, longest: int) -> str:
    """Return the beginning of a text that takes up to `longest` bytes as JSON."""
    begin, size = _sized(text[:longest])
    while size > longest + 2:
        begin, size = _sized(begin[: len(begin) * longest // size])
    return begin
