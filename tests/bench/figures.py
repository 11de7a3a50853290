"""What a benchmark gives: figures, each beside its limit from the same run."""

import statistics
from collections.abc import Sequence
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Figure:
    """One measured value.

    Attributes:
        name: What was measured.
        value: The value, in `unit`.
        unit: `ms`, `us`, `s`, `KiB`, `1/s`.
        peer: What it is held against: a peer or a raw limit, measured in the same run. Empty for nothing.
        limit: The peer's value in the same unit.
        bound: What is asked of it, in words; empty when nothing is.
        ok: Whether the bound is kept; None without a bound.
        note: What else was seen, such as the spread and the CPU time of each operation.
    """

    name: str
    value: float
    unit: str
    peer: str = ""
    limit: float | None = None
    bound: str = ""
    ok: bool | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The value as a multiple of the limit."""
        return self.value / self.limit if self.limit else None

    def line(self) -> str:
        """Return the figure as a line of text."""
        parts = [f"{self.name:<44} {_number(self.value):>9} {self.unit:<4}"]
        if self.limit is not None:
            parts.append(f"{self.peer} {_number(self.limit)} {self.unit}")
        if self.ratio is not None:
            parts.append(f"ratio {self.ratio:.2f}")
        if self.bound:
            parts.append(f"{self.bound}: {'ok' if self.ok else 'OVER'}")
        if self.note:
            parts.append(self.note)
        return " | ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """Return the figure for programs."""
        return {**attrs.asdict(self), "ratio": self.ratio}


def median(values: Sequence[float]) -> float:
    """Return the median: other programs on the machine make single values meaningless."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def spread(values: Sequence[float], scale: float = 1.0) -> str:
    """Return the middle 80 % of the values as text."""
    ordered = sorted(values)
    tenth = len(ordered) // 10
    low, high = ordered[tenth], ordered[-1 - tenth]
    return f"{_number(low * scale)} to {_number(high * scale)}"


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
