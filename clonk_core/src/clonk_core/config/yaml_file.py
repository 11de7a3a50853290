"""YAML to nodes: line numbers kept, duplicate keys refused, size, depth and aliases bounded."""

from pathlib import Path
from typing import Any, Final

import yaml

from clonk_core.config.nodes import ConfigProblems, Items, Node, Origin, Problem, Scalar, Table, Tag

MAX_BYTES: Final = 1024 * 1024
"""A configuration is written by hand; a megabyte is a wrong file."""

MAX_NODES: Final = 20_000
"""Values after aliases are followed: nine lists of nine aliases each would be 387 million."""

MAX_DEPTH: Final = 32
"""Deeper than any section; keeps a hostile file from exhausting the interpreter's stack."""

_PREFIX: Final = "tag:yaml.org,2002:"
_TAGS: Final[dict[str, Tag]] = {
    _PREFIX + "str": "str",
    _PREFIX + "int": "int",
    _PREFIX + "float": "float",
    _PREFIX + "bool": "bool",
    _PREFIX + "null": "null",
    _PREFIX + "timestamp": "timestamp",
    # A lone `=`, which YAML 1.1 gives a meaning that nobody uses.
    _PREFIX + "value": "str",
}


class _Refused(yaml.YAMLError):
    """A limit of ours, with the line."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


class _Loader(yaml.SafeLoader):
    """Composes nodes, no objects; counts what it builds."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.composed = 0
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.composed += 1
        self.depth += 1
        line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
        if self.composed > MAX_NODES:
            raise _Refused(line, f"more than {MAX_NODES} values")
        if self.depth > MAX_DEPTH:
            raise _Refused(line, f"nested deeper than {MAX_DEPTH} levels")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def read_file(path: Path) -> Table:
    """Read a configuration file.

    Raises:
        ConfigProblems: It cannot be read, is no UTF-8, no YAML, too large, or its top is no mapping.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _problem(path, 0, f"cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise _problem(path, 0, f"is larger than {MAX_BYTES // 1024} KiB; is it the right file?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _problem(path, line, "is not UTF-8 here") from error
    node = read_text(text, Origin(kind="file", file=path, line=1))
    if node is None or (isinstance(node, Scalar) and node.tag == "null"):
        return Table(entries={}, origin=Origin(kind="file", file=path, line=1))
    if not isinstance(node, Table):
        raise ConfigProblems(
            [Problem(origin=node.origin, path="", message="the file must hold keys such as `server:`")]
        )
    return node


def read_text(text: str, origin: Origin) -> Node | None:
    """Parse YAML; None when there is nothing in it.

    Args:
        text: One YAML document.
        origin: Where it came from; for a file each node gets its own line.

    Raises:
        ConfigProblems: It is no YAML, or has what Clonk's configuration does not take.
    """
    try:
        # The reader itself refuses control characters when the loader is made.
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
        return None if root is None else _Converter(origin).convert(root, "", 0)
    except _Refused as error:
        raise ConfigProblems([_at(origin, error.line, error.message)]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigProblems([_at(origin, mark.line + 1 if mark else 0, f"is not valid YAML: {said}")]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigProblems([_at(origin, line, "has a control character that YAML does not allow")]) from error
    except (ValueError, RecursionError) as error:
        raise ConfigProblems([_at(origin, 0, f"is not valid YAML: {error}")]) from error


class _Converter:
    """PyYAML's nodes to ours, following aliases."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._count = 0

    def convert(self, node: yaml.Node, path: str, line: int, depth: int = 0) -> Node:
        """Return our node; `line` is that of its key, 0 for its own."""
        own_line = node.start_mark.line + 1
        self._count += 1
        if self._count > MAX_NODES or depth > MAX_DEPTH:
            raise _Refused(own_line, "aliases unfold into too much; write the values out")
        origin = _place(self._origin, line or own_line)
        if isinstance(node, yaml.ScalarNode):
            return Scalar(text=node.value, tag=self._tag(node, own_line), origin=origin)
        if isinstance(node, yaml.SequenceNode) and node.tag == _PREFIX + "seq":
            items = [self.convert(item, f"{path}[{i}]", 0, depth + 1) for i, item in enumerate(node.value)]
            return Items(items=tuple(items), origin=origin)
        if isinstance(node, yaml.MappingNode) and node.tag == _PREFIX + "map":
            return Table(entries=self._entries(node, path, depth), origin=origin)
        raise _Refused(own_line, f"the tag {_shown_tag(node.tag)} is not allowed here")

    def _entries(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise _Refused(line, "a key must be a plain name")
            if key_node.tag == _PREFIX + "merge":
                raise _Refused(line, "merge keys (`<<`) are not supported; write the keys out")
            key = key_node.value
            if key in entries:
                where = f"{path}.{key}" if path else key
                raise _Refused(line, f"{where} is given twice, first on line {lines[key]}")
            lines[key] = line
            entries[key] = self.convert(value_node, f"{path}.{key}" if path else key, line, depth + 1)
        return entries

    def _tag(self, node: yaml.ScalarNode, line: int) -> Tag:
        tag = _TAGS.get(node.tag)
        if tag is None:
            raise _Refused(line, f"the tag {_shown_tag(node.tag)} is not allowed here")
        return tag


def _place(origin: Origin, line: int) -> Origin:
    if origin.file is None:
        return origin
    return Origin(kind=origin.kind, file=origin.file, line=line, name=origin.name)


def _at(origin: Origin, line: int, message: str) -> Problem:
    return Problem(origin=_place(origin, line), path="", message=message)


def _problem(path: Path, line: int, message: str) -> ConfigProblems:
    return ConfigProblems([Problem(origin=Origin(kind="file", file=path, line=line), path="", message=message)])


def _shown_tag(tag: Any) -> str:
    return str(tag).replace(_PREFIX, "!!")
