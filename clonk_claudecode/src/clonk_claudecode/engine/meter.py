"""What a turn spent, from the running totals that the binary keeps."""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from clonk_claudecode.engine.frames import Frame, member
from clonk_claudecode.events import ModelUsage

_COUNTS: Final[Mapping[str, str]] = {
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "cache_read_input_tokens": "cacheReadInputTokens",
    "cache_creation_input_tokens": "cacheCreationInputTokens",
}


class Meter:
    """Follows the totals of one process.

    They count over the whole process, are restored when a conversation is resumed, inherited by forks, and hold what
    subagents and interrupted turns spent. So a turn's share is the difference to the totals before it; where it is not
    known what they began with, nothing is told.
    """

    def __init__(self) -> None:
        self._seen: dict[str, ModelUsage] | None = None

    def begin(self, answer: Frame) -> None:
        """Take the totals that the process begins with, from its answer to `get_usage`."""
        totals = member(member(member(answer, "response"), "session"), "model_usage")
        self._seen = _read(totals)

    def spent(self, result: Frame) -> tuple[ModelUsage, ...] | None:
        """Return what was spent since the last time, by model; None when that is not known."""
        totals = result.get("modelUsage")
        if self._seen is None or not isinstance(totals, dict):
            return None
        before, self._seen = self._seen, _read(totals)
        spent = (_difference(now, before.get(model)) for model, now in self._seen.items())
        return tuple(usage for usage in spent if usage.is_something)


def _read(totals: Mapping[str, Any]) -> dict[str, ModelUsage]:
    return {str(model): _usage(str(model), used) for model, used in totals.items() if isinstance(used, dict)}


def _usage(model: str, used: Mapping[str, Any]) -> ModelUsage:
    counts = {name: _number(used.get(key)) for name, key in _COUNTS.items()}
    cost = used.get("costUSD")
    return ModelUsage(
        model=model,
        cost_usd=float(cost) if isinstance(cost, int | float) else None,
        **{name: int(count) for name, count in counts.items()},
    )


def _number(value: object) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else 0


def _difference(now: ModelUsage, before: ModelUsage | None) -> ModelUsage:
    """Return what is new. Totals that have shrunk have begun anew."""
    if before is None or any(getattr(now, name) < getattr(before, name) for name in _COUNTS):
        return now
    counts = {name: getattr(now, name) - getattr(before, name) for name in _COUNTS}
    cost = now.cost_usd
    if cost is not None:
        # The totals are sums of many small numbers; their difference need not show the noise of that.
        cost = max(0.0, round(cost - (before.cost_usd or 0.0), 9))
    return attrs.evolve(now, cost_usd=cost, **counts)
