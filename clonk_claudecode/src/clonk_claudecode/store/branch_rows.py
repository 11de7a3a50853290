"""The ways that a session's conversation went: the current one in `messages`, what rewinds took out beside it.

A rewind moves the messages above its `base_seq` out. So what stood below an abandoned message is, for each number, in
the first later rewind that took that number out, and else in `messages`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import attrs

from clonk_claudecode.clock import clock_text
from clonk_core.plugin import Transaction

MESSAGE_COLUMNS: Final = "seq, role, content, entry_uuid, node_id, turn_id, partial, created_at"
CURRENT: Final = "select seq, partial from messages where session_id = :session_id and node_id = :node_id"
ABANDONED: Final = """
    select rewind_number, seq, partial from abandoned_messages
    where session_id = :session_id and node_id = :node_id order by rewind_number desc limit 1"""
REWIND: Final = """
    select base_seq, claude_session_id from rewinds where session_id = :session_id and number = :number"""
LATER_REWINDS: Final = """
    select number, base_seq from rewinds where session_id = :session_id and number >= :number order by number"""
LAST_REWIND: Final = "select coalesce(max(number), 0) from rewinds where session_id = :session_id"
TRANSCRIPTS: Final = """
    select claude_session_id from sessions where id = :session_id
    union select claude_session_id from rewinds where session_id = :session_id"""
INSERT_REWIND: Final = """
    insert into rewinds (session_id, number, base_seq, claude_session_id, created_at)
    select :session_id, :number, :base_seq, claude_session_id, :now from sessions where id = :session_id"""
TAKE_OUT: Final = f"""
    insert into abandoned_messages (session_id, rewind_number, {MESSAGE_COLUMNS})
    select session_id, :number, {MESSAGE_COLUMNS} from messages where session_id = :session_id and seq > :base_seq"""
DELETE_ABOVE: Final = "delete from messages where session_id = :session_id and seq > :base_seq"
SET_HEAD: Final = """
    update sessions set claude_session_id = :claude_session_id, head_node_id = :node_id, message_count = :message_count,
           last_active_at = :now
    where id = :session_id"""

_SOURCE: Final = {
    True: "messages where session_id = :source_id and seq > :low and seq <= :high",
    False: "abandoned_messages where session_id = :source_id and rewind_number = :number and seq > :low "
    "and seq <= :high",
}


@attrs.frozen(kw_only=True)
class Stretch:
    """Messages that follow each other and are kept in one place: above `low`, up to `high`.

    Attributes:
        number: The rewind that took them out; None for the current ones.
    """

    number: int | None
    low: int
    high: int


@attrs.frozen(kw_only=True)
class Point:
    """A message of a session, and the way to it.

    Attributes:
        seq: Its number.
        node_id: Its snapshot.
        partial: Whether it was cut off.
        claude_session_id: The transcript that it is in.
        way: Where the messages up to it are, the last ones first.
        entries: The uuids of their entries in the transcript, the last ones first; a few hundred at most.
    """

    seq: int
    node_id: str
    partial: bool
    claude_session_id: str
    way: tuple[Stretch, ...]
    entries: tuple[str, ...]

    @property
    def common_seq(self) -> int:
        """The number of the last message on the way that is among the current ones."""
        return self.way[-1].high if self.way and self.way[-1].number is None else 0


MAX_ENTRIES: Final = 500


def find_point(transaction: Transaction, session_id: str, node_id: str) -> Point | None:
    """Return the message of that snapshot, current or abandoned; None when the session has none."""
    key = {"session_id": session_id, "node_id": node_id}
    number: int | None = None
    row = transaction.one(CURRENT, key)
    if row is not None:
        seq, partial = row
        found = transaction.one("select claude_session_id from sessions where id = :session_id", key)
    else:
        row = transaction.one(ABANDONED, key)
        if row is None:
            return None
        number, seq, partial = row
        rewind = transaction.one(REWIND, {"session_id": session_id, "number": number})
        found = None if rewind is None else (rewind[1],)
    if found is None:
        return None
    way = _way(transaction, session_id, number, seq)
    return Point(
        seq=seq,
        node_id=node_id,
        partial=bool(partial),
        claude_session_id=found[0],
        way=way,
        entries=tuple(_column(transaction, session_id, way, "entry_uuid", MAX_ENTRIES)),
    )


def _way(transaction: Transaction, session_id: str, number: int | None, seq: int) -> tuple[Stretch, ...]:
    way: list[Stretch] = []
    high = seq
    if number is not None:
        rows = transaction.all(LATER_REWINDS, {"session_id": session_id, "number": number})
        for later, base_seq in rows:
            if base_seq < high:
                way.append(Stretch(number=later, low=base_seq, high=high))
                high = base_seq
    if high > 0:
        way.append(Stretch(number=None, low=0, high=high))
    return tuple(way)


def _column(transaction: Transaction, session_id: str, way: Sequence[Stretch], column: str, limit: int) -> list[str]:
    values: list[str] = []
    for stretch in way:
        sql = (
            f"select {column} from {_SOURCE[stretch.number is None]} and {column} is not null "
            "order by seq desc limit :limit"
        )
        values += [row[0] for row in transaction.all(sql, _bindings(session_id, stretch, limit=limit - len(values)))]
    return values


def nodes_on_way(transaction: Transaction, session_id: str, point: Point) -> list[str]:
    """Return the snapshots of the messages up to a point, the last ones first."""
    return _column(transaction, session_id, point.way, "node_id", 1_000_000)


def _bindings(session_id: str, stretch: Stretch, **more: Any) -> dict[str, Any]:
    bindings = {"source_id": session_id, "low": stretch.low, "high": stretch.high, **more}
    return bindings if stretch.number is None else {**bindings, "number": stretch.number}


def copy_messages(transaction: Transaction, session_id: str, stretches: Sequence[Stretch], target_id: str) -> int:
    """Copy messages to a session's current ones, and return how many there were."""
    count = 0
    for stretch in stretches:
        transaction.execute(
            f"insert into messages (session_id, {MESSAGE_COLUMNS}) "
            f"select :target_id, {MESSAGE_COLUMNS} from {_SOURCE[stretch.number is None]}",
            _bindings(session_id, stretch, target_id=target_id),
        )
        count += transaction.changes()
    return count


