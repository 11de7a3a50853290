"""The domain: what a model would be given at a node. The path to it, its handles resolved, within a budget."""

import json
import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import attrs

from clonk_arbor.branches import is_on_path
from clonk_arbor.limits import MIB
from clonk_arbor.messages import NodeId, TreeId
from clonk_arbor.reach import Reach, everywhere, seen_place, seen_tree
from clonk_arbor.resolve import Resolution, Resolver
from clonk_arbor.store import joined, nodes, walks
from clonk_arbor.values import moment, read_handle
from clonk_arbor.views import Context, Leaf, NodeHandle, ObjectEntry
from clonk_core.plugin import Database, InvalidParams, Transaction, Written

BYTES_PER_TOKEN: Final = 4

MAX_HANDLE_BYTES: Final = 64 * MIB
"""Handles of a path are held in memory until they are resolved: no more of them than a context may hold at most."""


@attrs.frozen
class Budget:
    """How much a context may hold.

    Attributes:
        max_bytes: Most bytes of contents, as JSON.
        max_tokens: Most tokens, about; None for no such limit.
    """

    max_bytes: int
    max_tokens: int | None = None


@attrs.frozen
class _Path:
    """The nearest nodes of a path that fit, nearest first.

    Attributes:
        tree_id: The tree.
        depth: Of the node.
        ids, kinds, sizes, texts: Of each.
    """

    tree_id: str
    depth: int
    ids: Sequence[NodeId]
    kinds: Sequence[str]
    sizes: Sequence[int]
    texts: Sequence[str]


@attrs.frozen
class _Part:
    """The part of a path that is shown.

    Attributes:
        tree_id: The tree.
        depth: Of the node.
        text: The entries with commas between them, the root's end first.
        count: How many.
        size, tokens: Of their contents.
    """

    tree_id: str
    depth: int
    text: str
    count: int
    size: int
    tokens: int


class Contexts:
    """Reads contexts of one realm's trees.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(
        self, node_id: NodeId, budget: Budget, resolver: Resolver | None = None, reach: Reach = everywhere
    ) -> Context:
        """Return the path to a node; without a resolver its handles stay as they are."""
        path = await self._database.read(_read_whole_path, node_id, budget, reach)
        if path is None:
            path = await self._fitted(node_id, budget, resolver, reach)
        return Context(
            tree_id=TreeId(path.tree_id),
            node_id=node_id,
            entries=Written(f"[{path.text}]"),
            left_out=path.depth + 1 - path.count,
            bytes=path.size,
            tokens=path.tokens,
        )

    async def _fitted(self, node_id: NodeId, budget: Budget, resolver: Resolver | None, reach: Reach) -> _Part:
        """Return as much of a path as fits, with its handles resolved."""
        path = await self._database.read(_read_path, node_id, budget, reach)
        # Put together from the stored texts: thousands of objects would cost ten times more than reading them.
        entries = [joined.ENTRY.format(*one) for one in zip(path.ids, path.texts, strict=True)]
        sizes = list(path.sizes)
        if "handle" in path.kinds:
            await _resolve(entries, sizes, path, resolver)
        kept, size, tokens = _fitting(sizes, budget)
        text = ",".join(reversed(entries[:kept]))
        return _Part(path.tree_id, path.depth, text, kept, size, tokens)

    async def leaves(
        self, tree_id: TreeId, limit: int, after: NodeId | None, reach: Reach = everywhere
    ) -> tuple[Leaf, ...]:
        """Return a tree's nodes without children, oldest first."""
        rows = await self._database.read(_read_leaves, tree_id, limit, after, reach)
        return tuple(
            Leaf(node_id=NodeId(node_id), depth=depth, kind=kind, created_at=moment(created_at))  # type: ignore[arg-type]
            for node_id, depth, kind, created_at in rows
        )

    async def handles(
        self, node_id: NodeId, limit: int, after: NodeId | None, reach: Reach = everywhere
    ) -> tuple[NodeHandle, ...]:
        """Return the handles on the path to a node, the root's end first."""
        rows = await self._database.read(_read_handles, node_id, limit, after, reach)
        return tuple(
            NodeHandle(node_id=NodeId(one), depth=depth, handle=read_handle(content))
            for _key, one, depth, content in rows
        )


async def _resolve(entries: list[str], sizes: list[int], path: _Path, resolver: Resolver | None) -> None:
    """Put what handles lead to into their places."""
    places = [place for place, kind in enumerate(path.kinds) if kind == "handle"]
    handles = [read_handle(path.texts[place]) for place in places]
    if resolver is None:
        found: Sequence[Resolution] = [Resolution("unresolved", reason="not asked for")] * len(handles)
    else:
        found = await resolver.resolve(handles)
    for place, handle, one in zip(places, handles, found, strict=True):
        entry = ObjectEntry(
            node_id=path.ids[place], handle=handle, state=one.state, content=one.content, reason=one.reason
        )
        entries[place] = json.dumps(attrs.asdict(entry), ensure_ascii=False, separators=(",", ":"))
        sizes[place] = one.size


