"""Metrics of a package's own."""

from collections.abc import Sequence
from typing import Protocol


class Counter(Protocol):
    """A number that only goes up."""

    def inc(self, amount: float = 1, **labels: str) -> None:
        """Add to it; every label must be given."""


class Gauge(Protocol):
    """A number that goes up and down."""

    def add(self, amount: float, **labels: str) -> None:
        """Add to it, or take off with a negative amount; every label must be given."""

    def set(self, value: float, **labels: str) -> None:
        """Set it. All tenants share it: where each has its part, use `add`."""


class Histogram(Protocol):
    """How often values were how large."""

    def observe(self, value: float, **labels: str) -> None:
        """Count a value; every label must be given."""


class PluginMetrics(Protocol):
    """Makes a package's metrics. Names get the prefix `clonk_<package>_`; asked for twice it is the same one.

    Names end in their unit (`turn_duration_seconds`). A label must have few values: no caller, session or text. Of one
    metric at most 2000 combinations are kept apart.

    Raises:
        PluginError: A name is against the rules, or declared in another way already; a label is missing.
    """

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        """Return a counter; it is shown with `_total` behind its name."""

    def gauge(self, name: str, help: str, labels: Sequence[str] = ()) -> Gauge:
        """Return a gauge."""

    def histogram(
        self, name: str, help: str, labels: Sequence[str] = (), *, buckets: Sequence[float] = ()
    ) -> Histogram:
        """Return a histogram; without `buckets` its upper bounds suit seconds, 0.5 ms to 30 s."""
