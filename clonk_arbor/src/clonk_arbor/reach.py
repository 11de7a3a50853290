"""Finds trees and nodes for a caller: what its scopes do not cover is not there."""

from collections.abc import Callable

from clonk_arbor.errors import NodeInOtherTree, NodeNotFound, TreeArchived, TreeNotFound
from clonk_arbor.store import nodes, trees
from clonk_core.plugin import Transaction

Reach = Callable[[str], bool]
"""Tells whether a caller may see the trees of a name."""


def everywhere(_name: str) -> bool:
    """Let a caller see every tree."""
    return True


def seen_tree(transaction: Transaction, tree_id: str, reach: Reach) -> trees.TreeRow:
    """Return a tree.

    Raises:
        TreeNotFound: There is none, or none for this caller.
    """
    tree = trees.find(transaction, tree_id)
    if tree is None or not reach(tree.name):
        raise TreeNotFound(tree_id)
    return tree


def seen_place(transaction: Transaction, node_id: str, reach: Reach) -> tuple[trees.TreeRow, nodes.Place]:
    """Return where a node is, and its tree.

    Raises:
        NodeNotFound: There is none, or none for this caller.
    """
    place = nodes.place(transaction, node_id)
    tree = None if place is None else trees.find_by_key(transaction, place.tree)
    if place is None or tree is None or not reach(tree.name):
        raise NodeNotFound(node_id)
    return tree, place


def check_seen(transaction: Transaction, node_id: str, place: nodes.Place, reach: Reach) -> None:
    """Refuse a node of a tree that the caller may not see: whatever else is wrong with it is not told.

    Raises:
        NodeNotFound: For the caller there is none.
    """
    tree = trees.find_by_key(transaction, place.tree)
    if tree is None or not reach(tree.name):
        raise NodeNotFound(node_id)


def place_in(
    transaction: Transaction, node_id: str, tree: trees.TreeRow | trees.Touched, tree_id: str, reach: Reach
) -> nodes.Place:
    """Return where a node of a tree is that the caller may see.

    Raises:
        NodeNotFound: There is no such node.
        NodeInOtherTree: It belongs to another tree.
    """
    place = nodes.place(transaction, node_id)
    if place is None:
        raise NodeNotFound(node_id)
    if place.tree != tree.key:
        check_seen(transaction, node_id, place, reach)
        raise NodeInOtherTree(node_id, tree_id)
    return place


def touch(
    transaction: Transaction,
    tree_id: str,
    reach: Reach,
    now: str,
    *,
    changes: int = 1,
    nodes: int = 0,
    roots: int = 0,
) -> trees.Touched:
    """Count a change of a tree that can be written to; see `store.trees.touch`.

    Raises:
        TreeNotFound: There is none, or none for this caller.
        TreeArchived: It can only be read.
    """
    touched = trees.touch(transaction, tree_id, now, changes=changes, nodes=nodes, roots=roots)
    if touched is None:
        seen_tree(transaction, tree_id, reach)
        raise TreeArchived(tree_id)
    if not reach(touched.name):
        raise TreeNotFound(tree_id)
    return touched
