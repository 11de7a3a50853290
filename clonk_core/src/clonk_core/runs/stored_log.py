"""The log of a durable run: numbered events, stored before anyone is shown them, read by any number of followers.

    append() -> ahead -> one commit for all that is ready -> stored -> tail in memory -> followers
                (bounded)                                        `---> pages from disk -> followers far behind

A follower never waits for another: it has a cursor and nothing else. Memory is the bounded run-ahead, the bounded tail
and one batch for each follower, whatever the length of the run.
"""

from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from math import inf
from typing import Final

import trio

from clonk_core.errors import CallError, StorageError, StorageFull, Unavailable
from clonk_core.messages import Event
from clonk_core.runs.chunks import Chunk, first_batch, pack
from clonk_core.runs.endings import Ending
from clonk_core.runs.host_events import gap_event
from clonk_core.runs.journal import Journal
from clonk_core.runs.limits import RunLimits

_TRIM_TO: Final = 7 / 8
"""Part of `max_run_bytes` that is kept when a run has outgrown it, so that not every commit has to drop something."""


_PAUSE_PER_FOLLOWER_S: Final = 0.0005
"""Least time between two commits for each follower beyond the first, in seconds. Every follower writes once for each
commit, at about 0.1 ms of CPU: so all of them together stay below a fifth of a core, and their writes grow instead. A
single reader waits for nothing, and the first event after a silence never does."""

_LONGEST_PAUSE_S: Final = 0.02
"""Longest such time, in seconds: below what an eye sees."""


