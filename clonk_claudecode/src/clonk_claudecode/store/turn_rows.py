"""Turns."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from clonk_claudecode.clock import clock_text
from clonk_claudecode.messages import StoredSession
from clonk_claudecode.store.message_rows import add_message
from clonk_claudecode.store.session_rows import SESSION_BY_ID, SESSION_COLUMNS, session_of
from clonk_claudecode.store.usage_rows import begin_usage
from clonk_core.plugin import Transaction

START_TURN: Final = "insert into turns (id, session_id, started_at) values (:id, :session_id, :now)"
END_TURN: Final = "update turns set ended_at = :now, outcome = :outcome where id = :id and ended_at is null"
OPEN_TURNS: Final = f"""
    select turns.id, {", ".join("sessions." + column.strip() for column in SESSION_COLUMNS.split(","))}
    from turns join sessions on sessions.id = turns.session_id where turns.ended_at is null order by turns.id"""

HAS_TURN: Final = "select 1 from turns where id = :id and session_id = :session_id"
LAST_TURN: Final = "select id from turns where session_id = :session_id order by rowid desc limit 1"
NEXT_TURN: Final = """
    select id from turns
    where session_id = :session_id and rowid > coalesce((select rowid from turns where id = :behind), 0)
    order by rowid limit 1"""
"""In the order in which they began, which need not be that of their ids: one may have waited for another."""


def begin_turn(
    transaction: Transaction, turn_id: str, session_id: str, caller: str, now: datetime
) -> StoredSession | None:
    """Note that a turn runs and return its session as it is now; None when that was deleted."""
    row = transaction.one(SESSION_BY_ID, {"id": session_id})
    if row is None:
        return None
    transaction.execute(START_TURN, {"id": turn_id, "session_id": session_id, "now": clock_text(now)})
    session = session_of(row)
    begin_usage(transaction, turn_id, session_id=session_id, session=session.name, caller=caller, now=now)
    return session


def end_turn(transaction: Transaction, turn_id: str, outcome: str, now: datetime) -> None:
    """Note that a turn has ended."""
    transaction.execute(END_TURN, {"id": turn_id, "outcome": outcome, "now": clock_text(now)})


def cut_off_turn(transaction: Transaction, turn_id: str, now: datetime, message: Mapping[str, Any] | None) -> None:
    """Note that a turn was cut off, with what was shown of its last answer, as `add_message` takes it."""
    if message is not None:
        add_message(transaction, **message)
    end_turn(transaction, turn_id, "failed", now)


def open_turns(transaction: Transaction) -> list[tuple[str, StoredSession]]:
    """Return the turns that have no end: after a start, those that a crash cut off."""
    return [(row[0], session_of(row[1:])) for row in transaction.all(OPEN_TURNS)]


def has_turn(transaction: Transaction, session_id: str, turn_id: str) -> bool:
    """Tell whether a turn is one of the session's."""
    return transaction.one(HAS_TURN, {"id": turn_id, "session_id": session_id}) is not None


def last_turn(transaction: Transaction, session_id: str) -> str | None:
    """Return the turn of the session that began last, None before the first."""
    row = transaction.one(LAST_TURN, {"session_id": session_id})
    return None if row is None else str(row[0])


def next_turn(transaction: Transaction, session_id: str, behind: str | None) -> str | None:
    """Return the turn that began after that of the id `behind`, the first when it is None; None when there is none."""
    row = transaction.one(NEXT_TURN, {"session_id": session_id, "behind": behind})
    return None if row is None else str(row[0])
