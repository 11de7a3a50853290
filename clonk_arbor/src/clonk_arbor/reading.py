"""Reads an exported tree: each line checked, then that the nodes are one forest. No database here."""

import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from clonk_arbor.identifiers import node_ids
from clonk_arbor.limits import MAX_DEPTH, MAX_IMPORT_BYTES, MAX_POSITIONS, MAX_ROOTS
from clonk_arbor.store.nodes import NewNode
from clonk_arbor.values import json_text, metadata_text, now, stored_content
from clonk_core.plugin import InvalidParams, TooLarge

_NAME: Final = re.compile(r"[^\u0000-\u001f\u007f]+")
_NODE_ID: Final = re.compile(r"node_[A-Za-z0-9_-]{1,59}")
MAX_TREE_NAME: Final = 200
MAX_POSITION_NAME: Final = 100

_MEMBERS: Final = {
    "tree": frozenset({"tree", "name", "metadata", "created_at"}),
    "node": frozenset({"node", "parent", "content", "metadata", "created_at"}),
    "position": frozenset({"position", "node", "metadata"}),
}


@attrs.frozen
class ReadPosition:
    """A position: its name, the place of its node in the list, its metadata as JSON."""

    name: str
    node: int
    metadata: str


@attrs.frozen
class ReadTree:
    """A tree, checked.

    Attributes:
        name: What people call it.
        metadata: JSON text.
        nodes: Each behind its parent.
        parents: The place of each one's parent in the list; None for a root.
        positions: Its positions.
    """

    name: str
    metadata: str
    nodes: Sequence[NewNode]
    parents: Sequence[int | None]
    positions: Sequence[ReadPosition]


def read_lines(text: str, *, keep_ids: bool, max_content_bytes: int) -> ReadTree:
    """Return the tree that JSON lines tell of.

    Args:
        text: As `arbor.tree_export` gives it.
        keep_ids: Give the nodes the ids that stand there, not new ones.
        max_content_bytes: Largest content of a node.

    Raises:
        InvalidParams: Something is wrong, with the line.
        TooLarge: It is too long, or a node is.
    """
    size = len(text)
    if size > MAX_IMPORT_BYTES:
        raise TooLarge(f"{size} characters, the limit is {MAX_IMPORT_BYTES}", limit=MAX_IMPORT_BYTES, size=size)
    return _Reading(keep_ids=keep_ids, max_content_bytes=max_content_bytes).read(text)


