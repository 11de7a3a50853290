"""The domain: what happens to a tree, told as it happens."""

import json
from collections.abc import AsyncIterator
from typing import Final

from clonk_arbor.bell import Bell
from clonk_arbor.errors import TreeNotFound
from clonk_arbor.messages import NodeId, TreeId
from clonk_arbor.reach import Reach, everywhere, seen_tree
from clonk_arbor.store import changes as stored
from clonk_arbor.values import moment
from clonk_arbor.views import (
    Change,
    ChangesLost,
    CreatedNode,
    NodeMoved,
    NodesCreated,
    NodesDeleted,
    PositionChanged,
    TreeDeleted,
    TreeUpdated,
)
from clonk_core.plugin import Database, InvalidParams, Transaction

AT_ONCE: Final = 64
"""Changes read in one go; each tells of up to 500 nodes."""


class Watch:
    """Tells changes of one realm's trees.

    Args:
        database: Where they are.
        bell: Rung after each change.
    """

    def __init__(self, database: Database, bell: Bell) -> None:
        self._database = database
        self._bell = bell

    async def start(self, tree_id: TreeId, after: int | None, reach: Reach = everywhere) -> int:
        """Return the number of the change to go on behind.

        Raises:
            TreeNotFound: There is no such tree.
            InvalidParams: It has not had so many changes.
        """
        return await self._database.read(_start, tree_id, after, reach)

    async def changes(
        self, tree_id: TreeId, after: int, reach: Reach = everywhere, *, follow: bool = True
    ) -> AsyncIterator[Change]:
        """Give the changes numbered above `after`, and with `follow` those to come, until the tree is deleted."""
        while True:
            rung = self._bell.listen(tree_id)
            try:
                found, last = await self._database.read(_read, tree_id, after, reach)
            except TreeNotFound:
                yield TreeDeleted()
                return
            for change in found:
                yield change
            if last > after:
                after = last
            elif follow:
                await rung.wait()
            else:
                return


def _start(transaction: Transaction, tree_id: str, after: int | None, reach: Reach) -> int:
    tree = seen_tree(transaction, tree_id, reach)
    if after is None:
        return tree.version
    if after > tree.version:
        raise InvalidParams(f"the tree's last change is number {tree.version}", path="$.after")
    return after


def _read(transaction: Transaction, tree_id: str, after: int, reach: Reach) -> tuple[list[Change], int]:
    """Return the next changes and the number of the last of them."""
    tree = seen_tree(transaction, tree_id, reach)
    if tree.version <= after:
        return [], after
    found: list[Change] = []
    rows = stored.after(transaction, tree.key, after, AT_ONCE)
    first = rows[0].version if rows else tree.version + 1
    if first > after + 1:
        found.append(ChangesLost(first=after + 1, last=first - 1))
    found += [_change(transaction, tree.key, row) for row in rows]
    return found, rows[-1].version if rows else tree.version


def _change(transaction: Transaction, tree: int, row: stored.ChangeRow) -> Change:
    at, version = moment(row.at), row.version
    if row.kind == "nodes_created":
        nodes = stored.created(transaction, tree, row.first or 0, row.last or 0)
        return NodesCreated(
            version=version,
            at=at,
            nodes=tuple(
                CreatedNode(
                    id=NodeId(node_id),
                    parent_id=None if parent_id is None else NodeId(parent_id),
                    kind=kind,  # type: ignore[arg-type]  # one of the three, written by ourselves
                )
                for node_id, parent_id, kind in nodes
            ),
        )
    detail = json.loads(row.detail or "{}")
    match row.kind:
        case "node_moved":
            return NodeMoved(version=version, at=at, node_id=detail["node_id"], parent_id=detail["parent_id"])
        case "nodes_deleted":
            return NodesDeleted(version=version, at=at, node_id=detail["node_id"], count=detail["count"])
        case "position_changed":
            return PositionChanged(version=version, at=at, name=detail["name"], node_id=detail["node_id"])
        case _:
            return TreeUpdated(version=version, at=at, what=row.kind)  # type: ignore[arg-type]  # one of the three
