"""The domain: positions, the named places of a tree."""

import json

from clonk_arbor.bell import Bell
from clonk_arbor.errors import PositionNotFound, TooManyPositions
from clonk_arbor.limits import MAX_POSITIONS
from clonk_arbor.messages import Metadata, NodeId, Position, TreeId
from clonk_arbor.reach import Reach, everywhere, place_in, seen_tree, touch
from clonk_arbor.store import changes
from clonk_arbor.store import positions as stored
from clonk_arbor.values import metadata_text, moment, now
from clonk_core.plugin import Conflict, Database, Transaction


class Positions:
    """The positions of one realm's trees. Every method is one transaction."""

    def __init__(self, database: Database, bell: Bell | None = None) -> None:
        self._database = database
        self._bell = bell or Bell()

    async def create(
        self,
        tree_id: TreeId,
        name: str,
        node_id: NodeId,
        metadata: Metadata | None = None,
        reach: Reach = everywhere,
    ) -> Position:
        """Name a place in a tree."""
        text = metadata_text(metadata)
        position = await self._database.run(_create, tree_id, name, node_id, text, reach)
        self._bell.ring(tree_id)
        return position

    async def get(self, tree_id: TreeId, name: str, reach: Reach = everywhere) -> Position:
        """Return one position."""
        return await self._database.read(_read, tree_id, name, reach)

    async def list(
        self, tree_id: TreeId, limit: int, after: str | None, reach: Reach = everywhere
    ) -> tuple[Position, ...]:
        """Return the positions of a tree, by name."""
        return tuple(await self._database.read(_list, tree_id, limit, after or "", reach))

    async def move(
        self, tree_id: TreeId, name: str, node_id: NodeId, version: int, reach: Reach = everywhere
    ) -> Position:
        """Let a position point to another node, if it is still where the caller saw it."""
        position = await self._database.run(_move, tree_id, name, node_id, version, reach)
        self._bell.ring(tree_id)
        return position

    async def delete(self, tree_id: TreeId, name: str, version: int | None, reach: Reach = everywhere) -> None:
        """Delete a position, if it is still where the caller saw it."""
        await self._database.run(_delete, tree_id, name, version, reach)
        self._bell.ring(tree_id)


def _create(transaction: Transaction, tree_id: str, name: str, node_id: str, metadata: str, reach: Reach) -> Position:
    at = now()
    tree = touch(transaction, tree_id, reach, at)
    node = place_in(transaction, node_id, tree, tree_id, reach)
    if stored.count(transaction, tree.key) >= MAX_POSITIONS:
        raise TooManyPositions(tree_id, MAX_POSITIONS)
    if not stored.insert(transaction, tree.key, name, node.key, metadata, at):
        raise Conflict(
            f"tree {tree_id!r} has a position {name!r} already; `arbor.position_move` moves it",
            tree_id=tree_id,
            name=name,
        )
    _note(transaction, tree.key, tree.version, name, node_id, at)
    return _read(transaction, tree_id, name, reach)


def _note(transaction: Transaction, tree: int, version: int, name: str, node_id: str | None, at: str) -> None:
    detail = json.dumps({"name": name, "node_id": node_id})
    changes.insert(transaction, tree, version, "position_changed", at, detail=detail)


def _read(transaction: Transaction, tree_id: str, name: str, reach: Reach) -> Position:
    tree = seen_tree(transaction, tree_id, reach)
    row = stored.find(transaction, tree.key, name)
    if row is None:
        raise PositionNotFound(tree_id, name)
    return _position(tree_id, row)


def _list(transaction: Transaction, tree_id: str, limit: int, after: str, reach: Reach) -> list[Position]:
    tree = seen_tree(transaction, tree_id, reach)
    return [_position(tree_id, row) for row in stored.after(transaction, tree.key, after, limit)]


def _move(transaction: Transaction, tree_id: str, name: str, node_id: str, version: int, reach: Reach) -> Position:
    before = _read(transaction, tree_id, name, reach)
    at = now()
    tree = touch(transaction, tree_id, reach, at)
    node = place_in(transaction, node_id, tree, tree_id, reach)
    _check_version(before, version)
    stored.move(transaction, tree.key, name, node.key, version, at)
    _note(transaction, tree.key, tree.version, name, node_id, at)
    return _read(transaction, tree_id, name, reach)


def _delete(transaction: Transaction, tree_id: str, name: str, version: int | None, reach: Reach) -> None:
    before = _read(transaction, tree_id, name, reach)
    if version is not None:
        _check_version(before, version)
    at = now()
    tree = touch(transaction, tree_id, reach, at)
    stored.delete(transaction, tree.key, name)
    _note(transaction, tree.key, tree.version, name, None, at)


def _check_version(position: Position, version: int) -> None:
    if position.version != version:
        raise Conflict(
            f"position {position.name!r} is at version {position.version} by now, not at {version}: it points to "
            f"{position.node_id!r}; look at it again",
            tree_id=position.tree_id,
            name=position.name,
            version=position.version,
            node_id=position.node_id,
        )


def _position(tree_id: str, row: stored.PositionRow) -> Position:
    return Position(
        tree_id=TreeId(tree_id),
        name=row.name,
        node_id=NodeId(row.node_id),
        version=row.version,
        metadata=json.loads(row.metadata),
        created_at=moment(row.created_at),
        moved_at=moment(row.moved_at),
    )
