"""The domain: trees written out as JSON lines and read in again.

The first line tells of the tree, then comes a line for each node, oldest first, then one for each position:

    {"tree": 1, "name": "Fix the parser", "metadata": {}, "created_at": "2026-01-31T12:00:00Z"}
    {"node": "node_...", "parent": null, "content": "Hello", "created_at": "2026-01-31T12:00:01Z"}
    {"position": "main", "node": "node_...", "metadata": {}}
"""

import json
from typing import Final

from clonk_arbor.limits import PAGE_BYTES
from clonk_arbor.messages import NodeId, TreeId
from clonk_arbor.reach import Reach, everywhere, seen_place, seen_tree
from clonk_arbor.store import nodes, positions, trees
from clonk_arbor.views import Export
from clonk_core.plugin import Conflict, Database, InvalidParams, Transaction

FORMAT: Final = 1
"""Number of the format, which stands in the first line."""


class Exports:
    """Writes out one realm's trees.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, tree_id: TreeId, limit: int, after: NodeId | None, version: int | None, reach: Reach = everywhere
    ) -> Export:
        """Return a page of lines."""
        return await self._database.read(_page, tree_id, limit, after, version, reach)


def _page(
    transaction: Transaction, tree_id: str, limit: int, after: str | None, version: int | None, reach: Reach
) -> Export:
    tree = seen_tree(transaction, tree_id, reach)
    if version is not None and version != tree.version:
        raise Conflict(
            f"tree {tree_id!r} has been changed since version {version}; begin the export anew",
            tree_id=tree_id,
            version=tree.version,
        )
    lines: list[str] = []
    last = 0
    if after is None:
        lines.append(_tree_line(tree))
    else:
        place = seen_place(transaction, after, reach)[1]
        if place.tree != tree.key:
            raise InvalidParams(f"{after!r} is not in tree {tree_id!r}", path="$.after")
        last = place.key
    rows = nodes.tree_after(transaction, tree.key, last, limit, PAGE_BYTES)
    lines += map(_node_line, rows)
    has_more = bool(rows) and bool(nodes.tree_after(transaction, tree.key, rows[-1].key, 1, 1))
    if not has_more:
        lines += [_position_line(row) for row in positions.after(transaction, tree.key, "", 1_000_000)]
    return Export(
        lines="".join(f"{line}\n" for line in lines),
        version=tree.version,
        after=NodeId(rows[-1].id) if has_more else None,
    )


def _tree_line(tree: trees.TreeRow) -> str:
    created_at = _text(tree.created_at)
    return f'{{"tree":{FORMAT},"name":{_text(tree.name)},"metadata":{tree.metadata},"created_at":{created_at}}}'


def _node_line(node: nodes.NodeRow) -> str:
    # Content and metadata are JSON text already.
    parent = "null" if node.parent_id is None else _text(node.parent_id)
    metadata = "" if node.metadata == "{}" else f',"metadata":{node.metadata}'
    return (
        f'{{"node":{_text(node.id)},"parent":{parent},"content":{node.content}{metadata},'
        f'"created_at":{_text(node.created_at)}}}'
    )


def _position_line(row: positions.PositionRow) -> str:
    return f'{{"position":{_text(row.name)},"node":{_text(row.node_id)},"metadata":{row.metadata}}}'


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
