"""Ways along a path: upwards step by step within one statement, and by the farther ancestors.

One recursive statement takes half a microsecond a step; what it carries from step to step is one number, since it would
hold every content on the way otherwise.
"""

from collections.abc import Iterator
from typing import Any, Final

import attrs

from clonk_arbor.store import nodes
from clonk_core.plugin import Transaction

UP: Final = (
    "with recursive up (node) as (select :key union all"
    " select (select parent from nodes where key = node) from up where node is not null limit :limit)"
)
PATH: Final = f"{UP} select {nodes.COLUMNS} from up cross join nodes n on n.key = up.node"
CONTENTS: Final = (
    f"{UP} select n.id, n.kind, n.size, case when n.size <= :large then n.content end, n.parent, n.key"
    " from up cross join nodes n on n.key = up.node"
)
NEIGHBOURS: Final = (
    "select id, kind, size, case when size <= :large then content end, parent, key from nodes"
    " where key between :first and :key and +tree = :tree order by key desc"
)
CONTENT: Final = "select content from nodes where key = :key"

LARGE: Final = 16 * 1024
"""Contents above this are read one by one, when they are known to be wanted."""

_FIRST_SPAN: Final = 64
_LONGEST_SPAN: Final = 4096
_STEPS: Final = 512
SIZES: Final = f"{UP} select n.key, n.size from up cross join nodes n on n.key = up.node"
HANDLES: Final = (
    f"{UP} select n.key, n.id, n.depth, n.content from up cross join nodes n on n.key = up.node where n.kind = 'handle'"
)
_SIBLING: Final = (
    "exists (select 1 from nodes s where s.parent = n.parent and s.key {0} n.key) or (n.parent is null and"
    " exists (select 1 from nodes s where s.tree = :tree and s.parent is null and s.key {0} n.key))"
)
BRANCHES: Final = (
    f"{UP} select n.key, n.parent, {_SIBLING.format('!=')}, {_SIBLING.format('>')}"
    " from up cross join nodes n on n.key = up.node"
)


@attrs.frozen
class Branch:
    """A node of a path, as it is drawn.

    Attributes:
        key: Its key.
        parent: Its parent's; None for a root.
        has_siblings: Whether there are others beside it.
        has_younger: Whether one of them comes after it.
    """

    key: int
    parent: int | None
    has_siblings: bool
    has_younger: bool


def path_up(transaction: Transaction, key: int, limit: int, page_bytes: int) -> list[nodes.NodeRow]:
    """Return a node and what is above it, nearest first.

    Args:
        transaction: The open transaction.
        key: Where to begin.
        limit: At most this many.
        page_bytes: The node that fills the page to this many bytes of content is its last.
    """
    found: list[nodes.NodeRow] = []
    size = 0
    for row in transaction.execute(PATH, {"key": key, "limit": limit}):
        node = nodes.NodeRow(*row)
        found.append(node)
        size += node.size
        if size >= page_bytes:
            break
    return found


def sizes_up(transaction: Transaction, key: int, limit: int) -> list[tuple[int, int]]:
    """Return key and bytes of content of a node and of what is above it, nearest first."""
    return [(node, size) for node, size in transaction.execute(SIZES, {"key": key, "limit": limit})]


Content = tuple[str, str, int, str | None, int | None, int]
"""Id, kind, size, content, parent and key of a node; no content where it is large."""


def contents_up(transaction: Transaction, tree: int, key: int) -> Iterator[list[Content]]:
    """Give what a node and those above it hold, nearest first, some at a time.

    A path that was written in one go, or alone, has keys beside each other: read in their order it takes a third of
    the time. Where it has not, it is gone up step by step for a while.
    """
    above: int | None = key
    span = _FIRST_SPAN
    while above is not None:
        found, is_dense = _contents_beside(transaction, tree, above, span)
        yield found
        above = found[-1][4]
        span = min(span * 2, _LONGEST_SPAN) if is_dense else _FIRST_SPAN
        if above is not None and not is_dense:
            found = transaction.all(CONTENTS, {"key": above, "limit": _STEPS, "large": LARGE})
            yield found
            above = found[-1][4]


def _contents_beside(transaction: Transaction, tree: int, key: int, span: int) -> tuple[list[Content], bool]:
    """Return what is found of a path among the nodes before one, itself the first, and whether it was most of them."""
    bindings = {"tree": tree, "key": key, "first": key - span + 1, "large": LARGE}
    rows: list[Any] = transaction.all(NEIGHBOURS, bindings)
    found = rows
    if [row[4] for row in rows[:-1]] != [row[5] for row in rows[1:]]:
        above: int | None = key
        found = []
        for row in rows:
            if row[5] == above:
                found.append(row)
                above = row[4]
    return found, len(found) * 2 > len(rows)


def content_of(transaction: Transaction, key: int) -> str:
    """Return the content of a node that the same transaction has seen."""
    content: str = transaction.all(CONTENT, {"key": key})[0][0]
    return content


def handles_up(transaction: Transaction, key: int, limit: int) -> list[tuple[int, str, int, str]]:
    """Return key, id, depth and content of the handles among a node and what is above it, nearest first."""
    return transaction.all(HANDLES, {"key": key, "limit": limit})


def branches_up(transaction: Transaction, tree: int, key: int, limit: int) -> list[Branch]:
    """Return how a node and those above it are drawn, nearest first."""
    return [
        Branch(node, parent, bool(has_siblings), bool(has_younger))
        for node, parent, has_siblings, has_younger in transaction.execute(
            BRANCHES, {"tree": tree, "key": key, "limit": limit}
        )
    ]


def ancestor_at(transaction: Transaction, key: int, depth: int) -> int:
    """Return the ancestor of a node (or the node itself) at a depth that is not below it."""
    parent, own_depth, jump, jump_depth = nodes.step(transaction, key)
    while own_depth > depth:
        key = jump if jump_depth >= depth else parent or key
        parent, own_depth, jump, jump_depth = nodes.step(transaction, key)
    return key


class Jumps:
    """Finds where new nodes jump to, reading each ancestor that it needs once.

    A child jumps over two equally long jumps of its parent's, if they are, and to its parent if they are not: so any
    ancestor is reached in about 2 log2(depth) steps (skew-binary numbers; Myers 1983).
    """

    def __init__(self, transaction: Transaction) -> None:
        self._known = _KnownPlaces(transaction)

    def note(self, key: int, depth: int, jump: int | None) -> None:
        """Remember a node: its depth, and where it jumps to (None for a root)."""
        self._known[key] = (depth, key if jump is None else jump)

    def put(self, key: int, parent: int | None) -> tuple[int, int | None]:
        """Return depth and jump of a node below `parent` (None for a root), and remember it."""
        known = self._known
        if parent is None:
            known[key] = (0, key)
            return 0, None
        depth, jump = known[parent]
        jump_depth, next_jump = known[jump]
        if depth - jump_depth != jump_depth - known[next_jump][0]:
            next_jump = parent
        known[key] = (depth + 1, next_jump)
        return depth + 1, next_jump


class _KnownPlaces(dict[int, tuple[int, int]]):
    """Depth and jump by key (a root jumps to itself), read when first asked for."""

    def __init__(self, transaction: Transaction) -> None:
        super().__init__()
        self._transaction = transaction

    def __missing__(self, key: int) -> tuple[int, int]:
        _parent, depth, jump, _jump_depth = nodes.step(self._transaction, key)
        found = self[key] = (depth, jump)
        return found