class _Reading:
    """One text being read."""

    def __init__(self, *, keep_ids: bool, max_content_bytes: int) -> None:
        self._keep_ids = keep_ids
        self._max_content_bytes = max_content_bytes
        self._now = now()
        self._head: tuple[str, str] | None = None
        self._nodes: list[NewNode] = []
        self._parent_ids: list[str | None] = []
        self._places: dict[str, int] = {}
        self._positions: dict[str, ReadPosition] = {}

    def read(self, text: str) -> ReadTree:
        """Read all of it."""
        for number, line in _lines(text):
            self._read_line(line, f"line {number}")
        if self._head is None:
            raise _wrong('must begin with the line of a tree: {"tree": 1, "name": ...}')
        name, metadata = self._head
        parents = [self._parent_place(place, parent) for place, parent in enumerate(self._parent_ids)]
        if sum(1 for parent in parents if parent is None) > MAX_ROOTS:
            raise _wrong(f"more than {MAX_ROOTS} nodes have no parent")
        order = _parents_first(parents)
        if len(order) < len(parents):
            raise _wrong("nodes are each other's parents in a circle")
        nodes, positions = self._nodes, list(self._positions.values())
        if order != list(range(len(parents))):
            moved = [0] * len(order)
            for new_place, place in enumerate(order):
                moved[place] = new_place
            nodes = [nodes[place] for place in order]
            ordered = [parents[place] for place in order]
            parents = [None if parent is None else moved[parent] for parent in ordered]
            positions = [attrs.evolve(one, node=moved[one.node]) for one in positions]
        if not self._keep_ids:
            nodes = [
                NewNode(new, node.kind, node.size, node.created_at, node.metadata, node.content)
                for new, node in zip(node_ids(len(nodes)), nodes, strict=True)
            ]
        return ReadTree(name, metadata, nodes, parents, positions)

    def _read_line(self, line: str, where: str) -> None:
        try:
            value = json.loads(line, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise _wrong(f"{where}: no JSON: {str(error)[:200]}") from error
        kind = next((one for one in ("tree", "position", "node") if isinstance(value, dict) and one in value), None)
        if kind is None:
            raise _wrong(f"{where}: must be an object with the member `tree`, `node` or `position`")
        unknown = set(value) - _MEMBERS[kind]
        if unknown:
            raise _wrong(f"{where}: unknown member {min(unknown)[:100]!r}")
        if kind == "tree":
            self._read_head(value, where)
        elif self._head is None:
            raise _wrong(f"{where}: the line of the tree must come first")
        elif kind == "node":
            self._read_node(value, where)
        else:
            self._read_position(value, where)

    def _read_head(self, value: dict[str, Any], where: str) -> None:
        if self._head is not None:
            raise _wrong(f"{where}: there is a second tree")
        if value["tree"] != 1 or isinstance(value["tree"], bool):
            raise _wrong(f"{where}: `tree` must be 1, the number of the format")
        name = _short_text(value.get("name"), MAX_TREE_NAME, f"{where}: `name`")
        self._head = name, self._metadata(value, where)

    def _read_node(self, value: dict[str, Any], where: str) -> None:
        node_id = value["node"]
        if not isinstance(node_id, str) or not _NODE_ID.fullmatch(node_id):
            raise _wrong(f"{where}: `node` must be an id, node_ and up to 59 letters, digits, `_` and `-`")
        if node_id in self._places:
            raise _wrong(f"{where}: node {node_id!r} is there twice")
        parent = value.get("parent")
        if parent is not None and not isinstance(parent, str):
            raise _wrong(f"{where}: `parent` must be a node's id, or null")
        if "content" not in value:
            raise _wrong(f"{where}: `content` is missing")
        kind, text, size = stored_content(value["content"], self._max_content_bytes, f"$.lines: {where}: content")
        created_at = self._moment(value.get("created_at"), where)
        self._places[node_id] = len(self._nodes)
        self._parent_ids.append(parent)
        self._nodes.append(NewNode(node_id, kind, size, created_at, self._metadata(value, where), text))

    def _read_position(self, value: dict[str, Any], where: str) -> None:
        name = _short_text(value["position"], MAX_POSITION_NAME, f"{where}: `position`")
        if name in self._positions:
            raise _wrong(f"{where}: position {name!r} is there twice")
        node = value.get("node")
        if not isinstance(node, str) or node not in self._places:
            raise _wrong(f"{where}: `node` must be the id of a node above")
        if len(self._positions) >= MAX_POSITIONS:
            raise _wrong(f"{where}: more than {MAX_POSITIONS} positions")
        self._positions[name] = ReadPosition(name, self._places[node], self._metadata(value, where))

    def _parent_place(self, place: int, parent: str | None) -> int | None:
        if parent is None:
            return None
        found = self._places.get(parent)
        if found is None:
            raise _wrong(f"node {self._nodes[place].id!r}: its parent {parent[:64]!r} is not there")
        return found

    def _moment(self, value: Any, where: str) -> str:
        if value is None:
            return self._now
        try:
            moment = datetime.fromisoformat(value)
        except (TypeError, ValueError) as error:
            raise _wrong(f"{where}: `created_at` must be a time such as 2026-01-31T12:00:00Z") from error
        if moment.tzinfo is None:
            raise _wrong(f"{where}: `created_at` must have a time zone, such as Z")
        try:
            return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
        except OverflowError as error:
            raise _wrong(f"{where}: `created_at` is in no year from 1 to 9999") from error

    def _metadata(self, value: dict[str, Any], where: str) -> str:
        metadata = value.get("metadata")
        if metadata is not None and not isinstance(metadata, dict):
            raise _wrong(f"{where}: `metadata` must be an object")
        return metadata_text(metadata, f"$.lines: {where}: metadata")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Give the lines that hold something, with their numbers."""
    start, number = 0, 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        number += 1
        line = text[start:end]
        if line and not line.isspace():
            yield number, line
        start = end + 1


def _parents_first(parents: Sequence[int | None]) -> list[int]:
    """Return the places so that each comes behind its parent's; those in a circle, and below one, are missing."""
    if all(parent is None or parent < place for place, parent in enumerate(parents)):
        _check_depth(parents, range(len(parents)))
        return list(range(len(parents)))
    children: dict[int, list[int]] = {}
    waiting: deque[int] = deque()
    for place, parent in enumerate(parents):
        if parent is None:
            waiting.append(place)
        else:
            children.setdefault(parent, []).append(place)
    order: list[int] = []
    while waiting:
        place = waiting.popleft()
        order.append(place)
        waiting.extend(children.get(place, ()))
    _check_depth(parents, order)
    return order


def _check_depth(parents: Sequence[int | None], order: Sequence[int]) -> None:
    depths = [0] * len(parents)
    for place in order:
        parent = parents[place]
        if parent is not None:
            depths[place] = depths[parent] + 1
            if depths[place] > MAX_DEPTH:
                raise _wrong(f"a node has more than {MAX_DEPTH} ancestors")


def _short_text(value: Any, limit: int, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= limit or not _NAME.fullmatch(value):
        raise _wrong(f"{what} must be a text of 1 to {limit} characters on one line")
    json_text(value, limit * 4 + 2, f"$.lines: {what}")
    return value


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _wrong(message: str) -> InvalidParams:
    return InvalidParams(message, path="$.lines")
