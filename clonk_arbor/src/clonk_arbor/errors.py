"""Errors of arbor's own, each a leaf of the core's tree.

NotFound
├── TreeNotFound         arbor.tree_not_found
└── NodeNotFound         arbor.node_not_found
Conflict
├── ParentInOtherTree    arbor.parent_in_other_tree
└── TooManyRoots         arbor.too_many_roots
TooLarge
└── ContentTooLarge      arbor.content_too_large
"""

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


class ParentInOtherTree(Conflict):
    """The parent named is a node of another tree."""

    kind = "arbor.parent_in_other_tree"

    def __init__(self, parent_id: str, tree_id: str, parent_tree_id: str) -> None:
        super().__init__(
            f"node {parent_id!r} belongs to tree {parent_tree_id!r}, not to {tree_id!r}; a branch stays in its tree",
            parent_id=parent_id,
            tree_id=tree_id,
            parent_tree_id=parent_tree_id,
        )


class TooManyRoots(Conflict):
    """The tree has as many roots as one may have."""

    kind = "arbor.too_many_roots"

    def __init__(self, tree_id: str, limit: int) -> None:
        super().__init__(
            f"tree {tree_id!r} has {limit} roots already; give a `parent_id` or create another tree",
            tree_id=tree_id,
            limit=limit,
        )


class ContentTooLarge(TooLarge):
    """A value is over its size limit as JSON; nothing was kept."""

    kind = "arbor.content_too_large"

    def __init__(self, parameter: str, size: int, limit: int) -> None:
        super().__init__(
            f"{parameter} is {size} bytes of JSON, the limit is {limit}; spread it over several nodes",
            path=f"$.{parameter}",
            size=size,
            limit=limit,
        )
