"""What turns spent."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from clonk_claudecode.clock import clock_text
from clonk_claudecode.events import ModelUsage
from clonk_claudecode.metering.messages import Grouping, UsageSum
from clonk_core.plugin import Transaction

BEGIN: Final = """
    insert into turn_usage (turn_id, session_id, session, caller, payer, began_at)
    values (:turn_id, :session_id, :session, :caller,
            coalesce((select created_by from shares where id = :caller), :caller), :now)
    on conflict do nothing"""
PAYER: Final = "select created_by from shares where id = :caller"
END: Final = """
    update turn_usage set ended_at = :now, tool_calls = :tool_calls, duration_ms = :duration_ms
    where turn_id = :turn_id and ended_at is null"""
ADD_MODEL: Final = """
    insert into model_usage (turn_id, model, input_tokens, output_tokens, cache_read_input_tokens,
                             cache_creation_input_tokens, cost_usd)
    values (:turn_id, :model, :input_tokens, :output_tokens, :cache_read_input_tokens, :cache_creation_input_tokens,
            :cost_usd)"""
OPEN: Final = "select turn_id from turn_usage where ended_at is null"

GROUPS: Final[dict[Grouping, str]] = {
    "total": "'total'",
    "session": "t.session",
    "caller": "t.caller",
    "hour": "substr(t.began_at, 1, 13) || ':00:00Z'",
    "day": "substr(t.began_at, 1, 10)",
    "month": "substr(t.began_at, 1, 7)",
}
_WHERE: Final = """
    t.began_at >= :since and t.began_at < :until
    and (:session is null or t.session = :session) and (:caller is null or t.caller = :caller)"""
_TOKENS: Final = """
    coalesce(sum(m.input_tokens), 0), coalesce(sum(m.output_tokens), 0), coalesce(sum(m.cache_read_input_tokens), 0),
    coalesce(sum(m.cache_creation_input_tokens), 0), coalesce(sum(m.cost_usd), 0.0)"""
SPENT: Final = """
    select coalesce(sum(m.cost_usd), 0.0), coalesce(sum(
        m.input_tokens + m.output_tokens + m.cache_read_input_tokens + m.cache_creation_input_tokens), 0)
    from turn_usage t join model_usage m on m.turn_id = t.turn_id
    where t.began_at >= :since and (:payer is null or t.payer = :payer)"""


def _sum(grouping: Grouping, *, by_session: bool) -> str:
    """Return the statement that adds up by turn; a turn has several rows of tokens when it used several models."""
    session = "t.session" if by_session else "''"
    if grouping == "model":
        return f"""
            select m.model, {session}, count(*), {_TOKENS}, 0, 0
            from turn_usage t join model_usage m on m.turn_id = t.turn_id where {_WHERE} group by 1, 2 order by 1, 2"""
    return f"""
        select {GROUPS[grouping]}, {session}, count(*), sum(m.i), sum(m.o), sum(m.r), sum(m.c), sum(m.cost),
               sum(t.tool_calls), sum(t.duration_ms)
        from turn_usage t join (
            select t.turn_id, coalesce(sum(m.input_tokens), 0) i, coalesce(sum(m.output_tokens), 0) o,
                   coalesce(sum(m.cache_read_input_tokens), 0) r, coalesce(sum(m.cache_creation_input_tokens), 0) c,
                   coalesce(sum(m.cost_usd), 0.0) cost
            from turn_usage t left join model_usage m on m.turn_id = t.turn_id where {_WHERE} group by t.turn_id
        ) m on m.turn_id = t.turn_id
        group by 1, 2 order by 1, 2"""


def begin_usage(
    transaction: Transaction, turn_id: str, *, session_id: str, session: str, caller: str, now: datetime
) -> None:
    """Note that a turn begins to spend. `session_id` is empty for one that leaves no trace in its session.

    What is spent with a token that was given out for a session counts against the budget of who gave it out; otherwise
    anybody could have as many budgets as tokens.
    """
    values = {"turn_id": turn_id, "session_id": session_id, "session": session, "caller": caller}
    transaction.execute(BEGIN, {**values, "now": clock_text(now)})


def end_usage(
    transaction: Transaction,
    turn_id: str,
    *,
    models: Sequence[ModelUsage],
    tool_calls: int,
    duration_ms: int,
    now: datetime,
) -> bool:
    """Note what a turn has spent; False, and nothing done, when that is noted already."""
    values = {"turn_id": turn_id, "tool_calls": tool_calls, "duration_ms": duration_ms, "now": clock_text(now)}
    transaction.execute(END, values)
    if transaction.changes() == 0:
        return False
    for used in models:
        transaction.execute(
            ADD_MODEL,
            {
                "turn_id": turn_id,
                "model": used.model,
                "input_tokens": used.input_tokens,
                "output_tokens": used.output_tokens,
                "cache_read_input_tokens": used.cache_read_input_tokens,
                "cache_creation_input_tokens": used.cache_creation_input_tokens,
                "cost_usd": used.cost_usd,
            },
        )
    return True


def open_usage(transaction: Transaction) -> list[str]:
    """Return the turns whose end is not noted: after a start, those that a crash cut off."""
    return [str(row[0]) for row in transaction.all(OPEN)]


def sums(
    transaction: Transaction,
    grouping: Grouping,
    *,
    since: datetime,
    until: datetime,
    session: str | None,
    caller: str | None,
    by_session: bool,
) -> list[tuple[str, UsageSum]]:
    """Return sums by group.

    Args:
        transaction: The open transaction.
        grouping: What is added up together.
        since, until: Of turns that began then.
        session: Of this one alone; None for all.
        caller: Of this one alone; None for all.
        by_session: Add up each session's for itself, with its name (empty otherwise), so that a caller can be shown
            its own alone.
    """
    statement = _sum(grouping, by_session=by_session)
    values = {"since": clock_text(since), "until": clock_text(until), "session": session, "caller": caller}
    return [(row[1], _usage_sum(row)) for row in transaction.all(statement, values)]


def payer_of(transaction: Transaction, caller: str) -> str:
    """Return whose budget a caller's prompts count against: of a token given out for a session, its giver's."""
    row = transaction.one(PAYER, {"caller": caller})
    return caller if row is None else str(row[0])


def spent(transaction: Transaction, since: datetime, payer: str | None) -> tuple[float, int]:
    """Return US dollars and tokens spent since then, out of one caller's budget or by all."""
    row = transaction.one(SPENT, {"since": clock_text(since), "payer": payer})
    return (0.0, 0) if row is None else (float(row[0]), int(row[1]))


def _usage_sum(row: tuple[Any, ...]) -> UsageSum:
    return UsageSum(
        group=row[0],
        turns=row[2],
        input_tokens=row[3],
        output_tokens=row[4],
        cache_read_input_tokens=row[5],
        cache_creation_input_tokens=row[6],
        cost_usd=row[7],
        tool_calls=row[8],
        duration_ms=row[9],
    )
