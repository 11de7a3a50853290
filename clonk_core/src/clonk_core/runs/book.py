"""The book of runs: starts them, finds them again, lists them, lets go of old ones, and ends them all at shutdown."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import trio

from clonk_core.clock_text import clock_text
from clonk_core.errors import CallError, ClonkError, Internal, NotFound, StorageFull, Unavailable
from clonk_core.ids import new_id
from clonk_core.interfaces.hub import RunSummary
from clonk_core.interfaces.runs import Run
from clonk_core.interfaces.storage import Database
from clonk_core.messages import Caller, ErrorObject, StopReason
from clonk_core.metrics import NO_METRICS, Metrics
from clonk_core.runs.endings import Encode, Endings
from clonk_core.runs.journal import Journal, RequestKey, RunRecord
from clonk_core.runs.limits import RunLimits
from clonk_core.runs.pins import Pins
from clonk_core.runs.producer import MakeEvents
from clonk_core.runs.run import DurableRun, KeptRun, ReaderBoundRun, RunStart
from clonk_core.runs.stored_log import StoredLog

_LAST_WORDS_S: Final = 2.0
"""Time for the last events to be stored after everything was cancelled, in seconds."""


MaySee = Callable[[str, str | None], bool]
"""Tells whether the runs of a method, about a target, may be seen."""


def utc_now() -> datetime:
    """Return the clock time, in UTC."""
    return datetime.now(UTC)


def _nobody_else(_method: str, _target: str | None) -> bool:
    """Let nobody but its caller see a run."""
    return False


class RunBook:
    """All runs of one host. Made by `open_runs`.

    Args:
        nursery: The book's own, in which runs live.
    """

    def __init__(
        self,
        journal: Journal,
        nursery: trio.Nursery,
        *,
        encode: Encode,
        endings: Endings,
        limits: RunLimits,
        clock: Callable[[], datetime],
        metrics: Metrics = NO_METRICS,
    ) -> None:
        self._journal = journal
        self._metrics = metrics
        self._nursery = nursery
        self._encode = encode
        self._endings = endings
        self._limits = limits
        self._clock = clock
        self._pins = Pins()
        self._running: dict[str, DurableRun | ReaderBoundRun] = {}
        self._cut_off: list[str] = []
        self._closing = False

    @property
    def running(self) -> tuple[Run, ...]:
        """The runs that have not ended, oldest first."""
        return tuple(run for run in self._running.values() if run.state == "running")

    async def start(
        self,
        method: str,
        caller: Caller,
        make_events: MakeEvents,
        *,
        durable: bool,
        target: str | None = None,
        deadline_s: float | None = None,
        encode: Encode | None = None,
        run_id: str | None = None,
        key: RequestKey | None = None,
    ) -> Run:
        """Begin a run; it is stored before this returns. The generator sees the context variables of this task.

        Args:
            method: Name of the method.
            caller: Who calls.
            make_events: Given the control of the run, returns the activation's async generator.
            durable: Whether it goes on without a reader and is kept.
            target: What it is about, for callers whose scopes are narrowed.
            deadline_s: Longest time it may take, in seconds; None for no limit.
            encode: Gives the JSON text of this run's events, the book's own when None.
            run_id: A new identifier, made by who calls because the call's own message already bears it.
            key: Of the request, stored with a durable run and as long as it. Nobody else may be starting one with it.

        Raises:
            StorageFull: It could not be stored; nothing was begun.
            StorageError: The same, for another reason.
            Unavailable: The book is being closed.
        """
        if self._closing:
            raise Unavailable("the server is shutting down")
        now = self._clock()
        start = RunStart(
            id=run_id or new_id("sub"),
            method=method,
            caller=caller,
            target=target,
            started_at=clock_text(now),
            deadline_s=deadline_s,
            encode=encode or self._encode,
            endings=self._endings,
            limits=self._limits,
        )
        run: DurableRun | ReaderBoundRun
        if durable:
            # Shielded, since a run that is stored has to be lived. As long as one commit.
            with trio.CancelScope(shield=True):
                await self._journal.begin(start.id, method, caller, start.started_at, target, key)
            log = StoredLog(start.id, self._journal, self._limits, self._clock_time)
            run = DurableRun(start, log, self._pins)
        else:
            run = ReaderBoundRun(start)
        self._running[run.id] = run
        self._metrics.run_started()
        deadline = None if deadline_s is None else now + timedelta(seconds=deadline_s)
        self._nursery.start_soon(self._live, run, make_events, deadline, name=f"run {run.id} {method}")
        return run

    async def _live(self, run: DurableRun | ReaderBoundRun, make_events: MakeEvents, deadline: datetime | None) -> None:
        try:
            with run.life:
                await run.live(make_events, run.control(deadline))
        except Exception as error:  # noqa: BLE001 - one run's trouble is no other's
            self._endings.incident(error)
        finally:
            run.give_up()
            del self._running[run.id]
            self._metrics.run_ended(run.outcome)

    async def find(self, caller: Caller, subscription: str, *, allows: MaySee = _nobody_else) -> Run:
        """Return a run, running or kept, that this caller started or may see.

        Args:
            caller: Who asks.
            subscription: The run.
            allows: Tells whether the caller's scopes allow a method for a target; then runs of others in its tenant are
                shown too.

        Raises:
            NotFound: There is none, or it is not for this caller.
            Unavailable: It was cut off by a crash, and the disk has no room for its last event yet.
            StorageError: The database cannot be read.
        """
        run = await self._look_up(subscription)
        if run is None or not _may_see(caller, run, allows):
            shown = subscription[:64]
            raise NotFound(f"there is no run {shown!r}, or it is kept no more", subscription=shown)
        return run

    async def find_by_key(self, method: str, caller: Caller, text: str) -> tuple[Run, str] | None:
        """Return the run that this caller's request with a key has started, and the digest of that request.

        Raises:
            Unavailable: It was cut off by a crash, and the disk has no room for its last event yet.
            StorageError: The database cannot be read.
        """
        found = await self._journal.find_key(method, caller, text)
        run = None if found is None else await self._look_up(found[0])
        return None if found is None or run is None else (run, found[1])

    async def _look_up(self, subscription: str) -> Run | None:
        record: RunRecord | None = None
        # Twice: a run may end between the look at those that run and the look at the database.
        for _ in range(2):
            running = self._running.get(subscription)
            if running is not None and running.state == "running":
                return running
            record = await self._journal.find(subscription)
            if record is not None and record.state == "done":
                return KeptRun(record, self._journal, self._pins)
        if record is None:
            return None
        raise Unavailable("the run was cut off and could not be ended yet; come back later", subscription=subscription)

    async def list(self, caller: Caller, *, limit: int = 100, before: str | None = None) -> list[RunSummary]:
        """Return the caller's runs, newest first: those that run and those that are kept.

        Args:
            caller: Whose.
            limit: At most this many.
            before: Only runs older than this one.
        """
        records = await self._journal.runs_of(caller, limit=limit, before=before)
        found = {record.id: _summary(record) for record in records}
        for run in self._running.values():
            if run.state == "done":
                continue
            if (run.caller.tenant, run.caller.id) == (caller.tenant, caller.id) and (before is None or run.id < before):
                found[run.id] = run.summary()
        return [found[run_id] for run_id in sorted(found, reverse=True)[:limit]]

    async def stop_all(self, reason: StopReason = "shutdown", *, within_s: float) -> None:
        """Stop every run, all at the same time, and start no more.

        Args:
            reason: What their activations are told.
            within_s: Those that have not ended by then are cancelled, in seconds. It takes up to two seconds more for
                their last events to be stored; what cannot be stored then is ended at the next start.
        """
        self._closing = True
        with trio.move_on_after(within_s):
            for run in tuple(self._running.values()):
                run.request_stop(reason)
            await self._wait_all_ended()
        for run in tuple(self._running.values()):
            run.cancel(reason)
        with trio.move_on_after(_LAST_WORDS_S):
            await self._wait_all_ended()

    async def _wait_all_ended(self) -> None:
        for run in tuple(self._running.values()):
            await run.wait_ended()

    async def sweep(self) -> int:
        """Drop the runs whose time is up and those over the total size; return how many.

        Those that somebody is reading stay until the next time.
        """
        oldest = clock_text(self._clock() - timedelta(seconds=self._limits.retention_s))
        past = await self._journal.ended_before(oldest)
        over = await self._journal.over_total(self._limits.max_total_bytes)
        dropped = 0
        for run_id in dict.fromkeys([*past, *over]):
            if not self._pins.holds(run_id):
                await self._journal.drop(run_id)
                dropped += 1
        return dropped

    async def find_cut_off(self) -> None:
        """Look up the runs that were going on when the server ended the last time, and end them."""
        self._cut_off = await self._journal.cut_off()
        await self._close_cut_off()

    async def _close_cut_off(self) -> None:
        if not self._cut_off:
            return
        ending = self._endings.encode(self._endings.of_restart(), self._encode)
        try:
            await self._journal.close_cut_off(self._cut_off, ending, self._clock_time())
        except StorageFull as error:
            self._endings.incident(error)  # the server starts all the same; tried again with every sweep
        else:
            self._cut_off = []

    async def sweep_for_ever(self) -> None:
        """Sweep now and then."""
        while True:
            await trio.sleep(self._limits.sweep_every_s)
            try:
                await self.sweep()
                await self._close_cut_off()
            except ClonkError as error:
                # A broken disk harms nobody here; tried again later.
                self._endings.incident(error)

    async def close(self) -> None:
        """Stop every run in order, then end what is left of them."""
        await self.stop_all("shutdown", within_s=self._limits.stop_grace_s)
        for run in tuple(self._running.values()):
            run.life.cancel()

    def _clock_time(self) -> str:
        return clock_text(self._clock())


@asynccontextmanager
async def open_runs(
    database: Database,
    *,
    encode: Encode,
    error_object: Callable[[CallError], ErrorObject],
    incident: Callable[[Exception], Internal],
    limits: RunLimits | None = None,
    clock: Callable[[], datetime] = utc_now,
    metrics: Metrics = NO_METRICS,
) -> AsyncIterator[RunBook]:
    """Open the book of runs of one host, end what a crash has cut off, and end all runs in order when it is left.

    Args:
        database: The core's own, with the tables of runs.
        encode: Gives the JSON text of an event: attrs objects, `Done` among them.
        error_object: The error as it appears on the wire.
        incident: Logs an unexpected exception and returns what the caller may know of it.
        limits: The bounds.
        clock: Gives the time of day, with its zone.
        metrics: Count runs and their events.

    Raises:
        StorageError: The database does not do what it must.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        book = RunBook(
            Journal(database, metrics),
            nursery,
            encode=encode,
            endings=Endings(error_object=error_object, incident=incident),
            limits=limits or RunLimits(),
            clock=clock,
            metrics=metrics,
        )
        try:
            await book.find_cut_off()
            nursery.start_soon(book.sweep_for_ever)
            yield book
        except Exception as error:  # noqa: BLE001 - raised again below, outside the nursery that would wrap it
            failure = error
        finally:
            # Bounded by the grace period and the time for the last words.
            with trio.CancelScope(shield=True):
                await book.close()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _may_see(caller: Caller, run: Run, allows: MaySee) -> bool:
    if run.caller.tenant != caller.tenant:
        return False
    return run.caller.id == caller.id or allows(run.method, run.target)


def _summary(record: RunRecord) -> RunSummary:
    return RunSummary(
        subscription=record.id,
        method=record.method,
        state=record.state,
        outcome=record.outcome,
        durable=True,
        last_seq=record.last_seq,
        started_at=record.started_at,
        ended_at=record.ended_at,
    )
