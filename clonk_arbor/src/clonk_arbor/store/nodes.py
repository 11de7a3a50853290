"""Nodes: written, read one by one, listed below a parent and in a tree."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import attrs

from clonk_core.plugin import Transaction

COLUMNS: Final = (
    "n.key, n.id, n.tree, n.parent, n.depth, n.kind, n.size, n.created_at, n.metadata, n.content,"
    " (select p.id from nodes p where p.key = n.parent)"
)
INSERT: Final = (
    "insert into nodes (id, tree, parent, jump, depth, kind, size, created_at, metadata, content)"
    " values (:id, :tree, :parent, :jump, :depth, :kind, :size, :created_at, :metadata, :content) returning key"
)
INSERT_KEYED: Final = (
    "insert into nodes (key, tree, parent, jump, depth, id, kind, size, created_at, metadata, content)"
    " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
LAST_KEY: Final = "select seq from sqlite_sequence where name = 'nodes'"
BY_ID: Final = f"select {COLUMNS} from nodes n where n.id = :id"
PLACE: Final = (
    "select n.key, n.tree, n.parent, n.depth, n.jump, j.depth, j.jump, k.depth from nodes n"
    " left join nodes j on j.key = n.jump left join nodes k on k.key = j.jump where n.id = :id"
)
STEP: Final = (
    "select n.parent, n.depth, n.jump, j.depth from nodes n left join nodes j on j.key = n.jump where n.key = :key"
)
IDS: Final = "select id from nodes where key = :key"
CHILDREN_AFTER: Final = (
    f"select {COLUMNS} from nodes n where n.parent = :parent and n.key > :after order by n.key limit :limit"
)
TREE_AFTER: Final = f"select {COLUMNS} from nodes n where n.tree = :tree and n.key > :after order by n.key limit :limit"
LEAVES_AFTER: Final = (
    "select l.id, l.depth, l.kind, l.created_at from (select n.key as leaf from nodes n where n.tree = :tree"
    " and n.key > :after and not exists (select 1 from nodes c where c.parent = n.key) order by n.key limit :limit)"
    " join nodes l on l.key = leaf order by l.key"
)
SUBTREE: Final = (
    "with recursive below (key, parent) as (select :key, null union all"
    " select n.key, n.parent from below b join nodes n on n.parent = b.key limit :limit)"
    " select key, parent from below"
)
PUT: Final = "update nodes set parent = ?, jump = ?, depth = ? where key = ?"
DELETE: Final = "delete from nodes where key = ?"
SOME_OF_TREE: Final = "select key from nodes where tree = :tree limit :limit"


@attrs.frozen
class NodeRow:
    """One row of `nodes`, columns in the order they are selected.

    Attributes:
        parent_id: The parent's id, looked up.
    """

    key: int
    id: str
    tree: int
    parent: int | None
    depth: int
    kind: str
    size: int
    created_at: str
    metadata: str
    content: str
    parent_id: str | None


@attrs.frozen
class Place:
    """Where a node is, and the two farther ancestors that tell where those of its children jump to.

    Attributes:
        key, tree, parent, depth: Of the node.
        jump: A farther ancestor; the node itself for a root.
        jump_depth: Depth of that one.
        next_jump: Where that one jumps to.
        next_jump_depth: Depth of that one.
    """

    key: int
    tree: int
    parent: int | None
    depth: int
    jump: int
    jump_depth: int
    next_jump: int
    next_jump_depth: int


class NewNode(NamedTuple):
    """A node to be written, without its place. A named tuple: a long path makes many.

    Attributes:
        id: Its id.
        kind: `text`, `json` or `handle`.
        size: Bytes of its content.
        created_at: When.
        metadata, content: JSON text.
    """

    id: str
    kind: str
    size: int
    created_at: str
    metadata: str
    content: str


def insert(
    transaction: Transaction, node: NewNode, tree: int, *, parent: int | None, jump: int | None, depth: int
) -> int:
    """Add a node at a place; return its key."""
    row = transaction.one(
        INSERT,
        {
            "id": node.id,
            "tree": tree,
            "parent": parent,
            "jump": jump,
            "depth": depth,
            "kind": node.kind,
            "size": node.size,
            "created_at": node.created_at,
            "metadata": node.metadata,
            "content": node.content,
        },
    )
    assert row is not None  # noqa: S101 - for the type checker
    return int(row[0])


def insert_keyed(transaction: Transaction, rows: Sequence[tuple[Any, ...]]) -> None:
    """Add nodes whose keys were chosen: key, tree, parent, farther ancestor, depth, then what a `NewNode` has."""
    transaction.execute_many(INSERT_KEYED, rows)


def last_key(transaction: Transaction) -> int:
    """Return the highest key that was ever used."""
    row = transaction.one(LAST_KEY)
    return 0 if row is None else int(row[0])


def find(transaction: Transaction, node_id: str) -> NodeRow | None:
    """Return one node, or None."""
    row = transaction.one(BY_ID, {"id": node_id})
    return None if row is None else NodeRow(*row)


def place(transaction: Transaction, node_id: str) -> Place | None:
    """Return where a node is, or None."""
    row = transaction.one(PLACE, {"id": node_id})
    if row is None:
        return None
    key, tree, parent, depth, jump, jump_depth, next_jump, next_jump_depth = row
    if jump is None:
        return Place(key, tree, parent, depth, key, depth, key, depth)
    if next_jump is None:
        return Place(key, tree, parent, depth, jump, jump_depth, jump, jump_depth)
    return Place(key, tree, parent, depth, jump, jump_depth, next_jump, next_jump_depth)


def step(transaction: Transaction, key: int) -> tuple[int | None, int, int, int]:
    """Return parent, depth, farther ancestor (itself for a root) and that one's depth."""
    row = transaction.one(STEP, {"key": key})
    assert row is not None  # noqa: S101 - ancestors are there as long as what is below them
    parent, depth, jump, jump_depth = row
    return (parent, depth, key, depth) if jump is None else (parent, depth, jump, jump_depth)


