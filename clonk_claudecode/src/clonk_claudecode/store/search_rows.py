"""Searching the messages of all sessions."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import attrs

from clonk_claudecode.exchange.messages import SearchHit
from clonk_core.plugin import Transaction

# A text's rank is its bm25, the better the smaller; texts that are equally good come in the order of their ids.
SEARCH: Final = """
    select sessions.name, sessions.id, messages.seq, messages.role, messages.node_id, messages.created_at,
           snippet(message_search, 0, '**', '**', '…', 24), message_search.rank, message_search.rowid
    from message_search
    join message_texts on message_texts.id = message_search.rowid
    join messages on messages.session_id = message_texts.session_id and messages.seq = message_texts.seq
    join sessions on sessions.id = messages.session_id
    where message_search match :query
      and (:names is null or sessions.name in (select value from json_each(:names)))
      and (:rank is null or (message_search.rank, message_search.rowid) > (:rank, :rowid))
    order by message_search.rank, message_search.rowid limit :limit"""
SESSION_NAMES: Final = "select name from sessions"


@attrs.frozen
class Place:
    """A place among the hits, to go on behind.

    Attributes:
        rank: How well the hit there fits.
        rowid: Tells those apart that fit equally well.
    """

    rank: float
    rowid: int


def search(
    transaction: Transaction, query: str, names: Sequence[str] | None, after: Place | None, limit: int
) -> list[SearchHit]:
    """Return the messages that match, the best first.

    Args:
        transaction: Of `claudecode.db`.
        query: In the syntax of FTS5, without errors.
        names: The sessions to search; None for all.
        after: Where to go on.
        limit: At most this many.
    """
    rows = transaction.all(
        SEARCH,
        {
            "query": query,
            "names": None if names is None else json.dumps(list(names)),
            "rank": None if after is None else after.rank,
            "rowid": None if after is None else after.rowid,
            "limit": limit,
        },
    )
    return [
        SearchHit(
            session=row[0],
            session_id=row[1],
            seq=row[2],
            role=row[3],
            snapshot_id=row[4],
            created_at=datetime.fromisoformat(row[5]),
            snippet=row[6],
            score=round(-row[7], 6),
            cursor=f"{row[7]!r}:{row[8]}",
        )
        for row in rows
    ]


def session_names(transaction: Transaction) -> list[str]:
    """Return the names of all sessions."""
    return [row[0] for row in transaction.execute(SESSION_NAMES)]
