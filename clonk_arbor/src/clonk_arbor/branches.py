"""The domain: whole branches. A path read from its root on, branches moved and cut off."""

import json
from collections.abc import Sequence

from clonk_arbor.bell import Bell
from clonk_arbor.errors import (
    BelowItself,
    NodeNotFound,
    ParentInOtherTree,
    PositionInSubtree,
    SubtreeTooLarge,
    TooDeep,
    TooManyRoots,
)
from clonk_arbor.limits import MAX_DEPTH, MAX_ROOTS, MAX_SUBTREE, PAGE_BYTES
from clonk_arbor.messages import Node, NodeId
from clonk_arbor.nodes import as_node
from clonk_arbor.reach import Reach, check_seen, everywhere, seen_place, touch
from clonk_arbor.store import changes, nodes, positions, search, walks
from clonk_arbor.values import now
from clonk_core.plugin import Database, InvalidParams, Transaction


class Branches:
    """The branches of one realm's trees. Every method is one transaction."""

    def __init__(self, database: Database, bell: Bell | None = None) -> None:
        self._database = database
        self._bell = bell or Bell()

    async def path(
        self, node_id: NodeId, limit: int, after: NodeId | None = None, reach: Reach = everywhere
    ) -> tuple[Node, ...]:
        """Return the nodes from the root to one, itself the last."""
        return await self._database.read(_read_path, node_id, limit, after, reach)

    async def move(self, node_id: NodeId, parent_id: NodeId | None, reach: Reach = everywhere) -> Node:
        """Put a node, with all below it, under another one of its tree; make it a root without one."""
        tree_id, node = await self._database.run(_move, node_id, parent_id, reach)
        self._bell.ring(tree_id)
        return node

    async def delete(self, node_id: NodeId, reach: Reach = everywhere) -> int:
        """Delete a node and all below it; return how many."""
        tree_id, count = await self._database.run(_delete, node_id, reach)
        self._bell.ring(tree_id)
        return count


def _read_path(transaction: Transaction, node_id: str, limit: int, after: str | None, reach: Reach) -> tuple[Node, ...]:
    tree, place = seen_place(transaction, node_id, reach)
    first_depth = 0
    if after is not None:
        last_seen = seen_place(transaction, after, reach)[1]
        if not is_on_path(transaction, last_seen, place):
            raise InvalidParams(
                f"{after!r} is not on the path to {node_id!r}; give the last id of the page before", path="$.after"
            )
        first_depth = last_seen.depth + 1
    count = min(limit, place.depth - first_depth + 1)
    if count <= 0:
        return ()
    lowest = walks.ancestor_at(transaction, place.key, first_depth + count - 1)
    page: list[int] = []
    size = 0
    for key, node_size in reversed(walks.sizes_up(transaction, lowest, count)):
        page.append(key)
        size += node_size
        if size >= PAGE_BYTES:
            break
    rows = walks.path_up(transaction, page[-1], len(page), size + 1)
    return tuple(map(as_node(tree.id), reversed(rows)))


def is_on_path(transaction: Transaction, ancestor: nodes.Place, node: nodes.Place) -> bool:
    """Tell whether a node is another one or above it."""
    return (
        ancestor.tree == node.tree
        and ancestor.depth <= node.depth
        and walks.ancestor_at(transaction, node.key, ancestor.depth) == ancestor.key
    )


def _move(transaction: Transaction, node_id: str, parent_id: str | None, reach: Reach) -> tuple[str, Node]:
    tree, place = seen_place(transaction, node_id, reach)
    parent = None if parent_id is None else _new_parent(transaction, tree.id, node_id, place, parent_id, reach)
    parent_key = None if parent is None else parent.key
    if parent_key != place.parent:
        at = now()
        roots = int(parent_key is None) - int(place.parent is None)
        touched = touch(transaction, tree.id, reach, at, roots=roots)
        if touched.root_count > MAX_ROOTS:
            raise TooManyRoots(tree.id, MAX_ROOTS)
        _put_subtree(transaction, place.key, parent_key, node_id)
        detail = json.dumps({"node_id": node_id, "parent_id": parent_id})
        changes.insert(transaction, tree.key, touched.version, "node_moved", at, detail=detail)
    row = nodes.find(transaction, node_id)
    assert row is not None  # noqa: S101 - it was found above
    return tree.id, as_node(tree.id)(row)


def _new_parent(
    transaction: Transaction, tree_id: str, node_id: str, place: nodes.Place, parent_id: str, reach: Reach
) -> nodes.Place:
    parent = nodes.place(transaction, parent_id)
    if parent is None:
        raise NodeNotFound(parent_id)
    if parent.tree != place.tree:
        check_seen(transaction, parent_id, parent, reach)
        raise ParentInOtherTree(parent_id, tree_id)
    if is_on_path(transaction, place, parent):
        raise BelowItself(node_id, parent_id)
    return parent


def _put_subtree(transaction: Transaction, key: int, parent: int | None, node_id: str) -> None:
    """Give a node another parent, and it and all below it their new depths and farther ancestors."""
    jumps = walks.Jumps(transaction)
    places: list[tuple[int | None, int | None, int, int]] = []
    for node, old_parent in _subtree(transaction, key, node_id):
        above = parent if node == key else old_parent
        depth, jump = jumps.put(node, above)
        if depth > MAX_DEPTH:
            raise TooDeep(MAX_DEPTH)
        places.append((above, jump, depth, node))
    nodes.put(transaction, places)


def _subtree(transaction: Transaction, key: int, node_id: str) -> Sequence[tuple[int, int]]:
    found = nodes.subtree(transaction, key, MAX_SUBTREE + 1)
    if len(found) > MAX_SUBTREE:
        raise SubtreeTooLarge(node_id, MAX_SUBTREE)
    return found


def _delete(transaction: Transaction, node_id: str, reach: Reach) -> tuple[str, int]:
    tree, place = seen_place(transaction, node_id, reach)
    keys = [key for key, _parent in _subtree(transaction, place.key, node_id)]
    gone = set(keys)
    names = [name for name, node in positions.nodes(transaction, tree.key) if node in gone]
    if names:
        raise PositionInSubtree(node_id, names)
    at = now()
    touched = touch(transaction, tree.id, reach, at, nodes=-len(keys), roots=-int(place.parent is None))
    search.forget(transaction, keys)
    nodes.delete(transaction, keys)
    detail = json.dumps({"node_id": node_id, "count": len(keys)})
    changes.insert(transaction, tree.key, touched.version, "nodes_deleted", at, detail=detail)
    return tree.id, len(keys)
