"""What the host counts and measures of itself: one method for each thing that happens. Here they all do nothing.

Whoever has something to tell takes a `Metrics`; it is `NO_METRICS` where metrics are off. Those that count are in
`observe/metrics.py`, which is imported only when they are on.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

FamilyKind = Literal["counter", "gauge", "histogram"]
DatabaseUse = Literal["run", "read", "grouped", "direct"]


class Family:
    """The numbers of one name, one for each combination of label values."""

    def add(self, labels: tuple[str, ...], amount: float) -> None:
        """Add to a counter or a gauge."""

    def put(self, labels: tuple[str, ...], value: float) -> None:
        """Set a gauge, or give a histogram a value to count."""


_NO_FAMILY: Final = Family()


class Metrics:
    """What happens in one host. Every method returns at once and may be called from any task.

    Labels have few values, all of them known from the program: method names, kinds of errors, transports, databases. No
    caller, session or text is ever one.
    """

    def know_methods(self, names: Iterable[str]) -> None:
        """Learn names of methods; calls of all others are counted together, as `unknown`."""

    def call_ended(self, method: str, outcome: str, duration_s: float) -> None:
        """Count a call at the door: `outcome` is `ok` or the kind of the error."""

    def rate_limited(self, kind: str) -> None:
        """Count a call that was refused because of a limit; `kind` says of which: `calls`, `runs`, `bytes`."""

    def authentication_failed(self, reason: str) -> None:
        """Count a credential that was refused; `reason` is one of few words: `unknown_key`, `expired`."""

    def connection_opened(self, transport: str) -> None:
        """Count a connection as open."""

    def connection_closed(self, transport: str) -> None:
        """Count a connection as open no more."""

    def bytes_received(self, transport: str, size: int) -> None:
        """Count bytes as they came in, with headers and frames."""

    def bytes_sent(self, transport: str, size: int) -> None:
        """Count bytes as they went out, with headers and frames."""

    def run_started(self) -> None:
        """Count a run as going on."""

    def run_ended(self, outcome: str | None) -> None:
        """Count a run as ended; without an outcome it was cut off before its last event."""

    def events_written(self, count: int) -> None:
        """Count events of durable runs that are stored."""

    def database_used(self, database: str, use: DatabaseUse, duration_s: float) -> None:
        """Measure one use of a database, with the time that it had to wait for others."""

    def loop_lagged(self, lag_s: float) -> None:
        """Measure how much later than it asked for a task was woken."""

    def plugin_family(
        self, package: str, kind: FamilyKind, name: str, help: str, labels: Sequence[str], buckets: Sequence[float]
    ) -> Family:
        """Return the family of that full name, the same one when it is asked for again.

        Args:
            package: Whose it is.
            kind: What it is.
            name: With the prefix `clonk_<package>_`; without the `_total` of counters.
            help: One sentence for who reads the numbers.
            labels: Names of its labels.
            buckets: Upper bounds of a histogram's buckets, in rising order; those for times when empty.

        Raises:
            PluginError: The name is taken by another package or kind, or with other labels.
        """
        return _NO_FAMILY


NO_METRICS: Final = Metrics()
"""Nothing is counted."""
