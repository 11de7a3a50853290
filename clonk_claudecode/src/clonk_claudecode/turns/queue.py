"""Who waits for a session: one line for each, first come, first served."""

from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import trio

from clonk_claudecode.errors import QueueFull, SessionBusy
from clonk_core.plugin import StopReason


class Place:
    """One prompt's place in the line of its session.

    Attributes:
        turn_id: The prompt's subscription.
        stop_reason: Why it does not wait any more, None while it does.
        is_orphaned: Whether the session was deleted.
    """

    def __init__(self, line: "deque[Place]", turn_id: str) -> None:
        self.turn_id = turn_id
        self.stop_reason: StopReason | None = None
        self.is_orphaned = False
        self._line = line
        self._moved = trio.Event()

    def stop(self, reason: StopReason) -> None:
        """Do not wait any more. Without effect once it is its turn."""
        self.stop_reason = self.stop_reason or reason
        self.move()

    def orphan(self) -> None:
        """There is nothing to wait for any more."""
        self.is_orphaned = True
        self.move()

    def move(self) -> None:
        """Something has changed: have it looked at."""
        self._moved.set()

    async def positions(self) -> AsyncIterator[int]:
        """Wait for its turn, or for the end of waiting; yield its position, 1 for the next, whenever that changes."""
        told = 0
        while self.stop_reason is None and not self.is_orphaned:
            position = self._line.index(self)
            if position == 0:
                return
            if position != told:
                told = position
                yield position
                continue
            self._moved = trio.Event()
            await self._moved.wait()


class Queues:
    """The lines of all sessions. The first in a line is the one that is being answered.

    Args:
        limit: At most this many wait in one line.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lines: dict[str, deque[Place]] = {}

    def is_taken(self, session_id: str) -> bool:
        """Tell whether a session is being asked something."""
        return session_id in self._lines

    def check(self, session_id: str, session: str, *, queue: bool) -> None:
        """See that a prompt may be said now, or may wait.

        Args:
            session_id: The session's id.
            session: Its name, for the message.
            queue: Whether the prompt would wait.

        Raises:
            SessionBusy: The session answers another prompt, and this one does not wait.
            QueueFull: As many wait as may.
        """
        line = self._lines.get(session_id)
        if not line:
            return
        if not queue:
            raise SessionBusy(session, line[0].turn_id)
        if len(line) > self._limit:
            raise QueueFull(session, self._limit)

    @contextmanager
    def place(self, session_id: str, session: str, turn_id: str, *, queue: bool) -> Iterator[Place]:
        """Take a place at the end of a session's line; leaving the context gives it back.

        Raises:
            SessionBusy, QueueFull: As in `check`.
        """
        self.check(session_id, session, queue=queue)
        line = self._lines.setdefault(session_id, deque())
        place = Place(line, turn_id)
        line.append(place)
        try:
            yield place
        finally:
            line.remove(place)
            for other in line:
                other.move()
            if not line and self._lines.get(session_id) is line:
                del self._lines[session_id]

    def close(self, session_id: str) -> None:
        """End the waiting of all who wait for a session that is deleted."""
        for place in self._lines.get(session_id, ()):
            place.orphan()
