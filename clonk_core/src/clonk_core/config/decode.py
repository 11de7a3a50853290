"""Nodes to settings objects: strict, every problem collected, each with its place and what is allowed."""

import re
from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import attrs

from clonk_core.config.nodes import (
    DEFAULT,
    ConfigProblems,
    Items,
    Node,
    Origin,
    Problem,
    Scalar,
    Table,
    join,
    nearest,
)
from clonk_core.config.types import choices, describe, fields, is_section, split, violated
from clonk_core.config.yaml_file import read_text

MASK: Final = "********"
"""What is shown in place of a secret."""

_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_HEXADECIMAL: Final = re.compile(r"[-+]?0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_TRUE: Final = frozenset({"true", "yes", "on"})


class _Failed:
    """Stands for a value that was a problem."""


FAILED: Final = _Failed()


@attrs.define(kw_only=True)
class Decoder:
    """Decodes one configuration.

    Attributes:
        file_base: Folder that relative paths in the file are relative to.
        cwd: Folder that relative paths in environment and flags are relative to.
        home: What `~` stands for.
        problems: What was wrong so far.
        origins: Where each value came from, by path; what is missing here is the default.
    """

    file_base: Path
    cwd: Path
    home: Path
    problems: list[Problem] = attrs.field(factory=list)
    origins: dict[str, Origin] = attrs.field(factory=dict)

    def section(self, cls: type[Any], node: Node, path: str, *, also: Sequence[str] = ()) -> Any:
        """Return an instance of a settings class, `FAILED` when anything below was wrong.

        Args:
            cls: The class.
            node: What was given; null is an empty section.
            path: Its path, empty for the top.
            also: Keys that belong to others and are passed over.
        """
        if isinstance(node, Scalar) and node.tag == "null":
            node = Table(entries={}, origin=node.origin)
        if isinstance(node, Scalar) and node.tag == "raw":
            example = f"{node.origin.name}__{next(iter(fields(cls))).upper()}"
            return self._fail(node, path, f"is a section; set its keys one by one, such as {example}")
        if not isinstance(node, Table):
            return self._wrong(node, path, cls, secret=False)
        known = fields(cls)
        before = len(self.problems)
        for key, entry in node.entries.items():
            if key not in known and key not in also:
                self._unknown(entry, path, key, [*known, *also])
        values: dict[str, Any] = {}
        for key, field in known.items():
            if key in node.entries:
                secret = bool(field.metadata.get("secret"))
                values[key] = self.value(field.type, node.entries[key], join(path, key), secret=secret)
            elif field.default is attrs.NOTHING:
                self._fail(node, path, f"{key} is missing: {describe(field.type)}")
        if len(self.problems) > before:
            return FAILED
        try:
            return cls(**values)
        except (ValueError, TypeError) as error:  # what attrs validators raise
            return self._fail(node, path, str(error))

    def value(self, annotation: Any, node: Node, path: str, *, secret: bool = False) -> Any:
        """Return the value of one setting, `FAILED` when it was wrong."""
        inner, bounds = split(annotation)
        members = choices(inner)
        if len(members) > 1:
            return self._union(annotation, members, node, path, secret=secret)
        if is_section(inner):
            return self.section(inner, node, path)
        self.origins[path] = node.origin
        origin = get_origin(inner)
        if origin in {tuple, list, dict} or inner in {int, float, bool}:
            node = self._parsed(node)
        if origin in {tuple, list}:
            decoded = self._items(inner, node, path, annotation, secret=secret)
        elif origin is dict:
            decoded = self._mapping(inner, node, path, annotation, secret=secret)
        else:
            decoded = self._scalar(inner, node, path, annotation, secret=secret)
        if decoded is not FAILED and violated(decoded, bounds):
            return self._wrong(node, path, annotation, secret=secret)
        return decoded

    def _union(self, annotation: Any, members: Sequence[Any], node: Node, path: str, *, secret: bool) -> Any:
        if isinstance(node, Scalar) and node.tag == "null" and type(None) in members:
            self.origins[path] = node.origin
            return None
        wanted = [member for member in members if member is not type(None)]
        if len(wanted) == 1:
            return self.value(wanted[0], node, path, secret=secret)
        for member in wanted:
            trial = attrs.evolve(self, problems=[], origins={})
            value = trial.value(member, node, path, secret=secret)
            if value is not FAILED:
                self.origins.update(trial.origins)
                return value
        return self._wrong(node, path, annotation, secret=secret)

    def _items(self, inner: Any, node: Node, path: str, annotation: Any, *, secret: bool) -> Any:
        if not isinstance(node, Items):
            return self._wrong(node, path, annotation, secret=secret)
        item_type = get_args(inner)[0]
        values = [self.value(item_type, item, f"{path}[{i}]", secret=secret) for i, item in enumerate(node.items)]
        if any(value is FAILED for value in values):
            return FAILED
        return values if get_origin(inner) is list else tuple(values)

    def _mapping(self, inner: Any, node: Node, path: str, annotation: Any, *, secret: bool) -> Any:
        if not isinstance(node, Table):
            return self._wrong(node, path, annotation, secret=secret)
        _, value_type = get_args(inner)
        values = {
            key: self.value(value_type, entry, join(path, key), secret=secret) for key, entry in node.entries.items()
        }
        return FAILED if any(value is FAILED for value in values.values()) else values

    def _scalar(self, inner: Any, node: Node, path: str, annotation: Any, *, secret: bool) -> Any:
        if not isinstance(node, Scalar):
            return self._wrong(node, path, annotation, secret=secret)
        try:
            decoded = self._plain(inner, node)
        except ValueError:
            decoded = FAILED
        if decoded is FAILED:
            return self._wrong(node, path, annotation, secret=secret)
        return decoded

    def _plain(self, inner: Any, node: Scalar) -> Any:
        """Return a scalar as the type wants it, `FAILED` when it does not fit."""
        textual = node.tag in {"str", "raw"}
        if get_origin(inner) is Literal:
            return next((choice for choice in get_args(inner) if _is_choice(choice, node)), FAILED)
        if inner is bool:
            return node.text.lower() in _TRUE if node.tag == "bool" else FAILED
        if inner is int:
            return _whole_number(node)
        if inner is float:
            # YAML 1.1 takes `1e3`, without a point, for text.
            return float(node.text.replace("_", "")) if node.tag != "bool" and _FLOAT.fullmatch(node.text) else FAILED
        if inner is str:
            return node.text if textual else FAILED
        if inner is Path:
            return self._path(node) if textual and node.text and "\0" not in node.text else FAILED
        if inner is datetime:
            return _time(node.text)
        if isinstance(inner, type) and issubclass(inner, Enum):
            return inner(node.text)
        raise TypeError(f"settings cannot be of type {inner!r}")

    def _path(self, node: Scalar) -> Path:
        text = node.text
        if text == "~" or text.startswith("~/"):
            return self.home / text[2:]
        return (self.file_base if node.origin.kind == "file" else self.cwd) / text

    def _parsed(self, node: Node) -> Node:
        """Return text of the environment or a flag as the YAML that it is."""
        if not isinstance(node, Scalar) or node.tag != "raw":
            return node
        try:
            return read_text(node.text, node.origin) or node
        except ConfigProblems:
            return node

    def _unknown(self, node: Node, path: str, key: str, known: Sequence[str]) -> None:
        near = nearest(key, known)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
        if not path and not near:
            hint += " (sections of plugins are known when the plugin is installed)"
        self._fail(node, join(path, key), f"there is no such key; {hint}")

    def _wrong(self, node: Node, path: str, annotation: Any, *, secret: bool) -> Any:
        trap = "" if secret else _trap(annotation, node)
        came = "what is given" if secret else shown(node)
        return self._fail(node, path, f"{came} is not allowed{trap}; allowed is {describe(annotation)}")

    def _fail(self, node: Node, path: str, message: str) -> Any:
        self.problems.append(Problem(origin=node.origin, path=path, message=message))
        return FAILED


def shown(node: Node) -> str:
    """Return what was written, short, for a message."""
    if isinstance(node, Items):
        return "a list"
    if isinstance(node, Table):
        return "a mapping"
    if node.tag == "null":
        return "an empty value"
    text = node.text if len(node.text) <= 60 else node.text[:60] + "…"
    return f'"{text}"' if node.tag in {"str", "raw"} else text


def _whole_number(node: Scalar) -> Any:
    if node.tag != "int":
        return FAILED
    if _INTEGER.fullmatch(node.text) and len(node.text) <= 40:
        return int(node.text.replace("_", ""))
    return int(node.text, 16) if _HEXADECIMAL.fullmatch(node.text) and len(node.text) <= 40 else FAILED


def _time(text: str) -> Any:
    time = datetime.fromisoformat(text.strip())
    return time if time.tzinfo is not None else FAILED


def _is_choice(choice: Any, node: Scalar) -> bool:
    if isinstance(choice, str):
        return node.tag in {"str", "raw"} and node.text == choice
    if isinstance(choice, bool):
        return node.tag in {"bool", "raw"} and (node.text.lower() in _TRUE) == choice
    return node.tag in {"int", "raw"} and node.text == str(choice)


def _trap(annotation: Any, node: Node) -> str:
    """Return an explanation when YAML 1.1 took the value for something that nobody meant."""
    if not isinstance(node, Scalar) or node.origin == DEFAULT:
        return ""
    if node.tag == "int" and ":" in node.text:
        return f' (YAML takes digits with colons for a number in base sixty; if text is meant, write "{node.text}")'
    if node.tag == "int" and node.text.lstrip("+-").startswith("0") and len(node.text) > 1:
        return " (YAML takes a number with a leading zero for an octal one; write it without the zero)"
    if node.tag == "null" and node.text == "~":
        return ' (without quotes YAML takes it for null; write "~")'
    wants_text = any(
        split(member)[0] in {str, Path} or (get_origin(split(member)[0]) is Literal) for member in choices(annotation)
    )
    if wants_text and node.tag in {"bool", "int", "float", "timestamp"}:
        kind = {"bool": "true or false", "int": "a number", "float": "a number", "timestamp": "a time"}[node.tag]
        return f' (without quotes YAML takes it for {kind}; write "{node.text}")'
    return ""
