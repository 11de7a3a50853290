"""Messages."""

import json
from datetime import datetime
from typing import Any, Final

import attrs

from clonk_claudecode.clock import clock_text
from clonk_claudecode.messages import HistoryMessage
from clonk_core.plugin import JsonValue, Transaction

NEXT_MESSAGE: Final = """
    update sessions set message_count = message_count + 1, last_active_at = :now,
           tree_id = coalesce(:tree_id, tree_id), head_node_id = coalesce(:node_id, head_node_id)
    where id = :session_id returning message_count"""
INSERT_MESSAGE: Final = """
    insert into messages (session_id, seq, role, content, entry_uuid, node_id, turn_id, partial, created_at)
    values (:session_id, :seq, :role, :content, :entry_uuid, :node_id, :turn_id, :partial, :now)"""
HISTORY: Final = """
    select seq, role, content, created_at, node_id, turn_id, partial from messages
    where session_id = :session_id and seq > :after order by seq limit :limit"""
LAST_MESSAGE: Final = """
    select role, content, turn_id from messages where session_id = :session_id order by seq desc limit 1"""

TURN_MESSAGES: Final = """
    select role, content, entry_uuid, created_at from messages
    where session_id = :session_id and turn_id = :turn_id order by seq"""


@attrs.frozen
class TurnMessage:
    """One message of a turn.

    Attributes:
        role: Who speaks.
        content: As the history shows it.
        entry_uuid: Its entry in the transcript; None for a part of an answer.
        created_at: When it came.
    """

    role: str
    content: JsonValue
    entry_uuid: str | None
    created_at: datetime


def turn_messages(transaction: Transaction, session_id: str, turn_id: str) -> list[TurnMessage]:
    """Return the messages of a turn, in order."""
    rows = transaction.all(TURN_MESSAGES, {"session_id": session_id, "turn_id": turn_id})
    return [TurnMessage(row[0], json.loads(row[1]), row[2], datetime.fromisoformat(row[3])) for row in rows]


def add_message(
    transaction: Transaction,
    *,
    session_id: str,
    turn_id: str,
    role: str,
    content: JsonValue,
    entry_uuid: str | None,
    tree_id: str | None,
    node_id: str | None,
    now: datetime,
    partial: bool = False,
) -> int | None:
    """Append a message to the history and return its number; None when the session was deleted meanwhile."""
    values: dict[str, Any] = {"session_id": session_id, "tree_id": tree_id, "node_id": node_id, "now": clock_text(now)}
    row = next(iter(transaction.all(NEXT_MESSAGE, values)), None)
    if row is None:
        return None
    values |= {"seq": row[0], "role": role, "content": json.dumps(content), "entry_uuid": entry_uuid}
    values |= {"turn_id": turn_id, "partial": int(partial)}
    transaction.execute(INSERT_MESSAGE, values)
    return int(row[0])


def history(transaction: Transaction, session_id: str, limit: int, after: int) -> list[HistoryMessage]:
    """Return messages in order, those behind number `after`."""
    rows = transaction.all(HISTORY, {"session_id": session_id, "limit": limit, "after": after})
    return [
        HistoryMessage(
            seq=row[0],
            role=row[1],
            content=json.loads(row[2]),
            created_at=datetime.fromisoformat(row[3]),
            snapshot_id=row[4],
            subscription=row[5],
            partial=bool(row[6]),
        )
        for row in rows
    ]


def last_answer(transaction: Transaction, session_id: str, turn_id: str) -> str:
    """Return the text of the session's last message if it is Claude's and of that turn, else an empty text."""
    row = transaction.one(LAST_MESSAGE, {"session_id": session_id})
    if row is None or row[0] != "assistant" or row[2] != turn_id:
        return ""
    blocks = [block for block in json.loads(row[1]) if isinstance(block, dict)]
    return "".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")
