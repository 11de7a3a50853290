"""What the decoders raise and how they say it: problems with paths, in words a caller understands."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

MAX_PROBLEMS: Final = 11
"""Problems gathered before decoding gives up: the one told, and ten more to mend in the same go."""

_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")

_KIND_NAMES: Final[Mapping[type, str]] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


class Misfit(Exception):
    """A JSON value does not fit a type.

    Attributes:
        problems: Path below the value (`.items[2].name`, empty for itself) and what is wrong there; never empty.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__(problems)
        self.problems = problems


def misfit(text: str) -> Misfit:
    """Return the misfit of a value itself."""
    return Misfit([("", text)])


def wrong_kind(expects: str, value: Any) -> Misfit:
    """Return the misfit of a value of another JSON type than the one allowed."""
    return misfit(f"expected {expects}, got {kind_name(value)}")


def kind_name(value: Any) -> str:
    """Name a value's JSON type; the value itself is not shown, it may be a secret."""
    return _KIND_NAMES.get(type(value), f"a {type(value).__name__}")


def member_path(name: str) -> str:
    """Return the step of a JSONPath to an object's member."""
    if _PLAIN_NAME.fullmatch(name):
        return f".{name}"
    shown = name if len(name) <= 100 else name[:100] + "…"
    escaped = shown.replace("\\", "\\\\").replace("'", "\\'")
    return f"['{escaped}']"


def unknown_name(name: str, known: Collection[str]) -> str:
    """Return the text for a name that nothing has, with the nearest that something has."""
    near = difflib.get_close_matches(name[:100], known, n=1)
    if near:
        return f"unknown name; did you mean {near[0]!r}?"
    return f"unknown name; known are {', '.join(sorted(known))}" if known else "unknown name; none is taken"


def below(step: str, error: Misfit) -> list[tuple[str, str]]:
    """Return the problems of an inner value, seen from the outer one."""
    return [(step + path, text) for path, text in error.problems]
