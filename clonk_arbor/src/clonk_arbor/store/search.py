"""The words of the nodes. Full text is SQLite's (FTS5); another engine has its own way behind the same functions."""

from collections.abc import Sequence
from typing import Final

from clonk_core.plugin import Transaction

PROGRESS: Final = "select indexed from search_progress"
NOTE_PROGRESS: Final = "update search_progress set indexed = :key"
HAS_NEW: Final = "select 1 from nodes where key > (select indexed from search_progress) limit 1"
NEXT: Final = "select n.key, n.tree, n.content, n.size from nodes n where n.key > :after order by n.key limit :limit"
WORDS: Final = "insert into node_words (rowid, tree, words) values (?, ?, ?)"
FORGET: Final = "delete from node_words where rowid = ?"
MATCHES: Final = (
    "select n.key, n.id, t.id, t.name, n.depth, n.kind, n.content, n.created_at from node_words w"
    " join nodes n on n.key = w.rowid join trees t on t.key = n.tree"
    " where node_words match :query and w.rowid < :before and t.state in ('active', 'archived')"
    " order by w.rowid desc limit :limit"
)

Match = tuple[int, str, str, str, int, str, str, str]
"""Key, id, tree's id and name, depth, kind, content, time."""


def progress(transaction: Transaction) -> int:
    """Return the key up to which the nodes' words are known."""
    row = transaction.one(PROGRESS)
    return 0 if row is None else int(row[0])


def has_new(transaction: Transaction) -> bool:
    """Tell whether there are nodes whose words are not known."""
    return transaction.one(HAS_NEW) is not None


def next_nodes(transaction: Transaction, limit: int, page_bytes: int) -> list[tuple[int, int, str]]:
    """Return key, tree and content of the next nodes whose words are not known, some `page_bytes` of them."""
    found: list[tuple[int, int, str]] = []
    total = 0
    for key, tree, content, size in transaction.execute(NEXT, {"after": progress(transaction), "limit": limit}):
        found.append((key, tree, content))
        total += size
        if total >= page_bytes:
            break
    return found


def add_words(transaction: Transaction, rows: Sequence[tuple[int, str, str]], last_key: int) -> None:
    """Note the words of nodes: key, the tree's word, text; all up to `last_key` are known then."""
    transaction.execute_many(WORDS, rows)
    transaction.execute(NOTE_PROGRESS, {"key": last_key})


def forget(transaction: Transaction, keys: Sequence[int]) -> None:
    """Forget the words of nodes that are being deleted."""
    known = progress(transaction)
    transaction.execute_many(FORGET, [(key,) for key in keys if key <= known])


def matches(transaction: Transaction, query: str, before: int, limit: int) -> list[Match]:
    """Return nodes that match an FTS5 query with keys below `before`, newest first."""
    return transaction.all(MATCHES, {"query": query, "before": before, "limit": limit})
