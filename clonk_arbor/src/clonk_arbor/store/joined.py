"""The entries of a path as one text, joined within SQLite: thousands of rows need not become objects first."""

from collections.abc import Iterator
from typing import Final

import attrs

from clonk_arbor.store import walks
from clonk_core.plugin import Transaction

ENTRY: Final = '{{"node_id":"{}","content":{},"type":"node"}}'
"""A `NodeEntry`, of an id (which has no character that JSON escapes) and a stored text."""

_ENTRY: Final = """'{"node_id":"' || id || '","content":' || content || ',"type":"node"}'"""
_AMONG: Final = "from nodes where key between :first and :key and +tree = :tree order by key"
SUMS: Final = (
    "select count(*), sum(size), sum((size + 3) / 4), max(size), sum(kind = 'handle'), min(key), group_concat(key),"
    f" group_concat(coalesce(parent, 0)) from (select key, parent, kind, size {_AMONG})"
)
JOINED: Final = f"select group_concat({_ENTRY}) from (select id, content {_AMONG})"
STEPS: Final = (
    f"{walks.UP} select group_concat(case when size <= :large then {_ENTRY} end, char(10)), count(*), sum(size),"
    " sum((size + 3) / 4), min(size <= :large and kind != 'handle'), group_concat(coalesce(parent, 0))"
    " from (select n.id, n.kind, n.size, n.content, n.parent from up cross join nodes n on n.key = up.node)"
)
PARENT: Final = "select parent from nodes where key = :key"

_FIRST_SPAN: Final = 64
_LONGEST_SPAN: Final = 4096
_STEPS: Final = 2048


@attrs.frozen
class Stretch:
    """Some nodes of a path that follow each other.

    Attributes:
        text: Their entries with commas between them, the root's end first.
        count: How many.
        size: Bytes of their contents.
        tokens: A fourth of the bytes of each, rounded up.
        is_plain: Whether all can be shown as they are. If not, one is a handle, or large, and there is no text.
    """

    text: str
    count: int
    size: int
    tokens: int
    is_plain: bool


def stretches_up(transaction: Transaction, tree: int, key: int) -> Iterator[Stretch]:
    """Give the path from a node to its root, nearest first, some nodes at a time.

    Where all of a tree's nodes within a range of keys are on the path, they are taken as one; where not, step by step.
    """
    above: int | None = key
    span = _FIRST_SPAN
    while above is not None:
        found = _as_one(transaction, tree, above, span)
        if found is None:
            span = _FIRST_SPAN
            stretch, above = _step_by_step(transaction, above)
        else:
            span = min(span * 2, _LONGEST_SPAN)
            stretch, above = found
        yield stretch


def _as_one(transaction: Transaction, tree: int, key: int, span: int) -> tuple[Stretch, int | None] | None:
    """Return the nodes before one, itself the last, and what is above them; None when they are not all of its path."""
    bindings = {"tree": tree, "key": key, "first": key - span + 1}
    sums = transaction.one(SUMS, bindings)
    assert sums is not None  # noqa: S101 - an aggregate has one row
    count, size, tokens, largest, handles, first, keys, parents = sums
    # Each one's parent is the one before it: the list of parents is that of keys, one place on.
    if keys.rpartition(",")[0] != parents.partition(",")[2] or largest > walks.LARGE:
        return None
    above = transaction.one(PARENT, {"key": first})
    assert above is not None  # noqa: S101 - the same transaction has just seen it
    joined = None if handles else transaction.one(JOINED, bindings)
    return Stretch("" if joined is None else joined[0], count, size, tokens, not handles), above[0]


def _step_by_step(transaction: Transaction, key: int) -> tuple[Stretch, int | None]:
    bindings = {"key": key, "limit": _STEPS, "large": walks.LARGE}
    steps = transaction.one(STEPS, bindings)
    assert steps is not None  # noqa: S101 - an aggregate has one row
    text, count, size, tokens, is_plain, parents = steps
    above = int(parents.rpartition(",")[2])
    entries = ",".join(reversed(text.split("\n"))) if is_plain else ""
    return Stretch(entries, count, size, tokens, bool(is_plain)), above or None
