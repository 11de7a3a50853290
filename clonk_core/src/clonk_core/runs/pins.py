"""Which kept runs are being read: retention leaves those alone until their readers have gone."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Pins:
    """Counts the readers of each run."""

    def __init__(self) -> None:
        self._readers: Counter[str] = Counter()

    @contextmanager
    def hold(self, run_id: str) -> Iterator[None]:
        """Keep a run while the context lasts."""
        self._readers[run_id] += 1
        try:
            yield
        finally:
            self._readers[run_id] -= 1
            if not self._readers[run_id]:
                del self._readers[run_id]

    def holds(self, run_id: str) -> bool:
        """Tell whether somebody reads the run."""
        return run_id in self._readers
