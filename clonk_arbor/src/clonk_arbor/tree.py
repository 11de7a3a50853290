"""The domain: trees of nodes, what may be stored in them and how they are read back."""

import json
from datetime import UTC, datetime
from typing import Final

import attrs

from clonk_arbor import store
from clonk_arbor.errors import ContentTooLarge, NodeNotFound, ParentInOtherTree, TooManyRoots, TreeNotFound
from clonk_arbor.messages import Metadata, Node, NodeId, Tree, TreeId, TreeSummary
from clonk_core.plugin import Database, InvalidParams, JsonValue, Transaction, new_id

MAX_CONTENT_BYTES: Final = 1024 * 1024
"""Largest content of one node, as JSON: a long answer of a model is a tenth of it."""

MAX_NESTING: Final = 128
"""Deepest nesting of a stored value: what is kept can be read back on any stack, and by clients' parsers."""

MAX_METADATA_BYTES: Final = 16 * 1024
"""Largest metadata of one tree or node, as JSON."""

MAX_ROOTS: Final = 1000
"""Most roots of one tree: `tree_get` gives them all at once."""

PAGE_BYTES: Final = 4 * 1024 * 1024
"""A page of nodes ends early with the node that fills it to this, so that no answer grows beyond about 5 MiB."""


class Trees:
    """The trees of one realm. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, name: str, metadata: Metadata | None) -> TreeId:
        """Create an empty tree."""
        row = store.TreeRow(new_id("tree"), name, _json_metadata(metadata), _now(), 0)
        await self._database.run(store.insert_tree, row)
        return TreeId(row.id)

    async def get(self, tree_id: TreeId) -> Tree:
        """Return one tree with its roots."""
        return await self._database.read(_read_tree, tree_id)

    async def list(self, limit: int, after: TreeId | None) -> tuple[TreeSummary, ...]:
        """Return trees, oldest first."""
        rows = await self._database.read(store.trees_after, after or "", limit)
        return tuple(_summary(row) for row in rows)

    async def add_node(
        self, tree_id: TreeId, parent_id: NodeId | None, content: JsonValue, metadata: Metadata | None
    ) -> NodeId:
        """Add one node below `parent_id`, or a root."""
        row = store.NodeRow(
            id=new_id("node"),
            tree_id=tree_id,
            parent_id=parent_id,
            number=0,
            depth=0,
            content=_json("content", content, MAX_CONTENT_BYTES),
            metadata=_json_metadata(metadata),
            created_at=_now(),
        )
        # Many sessions append at the same time, a few nodes each: they share their commits.
        await self._database.write_grouped(_insert_node, row)
        return NodeId(row.id)

    async def node(self, node_id: NodeId) -> Node:
        """Return one node."""
        row = await self._database.read(store.find_node, node_id)
        if row is None:
            raise NodeNotFound(node_id)
        return _node(row)

    async def name_of_node(self, node_id: NodeId) -> str:
        """Return the name of the tree that a node is in."""
        return await self._database.read(_read_tree_name, node_id)

    async def children(self, node_id: NodeId, limit: int, after: NodeId | None) -> tuple[Node, ...]:
        """Return direct children, oldest first."""
        rows = await self._database.read(_read_children, node_id, limit, after)
        return tuple(_node(row) for row in rows)

    async def ancestors(self, node_id: NodeId, limit: int) -> tuple[Node, ...]:
        """Return the nodes above one, nearest first."""
        rows = await self._database.read(_read_ancestors, node_id, limit)
        return tuple(_node(row) for row in rows)


def _read_tree(transaction: Transaction, tree_id: TreeId) -> Tree:
    row = store.find_tree(transaction, tree_id)
    if row is None:
        raise TreeNotFound(tree_id)
    return Tree(
        id=tree_id,
        name=row.name,
        metadata=json.loads(row.metadata),
        created_at=datetime.fromisoformat(row.created_at),
        node_count=row.node_count,
        root_ids=tuple(NodeId(node_id) for node_id in store.root_ids(transaction, tree_id)),
    )


def _read_tree_name(transaction: Transaction, node_id: NodeId) -> str:
    row = store.find_tree(transaction, _place(transaction, node_id).tree_id)
    if row is None:
        raise NodeNotFound(node_id)
    return row.name


def _insert_node(transaction: Transaction, node: store.NodeRow) -> None:
    counts = store.count_node(transaction, node.tree_id, is_root=node.parent_id is None)
    if counts is None:
        raise TreeNotFound(node.tree_id)
    number, root_count = counts
    if root_count > MAX_ROOTS:
        raise TooManyRoots(node.tree_id, MAX_ROOTS)
    depth = 0 if node.parent_id is None else _depth_below(transaction, node.tree_id, node.parent_id)
    store.insert_node(transaction, attrs.evolve(node, number=number, depth=depth))


def _depth_below(transaction: Transaction, tree_id: str, parent_id: str) -> int:
    parent = _place(transaction, parent_id)
    if parent.tree_id != tree_id:
        raise ParentInOtherTree(parent_id, tree_id, parent.tree_id)
    return parent.depth + 1


def _read_children(transaction: Transaction, node_id: NodeId, limit: int, after: NodeId | None) -> list[store.NodeRow]:
    _place(transaction, node_id)
    number = 0
    if after is not None:
        last_seen = _place(transaction, after)
        if last_seen.parent_id != node_id:
            raise InvalidParams(
                f"{after!r} is no child of {node_id!r}; give the last id of the page before", path="$.after"
            )
        number = last_seen.number
    return store.children_after(transaction, node_id, number, limit, PAGE_BYTES)


def _read_ancestors(transaction: Transaction, node_id: NodeId, limit: int) -> list[store.NodeRow]:
    return store.ancestors(transaction, _place(transaction, node_id).parent_id, limit, PAGE_BYTES)


def _place(transaction: Transaction, node_id: str) -> store.NodePlace:
    place = store.find_place(transaction, node_id)
    if place is None:
        raise NodeNotFound(node_id)
    return place


def _summary(row: store.TreeRow) -> TreeSummary:
    return TreeSummary(
        id=TreeId(row.id),
        name=row.name,
        metadata=json.loads(row.metadata),
        created_at=datetime.fromisoformat(row.created_at),
        node_count=row.node_count,
    )


def _node(row: store.NodeRow) -> Node:
    return Node(
        id=NodeId(row.id),
        tree_id=TreeId(row.tree_id),
        parent_id=None if row.parent_id is None else NodeId(row.parent_id),
        depth=row.depth,
        content=json.loads(row.content),
        metadata=json.loads(row.metadata),
        created_at=datetime.fromisoformat(row.created_at),
    )


def _json_metadata(metadata: Metadata | None) -> str:
    return _json("metadata", metadata or {}, MAX_METADATA_BYTES)


def _json(parameter: str, value: JsonValue, limit: int) -> str:
    """Return `value` as JSON text.

    Raises:
        InvalidParams: It is nested too deeply, or no JSON (the wire lets no such value in; another activation might).
        ContentTooLarge: It is over `limit` bytes.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except RecursionError as error:
        raise _nested_too_deeply(parameter) from error
    except (TypeError, ValueError) as error:
        raise InvalidParams(f"no JSON value: {error}", path=f"$.{parameter}") from error
    if size > limit:
        raise ContentTooLarge(parameter, size, limit)
    # Counting brackets is fast and errs on the safe side; few values need the look at each part.
    if text.count("[") + text.count("{") > MAX_NESTING and _nesting(value) > MAX_NESTING:
        raise _nested_too_deeply(parameter)
    return text


def _nested_too_deeply(parameter: str) -> InvalidParams:
    return InvalidParams(f"nested too deeply; at most {MAX_NESTING} levels", path=f"$.{parameter}")


def _nesting(value: JsonValue) -> int:
    """Return how many lists and objects lie inside each other."""
    depth = 0
    level: list[JsonValue] = [value]
    while containers := [part for part in level if isinstance(part, (dict, list, tuple))]:
        depth += 1
        level = [inner for part in containers for inner in (part.values() if isinstance(part, dict) else part)]
    return depth


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
