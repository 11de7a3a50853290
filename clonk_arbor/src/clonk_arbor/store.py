"""All SQL of arbor: plain functions, each given the open transaction it works in."""

from typing import Final

import attrs

from clonk_core.plugin import Transaction

INSERT_TREE: Final = "insert into trees (id, name, metadata, created_at) values (:id, :name, :metadata, :created_at)"
TREE: Final = "select id, name, metadata, created_at, node_count from trees where id = :id"
TREES_AFTER: Final = (
    "select id, name, metadata, created_at, node_count from trees where id > :after order by id limit :limit"
)
ROOTS: Final = "select id from nodes where tree_id = :tree_id and parent_id is null order by number"
COUNT_NODE: Final = (
    "update trees set node_count = node_count + 1, root_count = root_count + :roots where id = :id"
    " returning node_count, root_count"
)
INSERT_NODE: Final = (
    "insert into nodes (id, tree_id, parent_id, number, depth, content, metadata, created_at)"
    " values (:id, :tree_id, :parent_id, :number, :depth, :content, :metadata, :created_at)"
)
NODE: Final = "select id, tree_id, parent_id, number, depth, content, metadata, created_at from nodes where id = :id"
NODE_PLACE: Final = "select tree_id, parent_id, number, depth from nodes where id = :id"
CHILDREN_AFTER: Final = (
    "select id, tree_id, parent_id, number, depth, content, metadata, created_at from nodes"
    " where parent_id = :parent_id and number > :after order by number limit :limit"
)


@attrs.frozen
class TreeRow:
    """One row of `trees`, columns in the order they are selected."""

    id: str
    name: str
    metadata: str
    created_at: str
    node_count: int


@attrs.frozen
class NodeRow:
    """One row of `nodes`, columns in the order they are selected."""

    id: str
    tree_id: str
    parent_id: str | None
    number: int
    depth: int
    content: str
    metadata: str
    created_at: str


@attrs.frozen
class NodePlace:
    """Where a node is, without what it holds."""

    tree_id: str
    parent_id: str | None
    number: int
    depth: int


def insert_tree(transaction: Transaction, tree: TreeRow) -> None:
    """Add a tree without nodes."""
    bindings = {"id": tree.id, "name": tree.name, "metadata": tree.metadata, "created_at": tree.created_at}
    transaction.execute(INSERT_TREE, bindings)


def find_tree(transaction: Transaction, tree_id: str) -> TreeRow | None:
    """Return one tree, or None."""
    row = transaction.one(TREE, {"id": tree_id})
    return None if row is None else TreeRow(*row)


def trees_after(transaction: Transaction, after: str, limit: int) -> list[TreeRow]:
    """Return the trees whose ids come after `after`, oldest first: ids sort by their time."""
    return [TreeRow(*row) for row in transaction.all(TREES_AFTER, {"after": after, "limit": limit})]


def root_ids(transaction: Transaction, tree_id: str) -> list[str]:
    """Return the ids of a tree's roots, oldest first."""
    return [node_id for (node_id,) in transaction.all(ROOTS, {"tree_id": tree_id})]


def count_node(transaction: Transaction, tree_id: str, *, is_root: bool) -> tuple[int, int] | None:
    """Count one more node of a tree; return how many nodes and roots it has now, or None when there is no such tree."""
    row = transaction.one(COUNT_NODE, {"id": tree_id, "roots": int(is_root)})
    return None if row is None else (row[0], row[1])


def insert_node(transaction: Transaction, node: NodeRow) -> None:
    """Add a node."""
    transaction.execute(INSERT_NODE, attrs.asdict(node))


def find_node(transaction: Transaction, node_id: str) -> NodeRow | None:
    """Return one node, or None."""
    row = transaction.one(NODE, {"id": node_id})
    return None if row is None else NodeRow(*row)


def find_place(transaction: Transaction, node_id: str) -> NodePlace | None:
    """Return where a node is, or None."""
    row = transaction.one(NODE_PLACE, {"id": node_id})
    return None if row is None else NodePlace(*row)


def children_after(transaction: Transaction, parent_id: str, after: int, limit: int, page_bytes: int) -> list[NodeRow]:
    """Return the children numbered above `after`, oldest first.

    Args:
        transaction: The open transaction.
        parent_id: Whose children.
        after: Number of the last one seen, 0 for none.
        limit: At most this many.
        page_bytes: The node that fills the page to this many characters of content is its last.
    """
    nodes: list[NodeRow] = []
    size = 0
    for row in transaction.execute(CHILDREN_AFTER, {"parent_id": parent_id, "after": after, "limit": limit}):
        node = NodeRow(*row)
        nodes.append(node)
        size += len(node.content)
        if size >= page_bytes:
            break
    return nodes


def ancestors(transaction: Transaction, parent_id: str | None, limit: int, page_bytes: int) -> list[NodeRow]:
    """Return the node `parent_id` and what is above it, nearest first.

    One look-up a step, not one recursive query: that would hold every content on the way before the first is given.

    Args:
        transaction: The open transaction.
        parent_id: Where to begin.
        limit: At most this many.
        page_bytes: The node that fills the page to this many characters of content is its last.
    """
    nodes: list[NodeRow] = []
    size = 0
    while parent_id is not None and len(nodes) < limit and size < page_bytes:
        node = find_node(transaction, parent_id)
        if node is None:
            break
        nodes.append(node)
        size += len(node.content)
        parent_id = node.parent_id
    return nodes
