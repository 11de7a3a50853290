"""Connections of a port that have not said who they are: when there are too many, who has waited longest makes room.

So a flood of connections that say nothing, or never end what they say, costs a bounded amount of memory and of file
descriptors, and whoever says at once who they are gets in.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import trio

DEFAULT_MOST: Final = 2000
"""As `server.max_strangers`."""


STRANGER_BYTES: Final = 64 * 1024
"""Largest message of one who has not said who they are: what they may call takes few words, and a thousand of them with
10 MiB each would fill the memory."""


class Waiting(Protocol):
    """Something that costs us as long as it waits for the other side."""

    @property
    def is_stranger(self) -> bool:
        """Whether it has still not been said who it is; looked at when there are too many."""

    def leave(self) -> None:
        """End it where it stands. Must not raise."""


class Strangers:
    """Those of one port.

    Args:
        most: How many there may be.
    """

    def __init__(self, most: int = DEFAULT_MOST) -> None:
        self._most = most
        self._waiting: dict[Waiting, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, one: Waiting) -> None:
        """Count one from now on; too many make the one leave that has waited longest."""
        self._waiting[one] = None
        if len(self._waiting) > self._most:
            self._make_room()

    def discard(self, one: Waiting) -> None:
        """Count it no more; it is known, at work, or has ended."""
        self._waiting.pop(one, None)

    @contextmanager
    def holding(self, one: Waiting) -> Iterator[None]:
        """Count one as long as the block lasts."""
        self.add(one)
        try:
            yield
        finally:
            self.discard(one)

    def shed(self, count: int) -> None:
        """Make the longest waiting leave, so many: there are no file descriptors left."""
        for one in list(self._waiting)[:count]:
            self._leave(one)

    def _make_room(self) -> None:
        # First those who have said who they are meanwhile: they do not count, and must not push anybody out.
        for one in [one for one in self._waiting if not one.is_stranger]:
            del self._waiting[one]
        if len(self._waiting) > self._most:
            self._leave(next(iter(self._waiting)))

    def _leave(self, one: Waiting) -> None:
        del self._waiting[one]
        if one.is_stranger:
            one.leave()


class WaitingScope:
    """A stranger that is waited for in a block, which is cancelled when it has to leave.

    Attributes:
        scope: Around the waiting.
    """

    is_stranger = True

    def __init__(self, scope: trio.CancelScope) -> None:
        self.scope = scope

    def leave(self) -> None:
        """Cancel the block."""
        self.scope.cancel()
