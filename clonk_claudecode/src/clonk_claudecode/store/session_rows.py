"""Sessions."""

from datetime import datetime
from typing import Any, Final

import attrs

from clonk_claudecode.messages import StoredSession
from clonk_claudecode.store.clock import clock_text
from clonk_core.plugin import Transaction

SESSION_COLUMNS: Final = (
    "id, name, claude_session_id, working_dir, model, system_prompt, permission_mode, tree_id, head_node_id, "
    "message_count, created_at, last_active_at"
)
INSERT_SESSION: Final = f"""
    insert into sessions ({SESSION_COLUMNS})
    values (:id, :name, :claude_session_id, :working_dir, :model, :system_prompt, :permission_mode, :tree_id,
            :head_node_id, :message_count, :created_at, :last_active_at)
    on conflict (name) do nothing"""
SESSION_BY_NAME: Final = f"select {SESSION_COLUMNS} from sessions where name = :name"
SESSION_BY_ID: Final = f"select {SESSION_COLUMNS} from sessions where id = :id"
SESSIONS: Final = f"select {SESSION_COLUMNS} from sessions order by id desc limit :limit"
SESSIONS_AFTER: Final = f"""
    select {SESSION_COLUMNS} from sessions where id < (select id from sessions where name = :after or id = :after)
    order by id desc limit :limit"""
COUNT_SESSIONS: Final = "select count(*) from sessions"
SESSION_EXISTS: Final = "select 1 from sessions where name = :after or id = :after"
DELETE_SESSION: Final = "delete from sessions where id = :id"


def insert_session(transaction: Transaction, session: StoredSession) -> bool:
    """Store a new session; False when the name is taken."""
    row = attrs.asdict(session) | {
        "created_at": clock_text(session.created_at),
        "last_active_at": clock_text(session.last_active_at),
    }
    transaction.execute(INSERT_SESSION, row)
    return transaction.changes() == 1


def session_by_name(transaction: Transaction, name: str) -> StoredSession | None:
    """Return a session, or None."""
    row = transaction.one(SESSION_BY_NAME, {"name": name})
    return None if row is None else session_of(row)


def list_sessions(transaction: Transaction, limit: int, after: str | None) -> list[StoredSession] | None:
    """Return sessions, newest first, from behind `after` (a name or an id) on; None when that is unknown."""
    if after is None:
        rows = transaction.all(SESSIONS, {"limit": limit})
    elif transaction.one(SESSION_EXISTS, {"after": after}) is None:
        return None
    else:
        rows = transaction.all(SESSIONS_AFTER, {"limit": limit, "after": after})
    return [session_of(row) for row in rows]


def count_sessions(transaction: Transaction) -> int:
    """Return how many sessions there are."""
    row = transaction.one(COUNT_SESSIONS)
    return 0 if row is None else int(row[0])


def delete_session(transaction: Transaction, session_id: str) -> bool:
    """Delete a session and all that belongs to it; False when there is none."""
    transaction.execute(DELETE_SESSION, {"id": session_id})
    return transaction.changes() == 1


def session_of(row: tuple[Any, ...]) -> StoredSession:
    """Return the session that a row of `SESSION_COLUMNS` holds."""
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
