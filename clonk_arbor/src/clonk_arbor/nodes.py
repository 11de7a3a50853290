"""The domain: nodes, one by one and many at once."""

import json
from collections.abc import Callable, Sequence
from typing import Final

import trio

from clonk_arbor.bell import Bell
from clonk_arbor.errors import ContentTooLarge, NodeNotFound, ParentInOtherTree, TooDeep, TooManyRoots
from clonk_arbor.identifiers import node_ids
from clonk_arbor.limits import CHANGE_SPAN, MAX_BATCH_BYTES, MAX_CONTENT_BYTES, MAX_DEPTH, MAX_ROOTS, PAGE_BYTES
from clonk_arbor.messages import Metadata, Node, NodeDraft, NodeId, TreeId
from clonk_arbor.reach import Reach, check_seen, everywhere, seen_place, touch
from clonk_arbor.store import changes, trees
from clonk_arbor.store import nodes as stored
from clonk_arbor.store.walks import Jumps, path_up
from clonk_arbor.values import metadata_text, moment, now, stored_content
from clonk_core.plugin import Database, InvalidParams, JsonValue, Transaction, new_id

SMALL_BYTES: Final = 4096
"""Contents up to this may be written on the event loop's own thread."""

Parent = str | int | None
"""Whom a node follows: a node that is there by its id, an earlier one of the same call by its place, or nobody."""


class Nodes:
    """The nodes of one realm's trees. Every method is one transaction.

    Args:
        database: Where they are.
        bell: Rung after each change.
        max_content_bytes: Largest content of one node.
    """

    def __init__(
        self, database: Database, bell: Bell | None = None, *, max_content_bytes: int = MAX_CONTENT_BYTES
    ) -> None:
        self._database = database
        self._bell = bell or Bell()
        self._max_content_bytes = max_content_bytes
        self._creating = 0

    async def create(
        self,
        tree_id: TreeId,
        parent_id: NodeId | None,
        content: JsonValue,
        metadata: Metadata | None,
        reach: Reach = everywhere,
    ) -> NodeId:
        """Add one node below `parent_id`, or a root."""
        node = self._new(new_id("node"), content, metadata, now(), "$.content", "$.metadata")
        self._creating += 1
        try:
            await trio.lowlevel.checkpoint()
            # One that writes alone has it done at once, in a third of the time; many share their commits.
            is_quick = self._creating == 1 and node.size <= SMALL_BYTES
            write = self._database.write_small if is_quick else self._database.write_grouped
            await write(_insert, tree_id, parent_id, node, reach)
        finally:
            self._creating -= 1
        self._bell.ring(tree_id)
        return NodeId(node.id)

    async def create_path(
        self, tree_id: TreeId, parent_id: NodeId | None, contents: Sequence[JsonValue], reach: Reach = everywhere
    ) -> tuple[NodeId, ...]:
        """Add nodes each of which follows the one before, the first one `parent_id`."""
        at, limit = now(), self._max_content_bytes
        new = []
        for index, (node_id, content) in enumerate(zip(node_ids(len(contents)), contents, strict=True)):
            kind, text, size = stored_content(content, limit, f"$.contents[{index}]")
            new.append(stored.NewNode(node_id, kind, size, at, "{}", text))
        return await self._create(tree_id, new, [parent_id, *range(len(new) - 1)], reach, "$.contents")

    async def create_many(
        self, tree_id: TreeId, nodes: Sequence[NodeDraft], reach: Reach = everywhere
    ) -> tuple[NodeId, ...]:
        """Add nodes anywhere in a tree."""
        at = now()
        new: list[stored.NewNode] = []
        parents: list[Parent] = []
        for index, (node_id, draft) in enumerate(zip(node_ids(len(nodes)), nodes, strict=True)):
            place = f"$.nodes[{index}]"
            if draft.parent_index is not None and (draft.parent_id is not None or draft.parent_index >= index):
                raise InvalidParams(
                    "must name an earlier node of the list, and not beside `parent_id`", path=f"{place}.parent_index"
                )
            new.append(self._new(node_id, draft.content, draft.metadata, at, f"{place}.content", f"{place}.metadata"))
            parents.append(draft.parent_id if draft.parent_index is None else draft.parent_index)
        return await self._create(tree_id, new, parents, reach, "$.nodes")

    async def _create(
        self,
        tree_id: TreeId,
        new: Sequence[stored.NewNode],
        parents: Sequence[Parent],
        reach: Reach,
        path: str,
    ) -> tuple[NodeId, ...]:
        size = sum(node.size for node in new)
        limit = max(MAX_BATCH_BYTES, self._max_content_bytes)
        if size > limit:
            raise ContentTooLarge(path, size, limit)
        await self._database.run(_insert_many, tree_id, new, parents, reach)
        self._bell.ring(tree_id)
        return tuple(NodeId(node.id) for node in new)

    def _new(
        self,
        node_id: str,
        content: JsonValue,
        metadata: Metadata | None,
        at: str,
        content_path: str,
        metadata_path: str,
    ) -> stored.NewNode:
        kind, text, size = stored_content(content, self._max_content_bytes, content_path)
        return stored.NewNode(node_id, kind, size, at, metadata_text(metadata, metadata_path), text)

    async def get(self, node_id: NodeId, reach: Reach = everywhere) -> Node:
        """Return one node."""
        return await self._database.read(_read, node_id, reach)

    async def parent(self, node_id: NodeId, reach: Reach = everywhere) -> Node | None:
        """Return the node above one; None above a root."""
        return await self._database.read(_read_parent, node_id, reach)

    async def children(
        self, node_id: NodeId, limit: int, after: NodeId | None, reach: Reach = everywhere
    ) -> tuple[Node, ...]:
        """Return direct children, oldest first."""
        return await self._database.read(_read_children, node_id, limit, after, reach)

    async def ancestors(
        self, node_id: NodeId, limit: int, after: NodeId | None = None, reach: Reach = everywhere
    ) -> tuple[Node, ...]:
        """Return the nodes above one, nearest first."""
        return await self._database.read(_read_ancestors, node_id, limit, after, reach)


