"""Positions: names that point to a node of a tree and may be moved."""

from typing import Final

import attrs

from clonk_core.plugin import Transaction

_SELECT: Final = (
    "select p.name, n.id, p.version, p.metadata, p.created_at, p.moved_at from positions p"
    " join nodes n on n.key = p.node where p.tree = :tree"
)
ONE: Final = f"{_SELECT} and p.name = :name"
AFTER: Final = f"{_SELECT} and p.name > :after order by p.name limit :limit"
INSERT: Final = (
    "insert into positions (tree, name, node, version, metadata, created_at, moved_at)"
    " values (:tree, :name, :node, 1, :metadata, :now, :now) on conflict do nothing"
)
MOVE: Final = (
    "update positions set node = :node, version = version + 1, moved_at = :now"
    " where tree = :tree and name = :name and version = :version"
)
DELETE: Final = "delete from positions where tree = :tree and name = :name"
DROP: Final = "delete from positions where tree = :tree"
COUNT: Final = "select count(*) from positions where tree = :tree"
NODES: Final = "select name, node from positions where tree = :tree order by name"


@attrs.frozen
class PositionRow:
    """One position, columns in the order they are selected."""

    name: str
    node_id: str
    version: int
    metadata: str
    created_at: str
    moved_at: str


def find(transaction: Transaction, tree: int, name: str) -> PositionRow | None:
    """Return one position, or None."""
    row = transaction.one(ONE, {"tree": tree, "name": name})
    return None if row is None else PositionRow(*row)


def after(transaction: Transaction, tree: int, name: str, limit: int) -> list[PositionRow]:
    """Return the positions whose names come after `name`, by name."""
    return [PositionRow(*row) for row in transaction.execute(AFTER, {"tree": tree, "after": name, "limit": limit})]


def insert(transaction: Transaction, tree: int, name: str, node: int, metadata: str, now: str) -> bool:
    """Add a position; False when the name is taken."""
    transaction.execute(INSERT, {"tree": tree, "name": name, "node": node, "metadata": metadata, "now": now})
    return transaction.changes() > 0


def move(transaction: Transaction, tree: int, name: str, node: int, version: int, now: str) -> bool:
    """Move a position whose version is `version`; False when it has another, or is not there."""
    transaction.execute(MOVE, {"tree": tree, "name": name, "node": node, "version": version, "now": now})
    return transaction.changes() > 0


def delete(transaction: Transaction, tree: int, name: str) -> None:
    """Take out a position."""
    transaction.execute(DELETE, {"tree": tree, "name": name})


def drop(transaction: Transaction, tree: int) -> None:
    """Take out all positions of a tree."""
    transaction.execute(DROP, {"tree": tree})


def count(transaction: Transaction, tree: int) -> int:
    """Return how many positions a tree has."""
    row = transaction.one(COUNT, {"tree": tree})
    return 0 if row is None else int(row[0])


def nodes(transaction: Transaction, tree: int) -> list[tuple[str, int]]:
    """Return name and node of every position of a tree."""
    return [(name, node) for name, node in transaction.all(NODES, {"tree": tree})]
