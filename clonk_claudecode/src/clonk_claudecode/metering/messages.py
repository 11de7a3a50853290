"""What is told of what was spent."""

from datetime import datetime
from typing import Literal, TypeAlias

import attrs

from clonk_claudecode.events import TokenCount

Grouping: TypeAlias = Literal["total", "session", "caller", "model", "hour", "day", "month"]


@attrs.frozen(kw_only=True)
class UsageSum(TokenCount):
    """What was spent, added up.

    Attributes:
        group: What is added up: the session's or the model's name, the caller, the beginning of the hour, day or month
            (UTC), or `total`. No session (an empty text) has what prompts cost that leave no trace (`ephemeral`).
        turns: How many turns; with groups by model, those that used it.
        cost_usd: Claude Code's own estimate, in US dollars, by list prices; 0 for turns without one.
        tool_calls: How many tools were used; 0 with groups by model.
        duration_ms: From the prompts to the ends of the turns, in milliseconds; 0 with groups by model.
    """

    group: str
    turns: int
    cost_usd: float
    tool_calls: int
    duration_ms: int


@attrs.frozen(kw_only=True)
class BudgetState:
    """A budget, and what is left of it.

    Attributes:
        of: Whose: `tenant`, or a caller.
        period: Over which time it holds, in UTC.
        resets_at: When it begins anew; null when it never does.
        limit_usd: Most that may be spent, in US dollars; null without such a limit.
        spent_usd: What was spent, by Claude Code's own estimate.
        limit_tokens: Most tokens, read and written, those of the cache included; null without such a limit.
        spent_tokens: What was used of them.
        exhausted: Whether the next turn is refused.
    """

    of: str
    period: Literal["day", "month", "ever"]
    resets_at: datetime | None
    limit_usd: float | None
    spent_usd: float
    limit_tokens: int | None
    spent_tokens: int
    exhausted: bool