# ── written ──────────────────────────────────────────────────────────────────


def _insert(transaction: Transaction, tree_id: str, parent_id: str | None, node: stored.NewNode, reach: Reach) -> None:
    is_root = parent_id is None
    tree = touch(transaction, tree_id, reach, node.created_at, nodes=1, roots=int(is_root))
    if parent_id is None:
        if tree.root_count > MAX_ROOTS:
            raise TooManyRoots(tree_id, MAX_ROOTS)
        key = stored.insert(transaction, node, tree.key, parent=None, jump=None, depth=0)
    else:
        parent = _parent_place(transaction, parent_id, tree, tree_id, reach)
        # As `Jumps.below`, without a look at each ancestor.
        is_even = parent.depth - parent.jump_depth == parent.jump_depth - parent.next_jump_depth
        jump = parent.next_jump if is_even else parent.key
        key = stored.insert(transaction, node, tree.key, parent=parent.key, jump=jump, depth=parent.depth + 1)
    changes.insert(transaction, tree.key, tree.version, "nodes_created", node.created_at, first=key, last=key)


def _parent_place(
    transaction: Transaction, parent_id: str, tree: trees.Touched, tree_id: str, reach: Reach
) -> stored.Place:
    parent = stored.place(transaction, parent_id)
    if parent is None:
        raise NodeNotFound(parent_id)
    if parent.tree != tree.key:
        check_seen(transaction, parent_id, parent, reach)
        raise ParentInOtherTree(parent_id, tree_id)
    if parent.depth >= MAX_DEPTH:
        raise TooDeep(MAX_DEPTH)
    return parent


