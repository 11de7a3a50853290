"""What is counted of sessions and their processes."""

from typing import Final

from clonk_core.plugin import Outcome, PluginMetrics


class SessionMetrics:
    """Takes what happens to sessions, and counts none of it; `CountedSessions` does."""

    def sessions_changed(self, by: int) -> None:
        """There are so many more sessions, all of them parked, or fewer."""

    def process_began(self) -> None:
        """A parked session is live: a process is being started for it."""

    def process_started(self, *, ready: bool) -> None:
        """The process can take a turn, or has failed before it could."""

    def process_ended(self) -> None:
        """A live session is parked: its process is gone."""

    def turn_ended(self, outcome: Outcome) -> None:
        """A turn has ended, however it did."""


UNCOUNTED: Final = SessionMetrics()
"""Nothing is counted."""


class CountedSessions(SessionMetrics):
    """Counts with the host's metrics. Added up, since all tenants share the numbers."""

    def __init__(self, metrics: PluginMetrics) -> None:
        self._sessions = metrics.gauge("sessions", "Sessions: live ones have a process, parked ones none.", ["state"])
        self._starts = metrics.counter("process_starts", "Processes started, by whether they got ready.", ["result"])
        self._turns = metrics.counter("turns", "Turns ended with this outcome.", ["outcome"])

    def sessions_changed(self, by: int) -> None:
        self._sessions.add(by, state="parked")

    def process_began(self) -> None:
        self._sessions.add(1, state="live")
        self._sessions.add(-1, state="parked")

    def process_started(self, *, ready: bool) -> None:
        self._starts.inc(result="ready" if ready else "failed")

    def process_ended(self) -> None:
        self._sessions.add(-1, state="live")
        self._sessions.add(1, state="parked")

    def turn_ended(self, outcome: Outcome) -> None:
        self._turns.inc(outcome=outcome)
