"""The kinds of runs: one that outlives its readers, one that ends with its reader, and one that is kept on disk."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Literal

import attrs
import trio

from clonk_core.errors import ClonkError, InvalidParams, NotFound
from clonk_core.interfaces.hub import RunSummary
from clonk_core.messages import Caller, Event, StopReason
from clonk_core.runs.endings import Encode, Endings
from clonk_core.runs.journal import Journal, RunRecord
from clonk_core.runs.limits import RunLimits
from clonk_core.runs.passing_log import PassingLog
from clonk_core.runs.pins import Pins
from clonk_core.runs.producer import MakeEvents, Producer, RunControl
from clonk_core.runs.stored_log import StoredLog, again, read_page


@attrs.frozen(kw_only=True)
class RunStart:
    """What every running run begins with.

    Attributes:
        id: The subscription.
        method: Name of the method.
        caller: Who started it.
        target: What it is about, None for nothing.
        started_at: Clock time of the start (RFC 3339, UTC).
        deadline_s: Longest time it may take, in seconds; None for no limit.
        encode: Gives the JSON text of an event.
        endings: Makes the last event where the activation does not.
        limits: The room's bounds.
    """

    id: str
    method: str
    caller: Caller
    target: str | None
    started_at: str
    deadline_s: float | None
    encode: Encode
    endings: Endings
    limits: RunLimits


class RunningRun:
    """What the two kinds of running runs share. `live` does the work, in a task of the book's.

    Attributes:
        life: Encloses all of the run's work. Shielded: whoever cancels the book's surroundings lets runs end in order.
    """

    durable = False

    def __init__(self, start: RunStart, log: StoredLog | PassingLog) -> None:
        self._start = start
        self._events_log = log
        self._producer = Producer(log.append, start.encode, start.endings, start.limits.stop_grace_s)
        self._ended = trio.Event()
        self.life = trio.CancelScope(shield=True)

    @property
    def id(self) -> str:
        """The subscription, `sub_...`."""
        return self._start.id

    @property
    def method(self) -> str:
        """Name of the method whose run it is."""
        return self._start.method

    @property
    def caller(self) -> Caller:
        """Who started it."""
        return self._start.caller

    @property
    def target(self) -> str | None:
        """What it is about."""
        return self._start.target

    @property
    def state(self) -> Literal["running", "done"]:
        """`done` once its last event is there."""
        return "running" if self._events_log.outcome is None else "done"

    @property
    def outcome(self) -> str | None:
        """How it ended, None while it runs."""
        return self._events_log.outcome

    @property
    def last_seq(self) -> int:
        """Number of the last event, 0 before the first."""
        return self._events_log.last_seq

    def summary(self) -> RunSummary:
        """Return the run as it is listed."""
        return RunSummary(
            subscription=self.id,
            method=self.method,
            state=self.state,
            outcome=self.outcome,
            durable=self.durable,
            last_seq=self.last_seq,
            started_at=self._start.started_at,
            ended_at=None,
        )

    def control(self, deadline: datetime | None) -> RunControl:
        """Return what the activation behind the run is given."""
        return RunControl(
            run_id=self.id,
            deadline=deadline,
            report=self._producer.report,
            add_stop_handler=self._producer.add_stop_handler,
        )

    def request_stop(self, reason: StopReason) -> None:
        """Ask the run to end, without waiting."""
        self._producer.request_stop(reason)

    def cancel(self, reason: StopReason) -> None:
        """Cancel the run's activation without grace and without waiting."""
        self._producer.cancel(reason)

    def give_up(self) -> None:
        """Let everybody who waits for the run go; nothing when it has ended in order."""
        self._events_log.give_up()
        self._ended.set()

    async def wait_ended(self) -> None:
        """Wait until the last event is there, or cannot be stored for now."""
        await self._ended.wait()

    async def _stop_at_deadline(self) -> None:
        if self._start.deadline_s is not None:
            await trio.sleep(self._start.deadline_s)
            self._producer.request_stop("limited")


