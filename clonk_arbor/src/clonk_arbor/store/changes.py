"""The log of what happened to a tree."""

from collections.abc import Sequence
from typing import Final

import attrs

from clonk_core.plugin import Transaction

INSERT: Final = (
    "insert into changes (tree, version, kind, first, last, detail, at)"
    " values (:tree, :version, :kind, :first, :last, :detail, :at)"
)
AFTER: Final = (
    "select version, kind, first, last, detail, at from changes where tree = :tree and version > :after"
    " order by version limit :limit"
)
CREATED: Final = (
    "select n.id, p.id, n.kind from nodes n left join nodes p on p.key = n.parent"
    " where n.key between :first and :last and n.tree = :tree order by n.key"
)
PRUNE: Final = "delete from changes where tree = :tree and version <= :through"
OLDEST: Final = "select version from changes where tree = :tree order by version limit 1"
DROP_SOME: Final = (
    "delete from changes where tree = :tree and version in"
    " (select version from changes where tree = :tree order by version limit :limit)"
)
TREES_AFTER: Final = "select key, version from trees where key > :after and version > :kept order by key limit :limit"


@attrs.frozen
class ChangeRow:
    """One row of `changes`, columns in the order they are selected."""

    version: int
    kind: str
    first: int | None
    last: int | None
    detail: str | None
    at: str


def insert(
    transaction: Transaction,
    tree: int,
    version: int,
    kind: str,
    now: str,
    *,
    first: int | None = None,
    last: int | None = None,
    detail: str | None = None,
) -> None:
    """Add one change; `version` is its number."""
    transaction.execute(
        INSERT,
        {
            "tree": tree,
            "version": version,
            "kind": kind,
            "first": first,
            "last": last,
            "detail": detail,
            "at": now,
        },
    )


def insert_spans(transaction: Transaction, tree: int, version: int, spans: Sequence[tuple[int, int]], now: str) -> None:
    """Add one change for each span of keys of new nodes; the last has the number `version`."""
    first_version = version - len(spans) + 1
    transaction.execute_many(
        INSERT,
        [
            {
                "tree": tree,
                "version": first_version + number,
                "kind": "nodes_created",
                "first": first,
                "last": last,
                "detail": None,
                "at": now,
            }
            for number, (first, last) in enumerate(spans)
        ],
    )


def after(transaction: Transaction, tree: int, version: int, limit: int) -> list[ChangeRow]:
    """Return the changes numbered above `version`, oldest first."""
    return [ChangeRow(*row) for row in transaction.execute(AFTER, {"tree": tree, "after": version, "limit": limit})]


def created(transaction: Transaction, tree: int, first: int, last: int) -> list[tuple[str, str | None, str]]:
    """Return id, parent's id and kind of a span of nodes; those deleted since are missing."""
    return [
        (node_id, parent_id, kind)
        for node_id, parent_id, kind in transaction.execute(CREATED, {"tree": tree, "first": first, "last": last})
    ]


def trees_after(transaction: Transaction, after_key: int, kept: int, limit: int) -> list[tuple[int, int]]:
    """Return key and version of trees that had more than `kept` changes, by key."""
    bindings = {"after": after_key, "kept": kept, "limit": limit}
    return [(key, version) for key, version in transaction.all(TREES_AFTER, bindings)]


def prune(transaction: Transaction, tree: int, through: int, at_most: int) -> int:
    """Drop up to `at_most` of a tree's changes, the oldest, none numbered above `through`; return how many."""
    oldest = transaction.one(OLDEST, {"tree": tree})
    if oldest is None:
        return 0
    transaction.execute(PRUNE, {"tree": tree, "through": min(through, oldest[0] + at_most - 1)})
    return transaction.changes()


def drop_some(transaction: Transaction, tree: int, limit: int) -> int:
    """Drop up to `limit` changes of a tree that is being taken away; return how many."""
    transaction.execute(DROP_SOME, {"tree": tree, "limit": limit})
    return transaction.changes()