def _fitting(sizes: Sequence[int], budget: Budget) -> tuple[int, int, int]:
    """Return how many of the nearest nodes fit, their bytes and their tokens."""
    all_tokens = [-(-size // BYTES_PER_TOKEN) for size in sizes]
    total, tokens = sum(sizes), sum(all_tokens)
    most_tokens = math.inf if budget.max_tokens is None else budget.max_tokens
    if total <= budget.max_bytes and tokens <= most_tokens:
        return len(sizes), total, tokens
    total = tokens = 0
    for kept, (size, more) in enumerate(zip(sizes, all_tokens, strict=True)):
        if tokens + more > most_tokens or total + size > budget.max_bytes:
            return kept, total, tokens
        total += size
        tokens += more
    return len(sizes), total, tokens


def _read_whole_path(transaction: Transaction, node_id: str, budget: Budget, reach: Reach) -> _Part | None:
    """Return the whole path to a node; None when some of it is over the budget, large or a handle."""
    tree, place = seen_place(transaction, node_id, reach)
    texts: list[str] = []
    count = size = tokens = 0
    for stretch in joined.stretches_up(transaction, tree.key, place.key):
        count += stretch.count
        size += stretch.size
        tokens += stretch.tokens
        is_over = size > budget.max_bytes or (budget.max_tokens is not None and tokens > budget.max_tokens)
        if is_over or not stretch.is_plain:
            return None
        texts.append(stretch.text)
    return _Part(tree.id, place.depth, ",".join(reversed(texts)), count, size, tokens)


def _read_path(transaction: Transaction, node_id: str, budget: Budget, reach: Reach) -> _Path:
    tree, place = seen_place(transaction, node_id, reach)
    tokens_as_bytes = budget.max_bytes if budget.max_tokens is None else budget.max_tokens * BYTES_PER_TOKEN
    room = min(budget.max_bytes, tokens_as_bytes)
    rows: list[walks.Content] = []
    handle_room = MAX_HANDLE_BYTES
    for some in walks.contents_up(transaction, tree.key, place.key):
        # Handles do not count yet: what one leads to may be smaller than the handle itself.
        sizes = [row[2] if row[1] != "handle" else 0 for row in some]
        handle_room -= sum(row[2] for row in some) - sum(sizes)
        if sum(sizes) > room or handle_room < 0:
            rows += [row for row, total in zip(some, accumulate(sizes), strict=True) if total <= room]
            break
        rows += some
        room -= sum(sizes)
    # The large ones are read only now that they are known to fit.
    whole = [row[3] if row[3] is not None else walks.content_of(transaction, row[5]) for row in rows]
    ids, kinds, byte_counts, *_rest = zip(*rows, strict=True) if rows else ((), (), ())
    return _Path(tree.id, place.depth, ids, kinds, byte_counts, whole)


def _read_leaves(
    transaction: Transaction, tree_id: str, limit: int, after: str | None, reach: Reach
) -> list[tuple[str, int, str, str]]:
    tree = seen_tree(transaction, tree_id, reach)
    last = 0 if after is None else key_in_tree(transaction, after, tree.key, tree_id, reach)
    return nodes.leaves_after(transaction, tree.key, last, limit)


def key_in_tree(transaction: Transaction, node_id: str, tree: int, tree_id: str, reach: Reach) -> int:
    """Return the key of a node that a page of a tree's nodes goes on behind.

    Raises:
        NodeNotFound: There is none.
        InvalidParams: It belongs to another tree.
    """
    place = seen_place(transaction, node_id, reach)[1]
    if place.tree != tree:
        raise InvalidParams(
            f"{node_id!r} is not in tree {tree_id!r}; give the last id of the page before", path="$.after"
        )
    return place.key


def _read_handles(
    transaction: Transaction, node_id: str, limit: int, after: str | None, reach: Reach
) -> list[tuple[int, str, int, str]]:
    _tree, place = seen_place(transaction, node_id, reach)
    steps = place.depth + 1
    if after is not None:
        last_seen = seen_place(transaction, after, reach)[1]
        if not is_on_path(transaction, last_seen, place):
            raise InvalidParams(f"{after!r} is not on the path to {node_id!r}", path="$.after")
        steps = place.depth - last_seen.depth
    if steps <= 0:
        return []
    return walks.handles_up(transaction, place.key, steps)[: -limit - 1 : -1]
