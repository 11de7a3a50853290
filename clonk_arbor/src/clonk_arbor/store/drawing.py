"""Nodes as they are drawn: one by one, in the order of a walk through the tree."""

from typing import Final

import attrs

from clonk_core.plugin import Transaction

BEGINNING: Final = 4096
"""Characters of a content that are read."""

_COLUMNS: Final = f"key, id, kind, size, substr(content, 1, {BEGINNING})"
ONE: Final = f"select {_COLUMNS} from nodes where key = :key"
NEXT_CHILD: Final = f"select {_COLUMNS} from nodes where parent = :parent and key > :last order by key limit 1"
NEXT_ROOT: Final = (
    f"select {_COLUMNS} from nodes where tree = :tree and parent is null and key > :last order by key limit 1"
)
CHILDREN: Final = "select count(*) from (select 1 from nodes where parent = :parent limit 2)"
ROOTS: Final = "select count(*) from (select 1 from nodes where tree = :tree and parent is null limit 2)"


@attrs.frozen
class Drawn:
    """What is shown of a node, columns in the order they are selected."""

    key: int
    id: str
    kind: str
    size: int
    content: str


def one(transaction: Transaction, key: int) -> Drawn:
    """Return a node that is there."""
    row = transaction.one(ONE, {"key": key})
    assert row is not None  # noqa: S101 - it was found before
    return Drawn(*row)


def next_child(transaction: Transaction, tree: int, parent: int | None, last: int) -> Drawn | None:
    """Return the first child (a root without parent) with a key above `last`, or None."""
    if parent is None:
        row = transaction.one(NEXT_ROOT, {"tree": tree, "last": last})
    else:
        row = transaction.one(NEXT_CHILD, {"parent": parent, "last": last})
    return None if row is None else Drawn(*row)


def count_children(transaction: Transaction, tree: int, parent: int | None) -> int:
    """Return how many children a node (roots a tree) has; 2 for all above."""
    row = transaction.one(ROOTS, {"tree": tree}) if parent is None else transaction.one(CHILDREN, {"parent": parent})
    return 0 if row is None else int(row[0])
