"""What one turn spent, from how it ended."""

from typing import Final

from clonk_claudecode.clock import now
from clonk_claudecode.engine.outcome import TurnResult
from clonk_claudecode.engine.turn import Turn
from clonk_claudecode.events import ModelUsage, TokenCount, TurnUsage
from clonk_claudecode.store import usage_rows
from clonk_core.plugin import Database

COUNTS: Final = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def turn_usage(result: TurnResult, tool_calls: int, duration_s: float, model: str) -> TurnUsage:
    """Return what a turn spent.

    Args:
        result: How it ended. What it says by model is whole; of a turn that the binary did not end, the messages that
            were seen are all that is known.
        tool_calls: How many tools it used.
        duration_s: How long it took, in seconds.
        model: The session's, for what is known of no model.
    """
    models = (seen(model, result.tokens),) if result.models is None else result.models
    models = tuple(used for used in models if used.is_something)
    costs = [used.cost_usd for used in models if used.cost_usd is not None]
    return TurnUsage(
        cost_usd=round(sum(costs), 9) if costs else None,
        tool_calls=tool_calls,
        duration_ms=round(duration_s * 1000),
        models=models,
        **{name: sum(getattr(used, name) for used in models) for name in COUNTS},
    )


def seen(model: str, tokens: TokenCount) -> ModelUsage:
    """Return tokens that were seen as those of one model, at a cost that is not known."""
    return ModelUsage(model=model, **{name: getattr(tokens, name) for name in COUNTS})


async def note_usage(database: Database, turn: Turn, tool_calls: int, model: str) -> None:
    """Keep what a turn that has ended has spent."""
    spent = turn_usage(turn.result, tool_calls, turn.duration_s, model)
    await database.run(
        usage_rows.end_usage,
        turn.turn_id,
        models=spent.models,
        tool_calls=spent.tool_calls,
        duration_ms=spent.duration_ms,
        now=now(),
    )