def children_after(transaction: Transaction, parent: int, last: int, limit: int, page_bytes: int) -> list[NodeRow]:
    """Return the children with keys above `last`, oldest first.

    Args:
        transaction: The open transaction.
        parent: Whose children.
        last: Key of the last one seen, 0 for none.
        limit: At most this many.
        page_bytes: The node that fills the page to this many bytes of content is its last.
    """
    return _page(transaction, CHILDREN_AFTER, {"parent": parent, "after": last, "limit": limit}, page_bytes)


def tree_after(transaction: Transaction, tree: int, last: int, limit: int, page_bytes: int) -> list[NodeRow]:
    """Return a tree's nodes with keys above `last`, oldest first; see `children_after`."""
    return _page(transaction, TREE_AFTER, {"tree": tree, "after": last, "limit": limit}, page_bytes)


def _page(transaction: Transaction, sql: str, bindings: dict[str, Any], page_bytes: int) -> list[NodeRow]:
    found: list[NodeRow] = []
    size = 0
    for row in transaction.execute(sql, bindings):
        node = NodeRow(*row)
        found.append(node)
        size += node.size
        if size >= page_bytes:
            break
    return found


def leaves_after(transaction: Transaction, tree: int, last: int, limit: int) -> list[tuple[str, int, str, str]]:
    """Return id, depth, kind and time of a tree's nodes without children with keys above `last`, oldest first."""
    return [
        (node_id, depth, kind, created_at)
        for node_id, depth, kind, created_at in transaction.execute(
            LEAVES_AFTER, {"tree": tree, "after": last, "limit": limit}
        )
    ]


def subtree(transaction: Transaction, key: int, limit: int) -> list[tuple[int, int]]:
    """Return key and parent of a node and up to `limit` - 1 nodes below it, each behind its parent."""
    return [(node, parent or 0) for node, parent in transaction.execute(SUBTREE, {"key": key, "limit": limit})]


def put(transaction: Transaction, places: Sequence[tuple[int | None, int | None, int, int]]) -> None:
    """Give nodes their parent, farther ancestor and depth; the key comes last."""
    transaction.execute_many(PUT, places)


def delete(transaction: Transaction, keys: Sequence[int]) -> None:
    """Take out nodes."""
    transaction.execute_many(DELETE, [(key,) for key in keys])


def some_of_tree(transaction: Transaction, tree: int, limit: int) -> list[int]:
    """Return the keys of up to `limit` nodes of a tree."""
    return [key for (key,) in transaction.execute(SOME_OF_TREE, {"tree": tree, "limit": limit})]
