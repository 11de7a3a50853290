"""All SQL of `claudecode.db`: sessions, messages, turns, tool calls. Each function is one transaction."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import attrs

from clonk_claudecode.messages import HistoryMessage, StoredSession
from clonk_core.plugin import JsonValue, Transaction

_SESSION: Final = (
    "id, name, claude_session_id, working_dir, model, system_prompt, permission_mode, tree_id, head_node_id, "
    "message_count, created_at, last_active_at"
)
INSERT_SESSION: Final = f"""
    insert into sessions ({_SESSION})
    values (:id, :name, :claude_session_id, :working_dir, :model, :system_prompt, :permission_mode, :tree_id,
            :head_node_id, :message_count, :created_at, :last_active_at)
    on conflict (name) do nothing"""
SESSION_BY_NAME: Final = f"select {_SESSION} from sessions where name = :name"
SESSION_BY_ID: Final = f"select {_SESSION} from sessions where id = :id"
SESSIONS: Final = f"select {_SESSION} from sessions order by id desc limit :limit"
SESSIONS_AFTER: Final = f"""
    select {_SESSION} from sessions where id < (select id from sessions where name = :after or id = :after)
    order by id desc limit :limit"""
COUNT_SESSIONS: Final = "select count(*) from sessions"
SESSION_EXISTS: Final = "select 1 from sessions where name = :after or id = :after"
DELETE_SESSION: Final = "delete from sessions where id = :id"
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
START_TURN: Final = "insert into turns (id, session_id, started_at) values (:id, :session_id, :now)"
END_TURN: Final = "update turns set ended_at = :now, outcome = :outcome where id = :id and ended_at is null"
OPEN_TURNS: Final = f"""
    select turns.id, {", ".join("sessions." + column.strip() for column in _SESSION.split(","))}
    from turns join sessions on sessions.id = turns.session_id where turns.ended_at is null order by turns.id"""
START_TOOL: Final = """
    insert into tool_calls (session_id, tool_use_id, turn_id, tool, input, started_at)
    values (:session_id, :tool_use_id, :turn_id, :tool, :input, :now) on conflict do nothing"""
OPEN_TOOLS: Final = """
    select tool_use_id, tool, input from tool_calls
    where session_id = :session_id and turn_id = :turn_id and ended_at is null order by started_at"""
END_TOOL: Final = """
    update tool_calls set result = :result, is_error = :is_error, ended_at = :now
    where session_id = :session_id and tool_use_id = :tool_use_id"""


def insert_session(transaction: Transaction, session: StoredSession) -> bool:
    """Store a new session; False when the name is taken."""
    row = attrs.asdict(session) | {
        "created_at": _text(session.created_at),
        "last_active_at": _text(session.last_active_at),
    }
    transaction.execute(INSERT_SESSION, row)
    return transaction.changes() == 1


def session_by_name(transaction: Transaction, name: str) -> StoredSession | None:
    """Return a session, or None."""
    row = transaction.one(SESSION_BY_NAME, {"name": name})
    return None if row is None else _session(row)


def list_sessions(transaction: Transaction, limit: int, after: str | None) -> list[StoredSession] | None:
    """Return sessions, newest first, from behind `after` (a name or an id) on; None when that is unknown."""
    if after is None:
        rows = transaction.all(SESSIONS, {"limit": limit})
    elif transaction.one(SESSION_EXISTS, {"after": after}) is None:
        return None
    else:
        rows = transaction.all(SESSIONS_AFTER, {"limit": limit, "after": after})
    return [_session(row) for row in rows]


def count_sessions(transaction: Transaction) -> int:
    """Return how many sessions there are."""
    row = transaction.one(COUNT_SESSIONS)
    return 0 if row is None else int(row[0])


def delete_session(transaction: Transaction, session_id: str) -> bool:
    """Delete a session and all that belongs to it; False when there is none."""
    transaction.execute(DELETE_SESSION, {"id": session_id})
    return transaction.changes() == 1


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
    values: dict[str, Any] = {"session_id": session_id, "tree_id": tree_id, "node_id": node_id, "now": _text(now)}
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


def begin_turn(transaction: Transaction, turn_id: str, session_id: str, now: datetime) -> StoredSession | None:
    """Note that a turn runs and return its session as it is now; None when that was deleted."""
    row = transaction.one(SESSION_BY_ID, {"id": session_id})
    if row is None:
        return None
    transaction.execute(START_TURN, {"id": turn_id, "session_id": session_id, "now": _text(now)})
    return _session(row)


def end_turn(transaction: Transaction, turn_id: str, outcome: str, now: datetime) -> None:
    """Note that a turn has ended."""
    transaction.execute(END_TURN, {"id": turn_id, "outcome": outcome, "now": _text(now)})


def cut_off_turn(transaction: Transaction, turn_id: str, now: datetime, message: Mapping[str, Any] | None) -> None:
    """Note that a turn was cut off, with what was shown of its last answer, as `add_message` takes it."""
    if message is not None:
        add_message(transaction, **message)
    end_turn(transaction, turn_id, "failed", now)


def open_turns(transaction: Transaction) -> list[tuple[str, StoredSession]]:
    """Return the turns that have no end: after a start, those that a crash cut off."""
    return [(row[0], _session(row[1:])) for row in transaction.all(OPEN_TURNS)]


def start_tool(
    transaction: Transaction,
    *,
    session_id: str,
    turn_id: str,
    tool_use_id: str,
    tool: str,
    tool_input: JsonValue,
    now: datetime,
) -> None:
    """Note that a tool is used."""
    transaction.execute(
        START_TOOL,
        {
            "session_id": session_id,
            "turn_id": turn_id,
            "tool_use_id": tool_use_id,
            "tool": tool,
            "input": json.dumps(tool_input),
            "now": _text(now),
        },
    )


def open_tools(transaction: Transaction, session_id: str, turn_id: str) -> list[tuple[str, str, str]]:
    """Return the tool uses of a turn that have no result: id, tool and the JSON text of its arguments."""
    return [
        (row[0], row[1], row[2])
        for row in transaction.execute(OPEN_TOOLS, {"session_id": session_id, "turn_id": turn_id})
    ]


def end_tool(
    transaction: Transaction, *, session_id: str, tool_use_id: str, result: JsonValue, is_error: bool, now: datetime
) -> None:
    """Note what a tool gave."""
    transaction.execute(
        END_TOOL,
        {
            "session_id": session_id,
            "tool_use_id": tool_use_id,
            "result": json.dumps(result),
            "is_error": int(is_error),
            "now": _text(now),
        },
    )


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _session(row: tuple[Any, ...]) -> StoredSession:
    return StoredSession(
        id=row[0],
        name=row[1],
        claude_session_id=row[2],
        working_dir=row[3],
        model=row[4],
        system_prompt=row[5],
        permission_mode=row[6],
        tree_id=row[7],
        head_node_id=row[8],
        message_count=row[9],
        created_at=datetime.fromisoformat(row[10]),
        last_active_at=datetime.fromisoformat(row[11]),
    )