class DurableRun(RunningRun):
    """A run that goes on without a reader, is kept and can be read from any point."""

    durable = True

    def __init__(self, start: RunStart, log: StoredLog, pins: Pins) -> None:
        super().__init__(start, log)
        self._log = log
        self._pins = pins

    @asynccontextmanager
    async def follow(self, after: int = 0) -> AsyncIterator[AsyncIterator[Sequence[Event]]]:
        """Read the events after number `after`; see `interfaces.Run.follow`."""
        check_after(after, self.last_seq)
        with self._pins.hold(self.id):
            async with aclosing(self._log.batches(after)) as batches:
                yield batches

    async def stop(self, reason: StopReason) -> None:
        """Stop the run and return when its `done` is stored; nothing when it has ended already.

        Raises:
            StorageFull, Unavailable: The run has stopped, but its `done` cannot be stored now; it will be later.
        """
        if self.state == "done":
            return
        self._producer.request_stop(reason)
        await self._ended.wait()
        if self._log.failure is not None:
            raise again(self._log.failure)

    async def live(self, make_events: MakeEvents, control: RunControl) -> None:
        """Run the activation to its end and store its events; returns when the last one is stored."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_at_deadline)
            nursery.start_soon(self._write)
            done = await self._producer.produce(make_events, control)
            self._log.end(self._start.endings.encode(done, self._start.encode))
            await self._ended.wait()
            nursery.cancel_scope.cancel()
        if self._log.failure is not None:
            await self._end_when_possible(self._log.failure)

    async def _write(self) -> None:
        await self._log.write_to_end()
        if self._log.failure is not None:
            # Nothing the activation does can be kept any more.
            self._producer.request_stop("cancelled")
        self._ended.set()

    async def _end_when_possible(self, failure: Exception) -> None:
        """Store the last event of a log that could not be written, as soon as it can be again."""
        ending = self._start.endings.encode(self._start.endings.of_exception(failure), self._start.encode)
        wait_s = self._start.limits.retry_first_s
        while True:
            await trio.sleep(wait_s)
            try:
                await self._log.store_ending(ending)
            except ClonkError:
                wait_s = min(2 * wait_s, self._start.limits.retry_longest_s)
            else:
                return


class ReaderBoundRun(RunningRun):
    """A run that ends with its reader. It is listed and can be stopped, but it is read once, from the beginning."""

    def __init__(self, start: RunStart) -> None:
        log = PassingLog()
        super().__init__(start, log)
        self._log = log
        self._read = trio.Event()

    @asynccontextmanager
    async def follow(self, after: int = 0) -> AsyncIterator[AsyncIterator[Sequence[Event]]]:
        """Read the events; leaving the context ends the run.

        Raises:
            NotFound: Somebody has read it already: nothing of it is kept.
            InvalidParams: `after` is not 0.
        """
        if self._read.is_set():
            raise NotFound(f"{self.id} is not durable and cannot be resumed", subscription=self.id)
        check_after(after, 0)
        self._read.set()
        try:
            async with aclosing(self._log.batches()) as batches:
                yield batches
        finally:
            self._log.abandon()
            self._producer.request_stop("reader_gone")

    async def stop(self, reason: StopReason) -> None:
        """Stop the run and return when its `done` is there; nothing when it has ended already."""
        self._producer.request_stop(reason)
        await self._ended.wait()

    async def live(self, make_events: MakeEvents, control: RunControl) -> None:
        """Run the activation to its end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_at_deadline)
            nursery.start_soon(self._stop_without_reader)
            done = await self._producer.produce(make_events, control)
            self._log.end(self._start.endings.encode(done, self._start.encode))
            self._ended.set()
            nursery.cancel_scope.cancel()

    async def _stop_without_reader(self) -> None:
        with trio.move_on_after(self._start.limits.first_reader_s):
            await self._read.wait()
        if not self._read.is_set():
            self._log.abandon()
            self._producer.request_stop("reader_gone")


class KeptRun:
    """A run that has ended and is kept on disk."""

    durable = True
    state: Literal["done"] = "done"

    def __init__(self, record: RunRecord, journal: Journal, pins: Pins) -> None:
        self._record = record
        self._journal = journal
        self._pins = pins

    @property
    def id(self) -> str:
        """The subscription, `sub_...`."""
        return self._record.id

    @property
    def method(self) -> str:
        """Name of the method whose run it is."""
        return self._record.method

    @property
    def target(self) -> str | None:
        """What it was about."""
        return self._record.target

    @property
    def caller(self) -> Caller:
        """Who started it; what it might do then is not kept."""
        return self._record.caller

    @property
    def outcome(self) -> str | None:
        """How it ended."""
        return self._record.outcome

    @property
    def last_seq(self) -> int:
        """Number of its last event, which is `done`."""
        return self._record.last_seq

    @asynccontextmanager
    async def follow(self, after: int = 0) -> AsyncIterator[AsyncIterator[Sequence[Event]]]:
        """Read the events after number `after`; see `interfaces.Run.follow`."""
        check_after(after, self.last_seq)
        with self._pins.hold(self.id):
            async with aclosing(self._batches(after)) as batches:
                yield batches

    async def _batches(self, after: int) -> AsyncGenerator[Sequence[Event], None]:
        while after < self.last_seq:
            batch = await read_page(self._journal, self.id, after, self.last_seq)
            after = batch[-1].seq
            yield batch

    async def stop(self, reason: StopReason) -> None:
        """Do nothing: it has ended."""


def check_after(after: int, last_seq: int) -> None:
    """Refuse a place to go on from that the run does not have.

    Raises:
        InvalidParams: It is negative or beyond the last event.
    """
    if not 0 <= after <= last_seq:
        raise InvalidParams(f"the run has events up to number {last_seq}, not {after}", path="$.after")
