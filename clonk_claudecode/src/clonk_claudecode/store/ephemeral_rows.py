"""Forks that are thrown away, as long as there may be something of theirs."""

from datetime import datetime
from typing import Final

from clonk_claudecode.clock import clock_text
from clonk_core.plugin import Transaction

NOTE_FORK: Final = "insert into ephemeral_forks (claude_session_id, turn_id, started_at) values (:id, :turn_id, :now)"
FORGET_PERMISSIONS: Final = """
    delete from permissions where turn_id = (select turn_id from ephemeral_forks where claude_session_id = :id)"""
FORGET_FORK: Final = "delete from ephemeral_forks where claude_session_id = :id"
FORKS: Final = "select claude_session_id from ephemeral_forks order by started_at"
IS_EPHEMERAL: Final = "select 1 from ephemeral_forks where turn_id = :turn_id"
LAST_FINISHED: Final = """
    select messages.entry_uuid from messages join turns on turns.id = messages.turn_id
    where messages.session_id = :session_id and messages.entry_uuid is not null and turns.ended_at is not null
    order by messages.seq desc limit 1"""


def note_fork(transaction: Transaction, claude_session_id: str, turn_id: str, now: datetime) -> None:
    """Note that a fork begins."""
    transaction.execute(NOTE_FORK, {"id": claude_session_id, "turn_id": turn_id, "now": clock_text(now)})


def forget_fork(transaction: Transaction, claude_session_id: str) -> None:
    """Note that nothing is left of a fork, when what it has asked for is gone too."""
    transaction.execute(FORGET_PERMISSIONS, {"id": claude_session_id})
    transaction.execute(FORGET_FORK, {"id": claude_session_id})


def forks(transaction: Transaction) -> list[str]:
    """Return the forks of which something may be left: after a start, those that a crash cut off."""
    return [row[0] for row in transaction.all(FORKS)]


def is_ephemeral(transaction: Transaction, turn_id: str) -> bool:
    """Tell whether a turn that runs leaves no trace."""
    return transaction.one(IS_EPHEMERAL, {"turn_id": turn_id}) is not None


def last_finished_entry(transaction: Transaction, session_id: str) -> str | None:
    """Return the transcript's entry of the last message of a turn that has ended; None when there is none."""
    row = transaction.one(LAST_FINISHED, {"session_id": session_id})
    return None if row is None else str(row[0])
