"""Errors of arbor's own, each a leaf of the core's tree.

NotFound
├── TreeNotFound         arbor.tree_not_found
├── NodeNotFound         arbor.node_not_found
└── PositionNotFound     arbor.position_not_found
Conflict                 conflict: a version is stale, a position's name or an id is taken
├── ParentInOtherTree    arbor.parent_in_other_tree
├── NodeInOtherTree      arbor.node_in_other_tree
├── TooManyRoots         arbor.too_many_roots
├── TooDeep              arbor.too_deep
├── BelowItself          arbor.below_itself
├── SubtreeTooLarge      arbor.subtree_too_large
├── PositionInSubtree    arbor.position_in_subtree
├── TooManyPositions     arbor.too_many_positions
├── TreeArchived         arbor.tree_archived
└── TreeClaimed          arbor.tree_claimed
TooLarge
└── ContentTooLarge      arbor.content_too_large
"""

from collections.abc import Sequence

from clonk_core.plugin import Conflict, NotFound, TooLarge


class TreeNotFound(NotFound):
    """No tree of that id."""

    kind = "arbor.tree_not_found"

    def __init__(self, tree_id: str) -> None:
        super().__init__(f"no tree {tree_id!r}; `arbor.tree_list` lists all", tree_id=tree_id)


class NodeNotFound(NotFound):
    """No node of that id."""

    kind = "arbor.node_not_found"

    def __init__(self, node_id: str) -> None:
        super().__init__(f"no node {node_id!r}; `arbor.tree_get` gives a tree's roots", node_id=node_id)


class PositionNotFound(NotFound):
    """The tree has no position of that name."""

    kind = "arbor.position_not_found"

    def __init__(self, tree_id: str, name: str) -> None:
        super().__init__(
            f"tree {tree_id!r} has no position {name!r}; `arbor.position_list` lists all", tree_id=tree_id, name=name
        )


class ParentInOtherTree(Conflict):
    """The parent named is a node of another tree."""

    kind = "arbor.parent_in_other_tree"

    def __init__(self, parent_id: str, tree_id: str) -> None:
        super().__init__(
            f"node {parent_id!r} belongs to another tree than {tree_id!r}; a branch stays in its tree",
            parent_id=parent_id,
            tree_id=tree_id,
        )


class NodeInOtherTree(Conflict):
    """The node that a position shall point to belongs to another tree."""

    kind = "arbor.node_in_other_tree"

    def __init__(self, node_id: str, tree_id: str) -> None:
        super().__init__(f"node {node_id!r} belongs to another tree than {tree_id!r}", node_id=node_id, tree_id=tree_id)


class TooManyRoots(Conflict):
    """The tree has as many roots as one may have."""

    kind = "arbor.too_many_roots"

    def __init__(self, tree_id: str, limit: int) -> None:
        super().__init__(
            f"tree {tree_id!r} may have {limit} roots and no more; give a `parent_id` or create another tree",
            tree_id=tree_id,
            limit=limit,
        )


class TooDeep(Conflict):
    """A node would lie deeper than one may."""

    kind = "arbor.too_deep"

    def __init__(self, limit: int) -> None:
        super().__init__(f"a node has at most {limit} ancestors; begin another tree", limit=limit)


class BelowItself(Conflict):
    """A node would become its own ancestor."""

    kind = "arbor.below_itself"

    def __init__(self, node_id: str, parent_id: str) -> None:
        super().__init__(
            f"node {parent_id!r} is {node_id!r} or lies below it; a node cannot be moved below itself",
            node_id=node_id,
            parent_id=parent_id,
        )


class SubtreeTooLarge(Conflict):
    """More nodes lie below a node than one call moves or deletes."""

    kind = "arbor.subtree_too_large"

    def __init__(self, node_id: str, limit: int) -> None:
        super().__init__(
            f"node {node_id!r} has {limit} nodes or more with those below it, too many for one call; do it in parts, "
            "from the ends of the branches on",
            node_id=node_id,
            limit=limit,
        )


class PositionInSubtree(Conflict):
    """Positions point to nodes that would be deleted."""

    kind = "arbor.position_in_subtree"

    def __init__(self, node_id: str, names: Sequence[str]) -> None:
        shown = [*names[:10]]
        super().__init__(
            f"positions point to node {node_id!r} or below it: {', '.join(shown)}; move or delete them first",
            node_id=node_id,
            positions=shown,
        )


class TooManyPositions(Conflict):
    """The tree has as many positions as one may have."""

    kind = "arbor.too_many_positions"

    def __init__(self, tree_id: str, limit: int) -> None:
        super().__init__(f"tree {tree_id!r} has {limit} positions already; delete one", tree_id=tree_id, limit=limit)


class TreeArchived(Conflict):
    """An archived tree can only be read."""

    kind = "arbor.tree_archived"

    def __init__(self, tree_id: str) -> None:
        super().__init__(
            f"tree {tree_id!r} is archived and can only be read; `arbor.tree_restore` makes it writable again",
            tree_id=tree_id,
        )


class TreeClaimed(Conflict):
    """Somebody uses the tree, so it is neither archived nor deleted."""

    kind = "arbor.tree_claimed"

    def __init__(self, tree_id: str, owners: Sequence[str]) -> None:
        super().__init__(
            f"tree {tree_id!r} is in use by {', '.join(owners[:10])}; `arbor.tree_release` gives it free",
            tree_id=tree_id,
            owners=[*owners],
        )


class ContentTooLarge(TooLarge):
    """A value is over its size limit as JSON; nothing was kept."""

    kind = "arbor.content_too_large"

    def __init__(self, path: str, size: int, limit: int) -> None:
        super().__init__(
            f"{path.removeprefix('$.')} is {size} bytes of JSON, the limit is {limit}; spread it over several nodes",
            path=path,
            size=size,
            limit=limit,
        )
