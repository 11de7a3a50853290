"""The tree that file, environment and flags become before it is checked: values as written, each with its origin."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import attrs

from clonk_core.errors import ConfigError

Tag: TypeAlias = Literal["str", "int", "float", "bool", "null", "timestamp", "raw"]
"""What YAML 1.1 takes a scalar for; `raw` is text from the environment or a flag, read as its setting wants it."""


@attrs.frozen(kw_only=True)
class Origin:
    """Where a value came from.

    Attributes:
        kind: Which layer.
        file: The configuration file, for `file`.
        line: Its line, from 1, for `file`.
        name: The variable's or the flag's name, for `environment` and `flag`.
    """

    kind: Literal["default", "file", "environment", "flag"]
    file: Path | None = None
    line: int = 0
    name: str = ""

    def __str__(self) -> str:
        if self.file is not None:
            return f"{self.file}:{self.line}" if self.line else str(self.file)
        return self.name or self.kind


DEFAULT = Origin(kind="default")


@attrs.frozen(kw_only=True)
class Scalar:
    """One plain value as it was written."""

    text: str
    tag: Tag
    origin: Origin


@attrs.frozen(kw_only=True)
class Items:
    """A list."""

    items: "Sequence[Node]"
    origin: Origin


@attrs.frozen(kw_only=True)
class Table:
    """A mapping; each entry's origin is the line of its key."""

    entries: "Mapping[str, Node]"
    origin: Origin


Node: TypeAlias = Scalar | Items | Table


@attrs.frozen(kw_only=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        origin: Where it was written.
        path: Which setting, `server.http_port` or `auth.api_keys[0].id`; empty for the file as a whole.
        message: What came and what is allowed.
    """

    origin: Origin
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.origin), self.path, self.message) if part)


class ConfigProblems(ConfigError):
    """The configuration is wrong; `problems` has every one, the text one a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def overlay(below: Node | None, path: Sequence[str], node: Node) -> Node:
    """Return the tree `below` with `node` laid over it at `path`.

    Where `below` has something other than a mapping on the way, it stays: checking it says what is wrong with it.
    """
    if not path:
        return node
    if below is None or (isinstance(below, Scalar) and below.tag == "null"):
        below = Table(entries={}, origin=node.origin)
    if not isinstance(below, Table):
        return below
    inner = overlay(below.entries.get(path[0]), path[1:], node)
    return attrs.evolve(below, entries={**below.entries, path[0]: inner})


def nearest(word: str, known: Iterable[str], *, count: int = 1) -> list[str]:
    """Return the known names that look like `word`, best first."""
    return difflib.get_close_matches(word, list(known), n=count, cutoff=0.6)


def join(path: str, key: str) -> str:
    """Return the path of `key` below `path`."""
    return f"{path}.{key}" if path else key
