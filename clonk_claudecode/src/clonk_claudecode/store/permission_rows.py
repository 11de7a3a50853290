"""Permission requests."""

import json
from datetime import datetime
from typing import Any, Final

from clonk_claudecode.clock import clock_text
from clonk_claudecode.events import PermissionState
from clonk_claudecode.permissions.messages import Ruling, StoredPermission
from clonk_core.plugin import Transaction

COLUMNS: Final = (
    "permissions.id, sessions.name, session_id, turn_id, kind, tool, input, tool_use_id, suggestions, reason, asked_at,"
    " expires_at, state, decision, decided_by, decided_at, message, updated_input, interrupt"
)
FROM: Final = f"select {COLUMNS} from permissions join sessions on sessions.id = permissions.session_id"
INSERT: Final = """
    insert into permissions (id, session_id, turn_id, kind, tool, input, tool_use_id, suggestions, reason, asked_at,
                             expires_at, state)
    select :id, id, :turn_id, :kind, :tool, :input, :tool_use_id, :suggestions, :reason, :asked_at, :expires_at,
           'waiting'
    from sessions where id = :session_id"""
BY_ID: Final = f"{FROM} where permissions.id = :id"
PAGE: Final = f"""
    {FROM} where (:state = 'any' or state = :state) and (:session_id is null or session_id = :session_id)
    and permissions.id > :after order by permissions.id limit :limit"""
WAITING_PAGE: Final = f"""
    {FROM} where state = 'waiting' and (:session_id is null or session_id = :session_id)
    and permissions.id > :after order by permissions.id limit :limit"""
DECIDE: Final = """
    update permissions set state = :state, decision = :decision, decided_by = :by, decided_at = :now,
           message = :message, updated_input = :updated_input, interrupt = :interrupt
    where id = :id and state = 'waiting'"""
END: Final = "update permissions set state = :state, decided_at = :now where id = :id and state = 'waiting'"
OVERTURN: Final = """
    update permissions set state = :state, decision = null, decided_by = null, message = null, updated_input = null,
           interrupt = 0
    where id = :id"""
END_ALL: Final = "update permissions set state = 'ended', decided_at = :now where state = 'waiting'"


def insert_permission(transaction: Transaction, asked: StoredPermission) -> bool:
    """Store a request that waits; False when its session was deleted meanwhile."""
    transaction.execute(
        INSERT,
        {
            "id": asked.request_id,
            "session_id": asked.session_id,
            "turn_id": asked.subscription,
            "kind": asked.kind,
            "tool": asked.tool,
            "input": json.dumps(asked.input),
            "tool_use_id": asked.tool_use_id,
            "suggestions": json.dumps(asked.suggestions),
            "reason": asked.reason,
            "asked_at": clock_text(asked.asked_at),
            "expires_at": clock_text(asked.expires_at),
        },
    )
    return transaction.changes() == 1


def permission(transaction: Transaction, request_id: str) -> StoredPermission | None:
    """Return a request, or None."""
    row = transaction.one(BY_ID, {"id": request_id})
    return None if row is None else _permission_of(row)


def list_permissions(
    transaction: Transaction, session_id: str | None, state: str, limit: int, after: str
) -> list[StoredPermission]:
    """Return requests, oldest first, from behind `after` on.

    Args:
        transaction: Where.
        session_id: Of one session; None for all.
        state: Those in this state; `any` for all.
        limit: At most so many.
        after: Id of the last one of the page before; empty for the first page.
    """
    # Of its own for the usual case: only a literal lets the planner use the index over what waits.
    sql = WAITING_PAGE if state == "waiting" else PAGE
    rows = transaction.all(sql, {"session_id": session_id, "state": state, "limit": limit, "after": after})
    return [_permission_of(row) for row in rows]


def decide(transaction: Transaction, asked: StoredPermission, ruling: Ruling) -> bool:
    """Store an answer; False when the request waits no longer."""
    transaction.execute(
        DECIDE,
        {
            "id": asked.request_id,
            "state": ruling.state,
            "decision": ruling.decision,
            "by": ruling.by,
            "now": clock_text(ruling.at),
            "message": ruling.message,
            "updated_input": None if ruling.updated_input is None else json.dumps(ruling.updated_input),
            "interrupt": int(ruling.interrupt),
        },
    )
    return transaction.changes() == 1


def end(transaction: Transaction, request_id: str, state: PermissionState, now: datetime) -> None:
    """Note that a request waits no longer, though nobody has answered; without effect on one that was answered."""
    transaction.execute(END, {"id": request_id, "state": state, "now": clock_text(now)})


def overturn(transaction: Transaction, request_id: str, state: PermissionState) -> None:
    """Note that an answer came too late to be given, though it had been stored."""
    transaction.execute(OVERTURN, {"id": request_id, "state": state})


def end_all(transaction: Transaction, now: datetime) -> int:
    """Note after a start that nothing waits any more, and return how many did."""
    transaction.execute(END_ALL, {"now": clock_text(now)})
    return transaction.changes()


def _permission_of(row: tuple[Any, ...]) -> StoredPermission:
    return StoredPermission(
        request_id=row[0],
        session=row[1],
        session_id=row[2],
        subscription=row[3],
        kind=row[4],
        tool=row[5],
        input=json.loads(row[6]),
        tool_use_id=row[7],
        suggestions=tuple(json.loads(row[8])),
        reason=row[9],
        asked_at=datetime.fromisoformat(row[10]),
        expires_at=datetime.fromisoformat(row[11]),
        state=row[12],
        decision=row[13],
        decided_by=row[14],
        decided_at=None if row[15] is None else datetime.fromisoformat(row[15]),
        message=row[16],
        updated_input=None if row[17] is None else json.loads(row[17]),
        interrupt=bool(row[18]),
    )


def forget_turn(transaction: Transaction, session_id: str, turn_id: str) -> None:
    """Delete what a turn has asked for, of which nothing is to be kept."""
    transaction.execute(
        "delete from permissions where session_id = :session_id and turn_id = :turn_id",
        {"session_id": session_id, "turn_id": turn_id},
    )