class StoredLog:
    """The log of one running durable run. One task writes (`write_to_end`), one appends, any number follow.

    Attributes:
        last_seq: Number of the last stored event, 0 before the first.
        outcome: What the stored last event says, None before.
        failure: Why the log could not be written, until it can be again.
    """

    def __init__(self, run_id: str, journal: Journal, limits: RunLimits, clock_time: Callable[[], str]) -> None:
        self.last_seq = 0
        self.outcome: str | None = None
        self.failure: CallError | None = None
        self._run_id = run_id
        self._journal = journal
        self._limits = limits
        self._clock_time = clock_time
        self._next_seq = 1
        self._ending: Ending | None = None
        self._ahead: list[Event] = []
        self._ahead_count = 0  # with those being written now
        self._ahead_bytes = 0
        self._tail: deque[Chunk] = deque()
        self._tail_events = 0
        self._tail_bytes = 0
        self._stored_bytes = 0
        self._followers = 0
        self._stored_at = -inf  # trio's clock, of the last commit
        self._work = trio.lowlevel.ParkingLot()
        self._hurry = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._news = trio.lowlevel.ParkingLot()

    async def append(self, payload: bytes) -> None:
        """Take the next event, waiting while the log is too far ahead of the disk. Dropped when the log has failed."""
        while self.failure is None and self._is_full():
            await self._room.park()
        if self.failure is None and self._ending is None:
            self._take(payload)
        else:
            # An activation that never waits must not keep everybody else from running.
            await trio.lowlevel.checkpoint()

    def end(self, ending: Ending) -> None:
        """Take the last event; the log is done when it is stored."""
        if self.failure is None:
            self._take(ending.payload)
        self._ending = ending
        self._work.unpark_all()
        self._hurry.unpark_all()

    async def write_to_end(self) -> None:
        """Store what is appended until the last event is stored, or until the log fails (`failure` says why)."""
        while self.outcome is None:
            while not self._ahead:
                await self._work.park()
            await self._pause()
            events, self._ahead = self._ahead, []
            try:
                await self._store(pack(events), self._ending)
            except StorageFull as error:
                self._fail(error)
            except StorageError as error:
                failure = Unavailable("the run's log cannot be written; what was shown is kept, come back later")
                failure.__cause__ = error
                self._fail(failure)
            else:
                self._ahead_count -= len(events)
                self._ahead_bytes -= sum(len(event.payload) for event in events)
                self._room.unpark_all()
            if self.failure is not None:
                return

    async def store_ending(self, ending: Ending) -> None:
        """End a log that has failed: behind what is stored, in place of what is not. Raises when it fails again."""
        await self._store(pack([Event(self.last_seq + 1, ending.payload)]), ending)
        self.failure = None

    def _is_full(self) -> bool:
        return self._ahead_count >= self._limits.ahead_events or self._ahead_bytes >= self._limits.ahead_bytes

    def _is_half_full(self) -> bool:
        return 2 * self._ahead_count >= self._limits.ahead_events or 2 * self._ahead_bytes >= self._limits.ahead_bytes

    async def _pause(self) -> None:
        """Let events gather while there are many followers; not when much has gathered, nor before the last one."""
        pause_s = min((self._followers - 1) * _PAUSE_PER_FOLLOWER_S, _LONGEST_PAUSE_S)
        if trio.current_time() < self._stored_at + pause_s:
            with trio.move_on_at(self._stored_at + pause_s):
                while self._ending is None and not self._is_half_full():
                    await self._hurry.park()

    def _take(self, payload: bytes) -> None:
        self._ahead.append(Event(self._next_seq, payload))
        self._next_seq += 1
        self._ahead_count += 1
        self._ahead_bytes += len(payload)
        self._work.unpark_all()
        if self._is_half_full():
            self._hurry.unpark_all()

    async def _store(self, chunks: list[Chunk], ending: Ending | None) -> None:
        size = sum(chunk.size for chunk in chunks)
        keep_bytes = None
        if self._stored_bytes + size > self._limits.max_run_bytes:
            keep_bytes = int(self._limits.max_run_bytes * _TRIM_TO)
        left = await self._journal.append(self._run_id, chunks, ending, self._clock_time(), keep_bytes=keep_bytes)
        self._stored_bytes = self._stored_bytes + size if left is None else left
        self._stored_at = trio.current_time()
        self._show(chunks, size)
        if ending is not None:
            self.outcome = ending.outcome
        self._news.unpark_all()

    def _show(self, chunks: list[Chunk], size: int) -> None:
        self.last_seq = chunks[-1].last
        self._tail.extend(chunks)
        self._tail_events += sum(len(chunk.events) for chunk in chunks)
        self._tail_bytes += size
        while len(self._tail) > 1 and (
            self._tail_events > self._limits.tail_events or self._tail_bytes > self._limits.tail_bytes
        ):
            oldest = self._tail.popleft()
            self._tail_events -= len(oldest.events)
            self._tail_bytes -= oldest.size

    def give_up(self) -> None:
        """Let followers go when nobody writes any more and the last event is not stored."""
        if self.outcome is None and self.failure is None:
            self._fail(Unavailable("the run's log is not written any more; come back later"))

    def _fail(self, failure: CallError) -> None:
        self.failure = failure
        self._ahead.clear()
        self._ahead_count = self._ahead_bytes = 0
        self._room.unpark_all()
        self._news.unpark_all()

    async def batches(self, after: int) -> AsyncGenerator[Sequence[Event], None]:
        """Yield the events after number `after`, batch by batch, waiting for more until the last one.

        Raises:
            StorageFull, Unavailable: The log cannot be written or read now.
        """
        self._followers += 1
        try:
            while True:
                if after < self.last_seq:
                    batch = self._from_tail(after)
                    if batch is None:
                        batch = await read_page(self._journal, self._run_id, after, self.last_seq)
                    after = batch[-1].seq
                    yield batch
                elif self.outcome is not None:
                    return
                elif self.failure is not None:
                    raise again(self.failure)
                else:
                    await self._news.park()
        finally:
            self._followers -= 1

    def _from_tail(self, after: int) -> Sequence[Event] | None:
        """Return one batch from memory, None when what comes after `after` is only on disk."""
        if not self._tail or self._tail[0].first > after + 1:
            return None
        newest = self._tail[-1]
        if newest.first == after + 1:
            return newest.events
        wanted = []
        for chunk in reversed(self._tail):
            if chunk.last <= after:
                break
            wanted.append(chunk)
        return first_batch(reversed(wanted), after)


async def read_page(journal: Journal, run_id: str, after: int, last_seq: int) -> Sequence[Event]:
    """Return one batch from disk; where events were dropped, one gap event that stands for them.

    Raises:
        StorageFull, Unavailable: The log cannot be read now.
    """
    try:
        events = await journal.page(run_id, after)
    except StorageError as error:
        raise Unavailable("the run's log cannot be read now; come back later") from error
    if not events:
        return (gap_event(after + 1, last_seq),)
    if events[0].seq > after + 1:
        return (gap_event(after + 1, events[0].seq - 1),)
    return events


def again(failure: CallError) -> CallError:
    """Return the same error to be raised once more: each follower's traceback is its own."""
    same = type(failure)(failure.message, **failure.data)
    same.__cause__ = failure.__cause__
    return same
