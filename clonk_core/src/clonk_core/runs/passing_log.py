"""The log of a run that ends with its reader: one bounded buffer, nothing kept, the run waits for the reader."""

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import trio

from clonk_core.errors import Unavailable
from clonk_core.messages import Event
from clonk_core.runs.endings import Ending
from clonk_core.runs.limits import MAX_BATCH_BYTES, MAX_BATCH_EVENTS

_BUFFER_EVENTS: Final = MAX_BATCH_EVENTS
"""One batch: the reader takes all of it at once."""

_BUFFER_BYTES: Final = MAX_BATCH_BYTES


class PassingLog:
    """The events between an activation and the one reader.

    Attributes:
        last_seq: Number of the last event, 0 before the first.
        outcome: What the last event says, None before.
    """

    def __init__(self) -> None:
        self.last_seq = 0
        self.outcome: str | None = None
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._abandoned = False
        self._given_up = False
        self._room = trio.lowlevel.ParkingLot()
        self._news = trio.lowlevel.ParkingLot()

    async def append(self, payload: bytes) -> None:
        """Take the next event, waiting while the buffer is full. Dropped when the reader has gone."""
        while not self._abandoned and (len(self._events) >= _BUFFER_EVENTS or self._bytes >= _BUFFER_BYTES):
            await self._room.park()
        if self._abandoned:
            # An activation that never waits must not keep everybody else from running.
            await trio.lowlevel.checkpoint()
        if self.outcome is None:
            self._take(payload)

    def end(self, ending: Ending) -> None:
        """Take the last event; there is always room for it."""
        self.outcome = ending.outcome
        self._take(ending.payload)

    def abandon(self) -> None:
        """Drop what is there and what comes: nobody reads it."""
        self._abandoned = True
        self._events.clear()
        self._bytes = 0
        self._room.unpark_all()

    def give_up(self) -> None:
        """Let the reader go when no more events come and there was no last one."""
        self._given_up = True
        self._news.unpark_all()

    def _take(self, payload: bytes) -> None:
        self.last_seq += 1
        if not self._abandoned:
            self._events.append(Event(self.last_seq, payload))
            self._bytes += len(payload)
            self._news.unpark_all()

    async def batches(self) -> AsyncGenerator[Sequence[Event], None]:
        """Yield the events as they come, all that are there at once, until the last one.

        Raises:
            Unavailable: The run was cut off without a last event.
        """
        while self._events or self.outcome is None:
            if not self._events:
                if self._given_up:
                    raise Unavailable("the run was cut off by the server's end")
                await self._news.park()
                continue
            batch = tuple(self._events)
            self._events.clear()
            self._bytes = 0
            self._room.unpark_all()
            yield batch