def rewind_to(transaction: Transaction, session_id: str, point: Point, claude_session_id: str, now: datetime) -> bool:
    """Make the way to a point the current one; what is not on it is kept as abandoned. False without the session.

    Args:
        transaction: The open transaction.
        session_id: Whose.
        point: As it is now.
        claude_session_id: The transcript that ends there.
        now: The clock.
    """
    row = transaction.one(LAST_REWIND, {"session_id": session_id})
    values: dict[str, Any] = {"session_id": session_id, "number": row[0] + 1 if row else 1, "now": clock_text(now)}
    values["base_seq"] = point.common_seq
    transaction.execute(INSERT_REWIND, values)
    if transaction.changes() == 0:
        return False
    transaction.execute(TAKE_OUT, {name: values[name] for name in ("session_id", "number", "base_seq")})
    transaction.execute(DELETE_ABOVE, {name: values[name] for name in ("session_id", "base_seq")})
    copy_messages(transaction, session_id, [one for one in point.way if one.number is not None], session_id)
    transaction.execute(
        SET_HEAD,
        {
            "session_id": session_id,
            "claude_session_id": claude_session_id,
            "node_id": point.node_id,
            "message_count": point.seq,
            "now": values["now"],
        },
    )
    return True


def transcripts(transaction: Transaction, session_id: str) -> list[str]:
    """Return the ids of all transcripts of a session."""
    return [row[0] for row in transaction.all(TRANSCRIPTS, {"session_id": session_id})]
