"""Entries of transcripts."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import attrs

from clonk_claudecode.clock import clock_text
from clonk_core.plugin import Transaction

MAIN: Final = ""
"""Path of a conversation's own entries; those of a subagent have one such as `subagents/agent-a1b2`."""

SESSION_EXISTS: Final = "select 1 from sessions where id = :session_id"
LAST_SEQ: Final = (
    "select coalesce(max(seq), 0) from transcript_entries where conversation = :conversation and path = :path"
)
KNOWN_UUIDS: Final = """
    select uuid from transcript_entries
    where conversation = :conversation and path = :path and uuid in (select value from json_each(:uuids))"""
INSERT_ENTRY: Final = """
    insert into transcript_entries (conversation, path, seq, session_id, uuid, entry, written_at)
    values (:conversation, :path, :seq, :session_id, :uuid, :entry, :now)"""
ENTRIES: Final = """
    select seq, uuid, entry from transcript_entries
    where conversation = :conversation and path = :path and seq > :after order by seq limit :limit"""
KEYS: Final = """
    select uuid, iif(uuid is null, entry, null) from transcript_entries
    where conversation = :conversation and path = :path and seq > :after order by seq"""
PATHS: Final = """
    select path, max(seq), max(written_at) from transcript_entries where conversation = :conversation
    group by path order by path"""
LAST_METADATA: Final = """
    select entry from transcript_entries
    where conversation = :conversation and path = :path and uuid is null and entry ->> '$.type' = 'agent_metadata'
    order by seq desc limit 1"""
DELETE_PATH: Final = "delete from transcript_entries where conversation = :conversation and path = :path"
DELETE_ALL: Final = "delete from transcript_entries where conversation = :conversation"


@attrs.frozen
class Entry:
    """One entry of a transcript.

    Attributes:
        uuid: Its uuid; None for titles, marks of modes and other entries that have none.
        text: Its JSON, on one line.
    """

    uuid: str | None
    text: str


@attrs.frozen
class StoredPath:
    """One of a conversation's transcripts: its own, or a subagent's.

    Attributes:
        path: `MAIN`, or `subagents/...`.
        last_seq: Number of its last entry.
        written_at: When that was stored.
    """

    path: str
    last_seq: int
    written_at: datetime


def append_entries(
    transaction: Transaction, session_id: str, conversation: str, path: str, entries: Sequence[Entry], now: datetime
) -> int:
    """Append entries; those whose uuid is there already are left out. Return how many came in.

    Of a session that is not there nothing is kept.

    Args:
        transaction: Of `claudecode.db`.
        session_id: Clonk's own id of the session, with which they are deleted.
        conversation: Claude Code's id of the conversation (UUID).
        path: `MAIN`, or that of a subagent.
        entries: Those, in order.
        now: The clock time.
    """
    key = {"conversation": conversation, "path": path}
    if not entries or transaction.one(SESSION_EXISTS, {"session_id": session_id}) is None:
        return 0
    uuids = json.dumps([entry.uuid for entry in entries if entry.uuid is not None])
    known = {row[0] for row in transaction.all(KNOWN_UUIDS, {**key, "uuids": uuids})}
    row = transaction.one(LAST_SEQ, key)
    first = seq = 0 if row is None else int(row[0])
    rows = []
    for entry in entries:
        if entry.uuid is not None:
            if entry.uuid in known:
                continue
            known.add(entry.uuid)
        seq += 1
        rows.append(
            {
                **key,
                "seq": seq,
                "uuid": entry.uuid,
                "entry": entry.text,
                "session_id": session_id,
                "now": clock_text(now),
            }
        )
    transaction.execute_many(INSERT_ENTRY, rows)
    return seq - first


def read_page(
    transaction: Transaction, conversation: str, path: str, after: int, limit: int
) -> tuple[list[Entry], int | None]:
    """Return entries in order, those behind number `after`, and the number to go on behind; None for the last page."""
    rows = transaction.all(ENTRIES, {"conversation": conversation, "path": path, "after": after, "limit": limit})
    return [Entry(row[1], row[2]) for row in rows], (rows[-1][0] if len(rows) == limit else None)


def entry_keys(
    transaction: Transaction, conversation: str, path: str, after: int
) -> list[tuple[str | None, str | None]]:
    """Return what tells the entries behind number `after` apart: the uuid, or the whole entry where it has none."""
    return [
        (row[0], row[1])
        for row in transaction.execute(KEYS, {"conversation": conversation, "path": path, "after": after})
    ]


def stored_paths(transaction: Transaction, conversation: str) -> list[StoredPath]:
    """Return the transcripts that a conversation has."""
    rows = transaction.all(PATHS, {"conversation": conversation})
    return [StoredPath(row[0], row[1], datetime.fromisoformat(row[2])) for row in rows]


def last_metadata(transaction: Transaction, conversation: str, path: str) -> str | None:
    """Return the JSON of the last entry that describes a subagent, None without one."""
    row = transaction.one(LAST_METADATA, {"conversation": conversation, "path": path})
    return None if row is None else str(row[0])


def delete_entries(transaction: Transaction, conversation: str, path: str | None = None) -> None:
    """Delete one of a conversation's transcripts; all of them when `path` is None."""
    if path is None:
        transaction.execute(DELETE_ALL, {"conversation": conversation})
    else:
        transaction.execute(DELETE_PATH, {"conversation": conversation, "path": path})
