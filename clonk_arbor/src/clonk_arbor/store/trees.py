"""Trees, and the claims on them."""

from collections.abc import Sequence
from typing import Final

import attrs

from clonk_core.plugin import Transaction

COLUMNS: Final = "key, id, name, metadata, created_at, updated_at, archived_at, state, version, node_count, root_count"
SEEN: Final = "state in ('active', 'archived')"

INSERT: Final = (
    "insert into trees (id, name, metadata, created_at, updated_at, state)"
    " values (:id, :name, :metadata, :now, :now, :state) returning key"
)
BY_ID: Final = f"select {COLUMNS} from trees where id = :id and {SEEN}"
BY_KEY: Final = f"select {COLUMNS} from trees where key = :key and {SEEN}"
AFTER: Final = f"select {COLUMNS} from trees where id > :after and state in (:one, :other) order by id limit :limit"
TOUCH: Final = (
    "update trees set version = version + :changes, node_count = node_count + :nodes,"
    " root_count = root_count + :roots, updated_at = :now where id = :id and state = :state"
    " returning key, name, version, root_count"
)
CHANGE: Final = "update trees set name = :name, metadata = :metadata where key = :key"
SET_STATE: Final = "update trees set state = :state, archived_at = :archived_at where key = :key"
FILLED: Final = (
    "update trees set state = 'active', node_count = :nodes, root_count = :roots, updated_at = :now where key = :key"
)
ROOTS: Final = "select id from nodes where tree = :tree and parent is null order by key"
IN_STATE: Final = "select key from trees where state = :state limit :limit"
OVERDUE: Final = (
    "select key, id from trees where state = 'archived' and archived_at < :before"
    " and not exists (select 1 from claims where tree = key) limit :limit"
)
DROP: Final = "delete from trees where key = :key"

CLAIM: Final = (
    "insert into claims (tree, owner, claimed_by, claimed_at) values (:tree, :owner, :by, :now) on conflict do nothing"
)
RELEASE: Final = "delete from claims where tree = :tree and owner = :owner"
OWNERS: Final = "select owner from claims where tree = :tree order by owner"


@attrs.frozen
class TreeRow:
    """One row of `trees`, columns in the order they are selected."""

    key: int
    id: str
    name: str
    metadata: str
    created_at: str
    updated_at: str
    archived_at: str | None
    state: str
    version: int
    node_count: int
    root_count: int


@attrs.frozen
class Touched:
    """A tree that is being changed, as it is after the change."""

    key: int
    name: str
    version: int
    root_count: int


def insert(transaction: Transaction, tree_id: str, name: str, metadata: str, now: str, *, state: str = "active") -> int:
    """Add a tree without nodes; return its key."""
    row = transaction.one(INSERT, {"id": tree_id, "name": name, "metadata": metadata, "now": now, "state": state})
    assert row is not None  # noqa: S101 - for the type checker
    return int(row[0])


def find(transaction: Transaction, tree_id: str) -> TreeRow | None:
    """Return one tree that can be seen, or None."""
    row = transaction.one(BY_ID, {"id": tree_id})
    return None if row is None else TreeRow(*row)


def find_by_key(transaction: Transaction, key: int) -> TreeRow | None:
    """Return one tree that can be seen, or None."""
    row = transaction.one(BY_KEY, {"key": key})
    return None if row is None else TreeRow(*row)


def after(transaction: Transaction, last_id: str, states: Sequence[str], limit: int) -> list[TreeRow]:
    """Return the trees whose ids come after `last_id`, oldest first: ids sort by their time.

    Args:
        transaction: The open transaction.
        last_id: Id of the last one seen, empty for none.
        states: One or two.
        limit: At most this many.
    """
    bindings = {"after": last_id, "one": states[0], "other": states[-1], "limit": limit}
    return [TreeRow(*row) for row in transaction.all(AFTER, bindings)]


def touch(
    transaction: Transaction,
    tree_id: str,
    now: str,
    *,
    changes: int = 1,
    nodes: int = 0,
    roots: int = 0,
    state: str = "active",
) -> Touched | None:
    """Count changes, nodes and roots of a tree in a state; None when there is no such tree."""
    row = transaction.one(
        TOUCH, {"id": tree_id, "now": now, "changes": changes, "nodes": nodes, "roots": roots, "state": state}
    )
    return None if row is None else Touched(*row)


def change(transaction: Transaction, key: int, name: str, metadata: str) -> None:
    """Give a tree another name and metadata."""
    transaction.execute(CHANGE, {"key": key, "name": name, "metadata": metadata})


def set_state(transaction: Transaction, key: int, state: str, archived_at: str | None = None) -> None:
    """Put a tree into a state."""
    transaction.execute(SET_STATE, {"key": key, "state": state, "archived_at": archived_at})


def show_filled(transaction: Transaction, key: int, nodes: int, roots: int, now: str) -> None:
    """Make a tree seen whose nodes have all been imported."""
    transaction.execute(FILLED, {"key": key, "nodes": nodes, "roots": roots, "now": now})


def root_ids(transaction: Transaction, key: int) -> list[str]:
    """Return the ids of a tree's roots, oldest first."""
    return [node_id for (node_id,) in transaction.all(ROOTS, {"tree": key})]


def in_state(transaction: Transaction, state: str, limit: int) -> list[int]:
    """Return the keys of trees in a state."""
    return [key for (key,) in transaction.all(IN_STATE, {"state": state, "limit": limit})]


def overdue(transaction: Transaction, before: str, limit: int) -> list[tuple[int, str]]:
    """Return key and id of trees that were archived before a time and that nobody claims."""
    return [(key, tree_id) for key, tree_id in transaction.all(OVERDUE, {"before": before, "limit": limit})]


def drop(transaction: Transaction, key: int) -> None:
    """Take out a tree that has nothing left."""
    transaction.execute(DROP, {"key": key})


def claim(transaction: Transaction, key: int, owner: str, by: str, now: str) -> bool:
    """Note a claim; False when the owner has one already."""
    transaction.execute(CLAIM, {"tree": key, "owner": owner, "by": by, "now": now})
    return transaction.changes() > 0


def release(transaction: Transaction, key: int, owner: str) -> bool:
    """Drop a claim; False when there is none."""
    transaction.execute(RELEASE, {"tree": key, "owner": owner})
    return transaction.changes() > 0


def owners(transaction: Transaction, key: int) -> list[str]:
    """Return who claims a tree."""
    return [owner for (owner,) in transaction.all(OWNERS, {"tree": key})]
