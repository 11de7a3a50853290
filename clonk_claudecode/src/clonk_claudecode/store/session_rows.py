"""Sessions."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import attrs

from clonk_claudecode.clock import clock_text
from clonk_claudecode.engine.permissions import grants_of, joined
from clonk_claudecode.messages import StoredSession
from clonk_core.plugin import Transaction

COLUMNS: Final = tuple(field.name for field in attrs.fields(StoredSession))
"""The columns of a session are the members of a `StoredSession`, in their order."""

SESSION_COLUMNS: Final = ", ".join(COLUMNS)
MOMENTS: Final = ("created_at", "last_active_at", "archived_at")
LISTS: Final = ("allowed_tools", "disallowed_tools", "granted_tools", "granted_dirs", "tools", "tools_scopes")
JSON_TEXTS: Final = ("metadata", "forked_from", *LISTS)

INSERT_SESSION: Final = f"""
    insert into sessions ({SESSION_COLUMNS}) values ({", ".join(":" + column for column in COLUMNS)})
    on conflict (name) do nothing"""
SESSION_BY_NAME: Final = f"select {SESSION_COLUMNS} from sessions where name = :name"
SESSION_BY_ID: Final = f"select {SESSION_COLUMNS} from sessions where id = :id"
SESSIONS: Final = f"""
    select {SESSION_COLUMNS} from sessions
    where (:archived or archived_at is null)
    order by id desc limit :limit"""
SESSIONS_AFTER: Final = f"""
    select {SESSION_COLUMNS} from sessions
    where id < (select id from sessions where name = :after or id = :after) and (:archived or archived_at is null)
    order by id desc limit :limit"""
COUNT_SESSIONS: Final = "select count(*) from sessions"
SESSION_EXISTS: Final = "select 1 from sessions where name = :after or id = :after"
GRANT: Final = """
    update sessions set granted_tools = :granted_tools, granted_dirs = :granted_dirs, permission_mode = :permission_mode
    where id = :id"""
DELETE_SESSION: Final = "delete from sessions where id = :id"
OF_TREE: Final = "select 1 from sessions where tree_id = :tree_id limit 1"
NAME_OF_ANOTHER: Final = "select 1 from sessions where name = :name and id != :id"


def insert_session(transaction: Transaction, session: StoredSession) -> bool:
    """Store a new session; False when the name is taken."""
    transaction.execute(INSERT_SESSION, _values(attrs.asdict(session, recurse=False)))
    return transaction.changes() == 1


def session_by_name(transaction: Transaction, name: str) -> StoredSession | None:
    """Return a session, or None."""
    row = transaction.one(SESSION_BY_NAME, {"name": name})
    return None if row is None else session_of(row)


def session_by_id(transaction: Transaction, session_id: str) -> StoredSession | None:
    """Return a session, or None."""
    row = transaction.one(SESSION_BY_ID, {"id": session_id})
    return None if row is None else session_of(row)


def list_sessions(
    transaction: Transaction, limit: int, after: str | None, archived: bool
) -> list[StoredSession] | None:
    """Return sessions, newest first, from behind `after` (a name or an id) on; None when that is unknown."""
    values = {"limit": limit, "after": after, "archived": archived}
    if after is None:
        rows = transaction.all(SESSIONS, {"limit": limit, "archived": archived})
    elif transaction.one(SESSION_EXISTS, {"after": after}) is None:
        return None
    else:
        rows = transaction.all(SESSIONS_AFTER, values)
    return [session_of(row) for row in rows]


def count_sessions(transaction: Transaction) -> int:
    """Return how many sessions there are."""
    row = transaction.one(COUNT_SESSIONS)
    return 0 if row is None else int(row[0])


def update_session(transaction: Transaction, session_id: str, changes: Mapping[str, Any]) -> StoredSession | None:
    """Change members of a session and return it as it is then; None when it was deleted meanwhile.

    Raises:
        NameTakenError: Its new name is another session's.
    """
    name = changes.get("name")
    if name is not None and transaction.one(NAME_OF_ANOTHER, {"name": name, "id": session_id}) is not None:
        raise NameTakenError
    if changes:
        assignments = ", ".join(f"{column} = :{column}" for column in COLUMNS if column in changes)
        statement = f"update sessions set {assignments} where id = :id"
        transaction.execute(statement, {**_values(changes), "id": session_id})
    return session_by_id(transaction, session_id)


def delete_session(transaction: Transaction, session_id: str) -> bool:
    """Delete a session and all that belongs to it; False when there is none."""
    transaction.execute(DELETE_SESSION, {"id": session_id})
    return transaction.changes() == 1


def has_sessions_of_tree(transaction: Transaction, tree_id: str) -> bool:
    """Tell whether a tree of arbor's holds the conversation of any session."""
    return transaction.one(OF_TREE, {"tree_id": tree_id}) is not None


class NameTakenError(Exception):
    """Another session has that name."""


def grant(transaction: Transaction, session_id: str, updates: Sequence[Mapping[str, Any]]) -> None:
    """Note what a session was allowed for good; nothing when it was deleted meanwhile.

    Args:
        transaction: Where.
        session_id: Which session.
        updates: Changes of rules as the binary suggests them.
    """
    session = session_by_id(transaction, session_id)
    if session is None:
        return
    grants = grants_of(updates)
    changes = {
        "granted_tools": joined(session.granted_tools, grants.tools),
        "granted_dirs": joined(session.granted_dirs, grants.dirs),
        "permission_mode": grants.mode or session.permission_mode,
    }
    transaction.execute(GRANT, {"id": session_id, **_values(changes)})


def session_of(row: tuple[Any, ...]) -> StoredSession:
    """Return the session that a row of `SESSION_COLUMNS` holds."""
    values = dict(zip(COLUMNS, row, strict=True))
    for column in MOMENTS:
        values[column] = None if values[column] is None else datetime.fromisoformat(values[column])
    for column in JSON_TEXTS:
        values[column] = json.loads(values[column])
    for column in LISTS:
        values[column] = tuple(values[column])
    return StoredSession(**values)


def _values(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return members of a session as they are stored."""
    values = dict(members)
    for column in MOMENTS:
        if values.get(column) is not None:
            values[column] = clock_text(values[column])
    for column in JSON_TEXTS:
        if column in values:
            values[column] = json.dumps(values[column])
    return values
