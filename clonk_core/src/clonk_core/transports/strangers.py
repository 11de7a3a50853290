"""Connections of a port that have not said who they are: when there are too many, who has waited longest makes room.

So a flood of connections that say nothing, or never end what they say, costs a bounded amount of memory and of file
descriptors, and whoever says at once who they are gets in.
"""

import heapq
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from operator import itemgetter
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


class Crowd:
    """The strangers of all ports of a process, which share its file descriptors.

    Attributes:
        turn: Held by the port that is having room made for its next connection. Without turns a port whose backlog is
            full would take every file descriptor that another one has freed.
    """

    def __init__(self) -> None:
        self.turn = trio.StrictFIFOLock()
        self._ports: list[Strangers] = []

    def __len__(self) -> int:
        return sum(1 for port in self._ports for _ in port.oldest_first())

    def join(self, port: "Strangers") -> None:
        """Take the strangers of a port in."""
        self._ports.append(port)

    def shed(self, count: int, *, after_s: float) -> None:
        """Make the longest waiting leave, of whichever port, so many: there are no file descriptors left.

        Args:
            count: At most this many.
            after_s: Only who has waited for so long: who came just now is about to say who they are.
        """
        until = trio.current_time() - after_s
        everyone = heapq.merge(*(port.oldest_first() for port in self._ports), key=itemgetter(0))
        for since, port, one in list(islice(everyone, count)):
            if since > until:
                break
            port.part_with(one)


class Strangers:
    """Those of one port.

    Args:
        most: How many there may be.
        crowd: Those of all ports of the process; the port is the only one when it is left out.
    """

    def __init__(self, most: int = DEFAULT_MOST, crowd: Crowd | None = None) -> None:
        self.crowd = Crowd() if crowd is None else crowd
        self.crowd.join(self)
        self._most = most
        self._waiting: dict[Waiting, float] = {}

    def add(self, one: Waiting) -> None:
        """Count one from now on; too many make the one leave that has waited longest."""
        self._waiting.setdefault(one, trio.current_time())
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

    def oldest_first(self) -> "Iterator[tuple[float, Strangers, Waiting]]":
        """Iterate over those of the port, with the time since when each has waited."""
        return ((since, self, one) for one, since in self._waiting.items() if one.is_stranger)

    def part_with(self, one: Waiting) -> None:
        """Make one leave, and count it no more."""
        del self._waiting[one]
        one.leave()

    def _make_room(self) -> None:
        # First those who have said who they are meanwhile: they do not count, and must not push anybody out.
        for one in [one for one in self._waiting if not one.is_stranger]:
            del self._waiting[one]
        if len(self._waiting) > self._most:
            self.part_with(next(iter(self._waiting)))


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