def _insert_many(
    transaction: Transaction,
    tree_id: str,
    new: Sequence[stored.NewNode],
    parents: Sequence[Parent],
    reach: Reach,
) -> None:
    at = new[0].created_at
    first = stored.last_key(transaction) + 1
    starts = range(first, first + len(new), CHANGE_SPAN)
    tree = touch(transaction, tree_id, reach, at, changes=len(starts), nodes=len(new), roots=parents.count(None))
    if tree.root_count > MAX_ROOTS:
        raise TooManyRoots(tree_id, MAX_ROOTS)
    jumps = Jumps(transaction)
    known: dict[str, int] = {}
    for parent_id in parents:
        if type(parent_id) is str and parent_id not in known:
            place = _parent_place(transaction, parent_id, tree, tree_id, reach)
            jumps.note(place.key, place.depth, place.jump)
            known[parent_id] = place.key
    keys = [
        first + parent if type(parent) is int else None if parent is None else known[str(parent)] for parent in parents
    ]
    insert_placed(transaction, new, tree.key, first, keys, jumps)
    spans = [(start, min(start + CHANGE_SPAN, first + len(new)) - 1) for start in starts]
    changes.insert_spans(transaction, tree.key, tree.version, spans, at)


def insert_placed(
    transaction: Transaction,
    nodes: Sequence[stored.NewNode],
    tree: int,
    first: int,
    parents: Sequence[int | None],
    jumps: Jumps,
) -> None:
    """Add nodes with the keys from `first` on, each behind its parent.

    Raises:
        TooDeep: One would be.
    """
    rows = []
    for key, node, parent in zip(range(first, first + len(nodes)), nodes, parents, strict=True):
        depth, jump = jumps.put(key, parent)
        if depth > MAX_DEPTH:
            raise TooDeep(MAX_DEPTH)
        rows.append((key, tree, parent, jump, depth, *node))
    stored.insert_keyed(transaction, rows)


# ── read ─────────────────────────────────────────────────────────────────────


def _read(transaction: Transaction, node_id: str, reach: Reach) -> Node:
    row = stored.find(transaction, node_id)
    tree = None if row is None else trees.find_by_key(transaction, row.tree)
    if row is None or tree is None or not reach(tree.name):
        raise NodeNotFound(node_id)
    return as_node(tree.id)(row)


def _read_parent(transaction: Transaction, node_id: str, reach: Reach) -> Node | None:
    tree, place = seen_place(transaction, node_id, reach)
    if place.parent is None:
        return None
    (row,) = path_up(transaction, place.parent, 1, PAGE_BYTES)
    return as_node(tree.id)(row)


def _read_children(
    transaction: Transaction, node_id: str, limit: int, after: str | None, reach: Reach
) -> tuple[Node, ...]:
    tree, place = seen_place(transaction, node_id, reach)
    last = 0
    if after is not None:
        last_seen = seen_place(transaction, after, reach)[1]
        if last_seen.parent != place.key:
            raise InvalidParams(
                f"{after!r} is no child of {node_id!r}; give the last id of the page before", path="$.after"
            )
        last = last_seen.key
    return tuple(map(as_node(tree.id), stored.children_after(transaction, place.key, last, limit, PAGE_BYTES)))


def _read_ancestors(
    transaction: Transaction, node_id: str, limit: int, after: str | None, reach: Reach
) -> tuple[Node, ...]:
    tree, place = seen_place(transaction, node_id, reach)
    if after is not None:
        from_tree, place = seen_place(transaction, after, reach)
        if from_tree.key != tree.key:
            raise InvalidParams(f"{after!r} is in another tree than {node_id!r}", path="$.after")
    if place.parent is None:
        return ()
    return tuple(map(as_node(tree.id), path_up(transaction, place.parent, limit, PAGE_BYTES)))


def as_node(tree_id: str) -> Callable[[stored.NodeRow], Node]:
    """Return what makes the message of a node of a tree."""

    def make(row: stored.NodeRow) -> Node:
        return Node(
            id=NodeId(row.id),
            tree_id=TreeId(tree_id),
            parent_id=None if row.parent_id is None else NodeId(row.parent_id),
            depth=row.depth,
            kind=row.kind,  # type: ignore[arg-type]  # one of the three, written by ourselves
            content=json.loads(row.content),
            metadata=json.loads(row.metadata),
            created_at=moment(row.created_at),
        )

    return make
