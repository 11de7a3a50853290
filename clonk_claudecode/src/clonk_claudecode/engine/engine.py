"""The engine: which sessions have a process, who may start a turn, and the orderly end of all of them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias

import trio

from clonk_claudecode.engine.binary import Binary, BinaryFinder
from clonk_claudecode.engine.frames import Prompt
from clonk_claudecode.engine.launch import contradicts
from clonk_claudecode.engine.live_session import LiveSession
from clonk_claudecode.engine.memory import free_memory
from clonk_claudecode.engine.mirror import FilesAlone, TranscriptKeeper
from clonk_claudecode.engine.outcome import TurnResult, stopped
from clonk_claudecode.engine.permissions import Decide, deny_all
from clonk_claudecode.engine.reaper import Reaper
from clonk_claudecode.engine.slots import Slot, Slots
from clonk_claudecode.engine.spec import EngineSettings, SessionSpec
from clonk_claudecode.engine.tools import AnswerTools, no_tools
from clonk_claudecode.engine.turn import Turn
from clonk_claudecode.errors import EngineStopped, ProcessBroken, ProcessDied, SessionBusy
from clonk_claudecode.metrics import UNCOUNTED, SessionMetrics
from clonk_core.plugin import Log, StopReason

SessionState: TypeAlias = Literal["parked", "idle", "busy"]
"""Without a process; with one that waits for a prompt; with a turn running or about to start."""

Complete: TypeAlias = Callable[[EngineSettings], Awaitable[EngineSettings]]
"""Fills in what a process is started with and may change while the engine runs: the credential and the variables."""

SHUTDOWN_S = 12.0
"""Above the longest way down the ladder of a process: 1 + 2 + 5 s, and some for a busy machine."""


class Engine:
    """Runs the sessions' processes. Made by `open_engine`.

    Args:
        settings: Limits and places.
        nursery: Of `open_engine`, which owns it; holds the processes' tasks.
        reaper: Is told of every process.
        decide: Answers the binary's questions about tools.
        complete: Is asked at each start of a process.
        log: For what nobody waits for.
        metrics: Count processes and turns.
        keeper: Keeps the transcripts; None leaves them to the binary's own files.
        answer_tools: Answers for the servers of sessions' own tools.
    """

    def __init__(
        self,
        settings: EngineSettings,
        *,
        nursery: trio.Nursery,
        reaper: Reaper,
        decide: Decide,
        complete: Complete,
        log: Log,
        metrics: SessionMetrics = UNCOUNTED,
        keeper: TranscriptKeeper | None = None,
        answer_tools: AnswerTools = no_tools,
    ) -> None:
        self._settings = settings
        self._answer_tools = answer_tools
        self._nursery = nursery
        self._reaper = reaper
        self._decide = decide
        self._complete = complete
        self._log = log
        self._metrics = metrics
        self._keeper = keeper or FilesAlone(settings)
        self._finder = BinaryFinder(settings.binary_path)
        self._slots = Slots(settings.max_concurrent, settings.capacity_wait_s)

    # ── Asking ────────────────────────────────────────────────────────────────

    @property
    def live_count(self) -> int:
        """How many processes there are."""
        return sum(slot.live is not None for slot in self._slots.all())

    async def binary(self) -> Binary:
        """Return the binary that sessions are run with.

        Raises:
            BinaryMissing, BinaryTooOld, BinaryBroken: There is none that can be used.
        """
        return await self._finder.find()

    def state(self, session_id: str) -> SessionState:
        """Tell what a session does; one that the engine does not know is parked."""
        slot = self._slots.find(session_id)
        if slot is not None and (slot.turn is not None or slot.is_held):
            return "busy"
        return "idle" if slot is not None and slot.live is not None and slot.live.is_usable else "parked"

    async def wait_state(self, session_id: str, state: SessionState) -> None:
        """Wait until a session does this."""
        while self.state(session_id) != state:
            await self._slots.wait_changed()

    def running(self, session_id: str) -> Turn | None:
        """Return the session's turn, if it has one."""
        slot = self._slots.find(session_id)
        return None if slot is None else slot.turn

    def pid(self, session_id: str) -> int | None:
        """Return the process id of the session's binary, None when it is parked."""
        slot = self._slots.find(session_id)
        return None if slot is None or slot.live is None else slot.live.pid

    # ── Doing ─────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def turn(
        self,
        spec: SessionSpec,
        prompt: Prompt,
        *,
        turn_id: str,
        prompt_uuid: str,
        deadline_s: float | None = None,
        model: str | None = None,
        renew: Callable[[SessionSpec], Awaitable[SessionSpec]] | None = None,
        owner: str = "",
    ) -> AsyncIterator[Turn]:
        """Say something to a session. Iterate over the turn for its items; `turn.result` tells the end.

        Leaving it early interrupts the turn and waits until that has happened (shielded, bounded).

        Args:
            spec: The session. When it differs from what its process was started with, the process is started anew.
            prompt: What to say: a text, or content blocks as the API takes them.
            turn_id: Subscription of the run, told to whoever finds the session busy.
            prompt_uuid: Uuid for the prompt's entry in the transcript.
            deadline_s: The turn is interrupted after this long.
            model: Who answers this once; None for the session's own model.
            renew: Gives the session as it is once nobody else can change it.
            owner: Who asks: when many wait for a place, callers have their turn one after the other.

        Raises:
            SessionBusy: The session has a turn already.
            CapacityReached: No process could be had in time.
            BinaryMissing, BinaryTooOld, BinaryBroken: There is no binary to run.
            WorkingDirLost: The session's folder is gone.
            ProcessDied, ProcessBroken: The binary does not start.
            Unavailable: Its credential or a secret for its environment cannot be had.
            EngineStopped: The hub is shutting down.
        """
        turn = Turn(turn_id, prompt_uuid, deadline_s=deadline_s, model=model)
        await self._wait_not_held(spec.key)
        slot = self._reserve(spec, turn)
        try:
            if renew is not None:
                spec = await renew(spec)
            await self._begin(slot, spec, turn, prompt, owner)
            try:
                yield turn
            finally:
                turn.request_stop("cancelled")  # without effect once it has ended
                with trio.CancelScope(shield=True):
                    await turn.wait_finished()
        finally:
            slot.turn = None
            self._slots.tidy(spec.key)
            if turn.is_finished:
                self._metrics.turn_ended(turn.result.outcome)

    async def interrupt(self, session_id: str, reason: StopReason = "cancelled") -> bool:
        """Stop a session's turn and wait until it has ended. Return whether there was one."""
        turn = self.running(session_id)
        if turn is None:
            return False
        turn.request_stop(reason)
        self._slots.notify()
        await turn.wait_finished()
        return True

    async def wait_free(self, session_id: str, turn: Turn) -> None:
        """Wait until whoever reads a turn is done with it, so that the next one can begin."""
        while self.running(session_id) is turn:
            await self._slots.wait_changed()

    async def prewarm(self, spec: SessionSpec) -> bool:
        """Start a session's process before its first prompt. Return False when there is no free place.

        Raises:
            BinaryMissing, BinaryTooOld, BinaryBroken, ProcessDied, ProcessBroken: It does not start.
        """
        slot = self._slots.get(spec.key)
        if self._slots.is_stopping or (self._slots.is_full and not slot.has_place):
            self._slots.tidy(spec.key)
            return False
        try:
            await self._ensure_live(slot, spec)
        finally:
            self._slots.tidy(spec.key)
        return True

    async def park(self, session_id: str) -> None:
        """Close a session's processes, ephemeral ones too; a running turn is interrupted first.

        Args:
            session_id: Of the session; the `key` of the spec for one ephemeral process.
        """
        for key in self._slots.keys_of(session_id):
            await self._park(key)

    async def _park(self, key: str) -> None:
        await self.interrupt(key)
        slot = self._slots.find(key)
        if slot is None:
            return
        async with slot.lock:
            if slot.live is not None:
                slot.live.close()
                await slot.live.closed.wait()
            slot.kept.clear()
        self._slots.tidy(key)

    @asynccontextmanager
    async def hold(self, session_id: str) -> AsyncIterator[None]:
        """Have a session without process and turns, for as long as what they would go on from is changed.

        A turn that is to begin meanwhile waits for the end of it.

        Raises:
            SessionBusy: It has a turn, or is held already.
            EngineStopped: The hub is shutting down.
        """
        if self._slots.is_stopping:
            raise EngineStopped
        slot = self._slots.get(session_id)
        if slot.turn is not None or slot.is_held:
            raise SessionBusy(session_id, slot.turn.turn_id if slot.turn else None)
        slot.is_held = True
        self._slots.notify()
        try:
            await self.park(session_id)
            yield
        finally:
            slot.is_held = False
            self._slots.tidy(session_id)

    async def shut_down(self) -> None:
        """Interrupt every turn, then close every process. Shielded and bounded; nothing can be started any more."""
        self._slots.is_stopping = True
        self._slots.notify()
        slots = self._slots.all()
        with trio.CancelScope(shield=True):
            with trio.move_on_after(self._settings.interrupt_timeout_s + 1):
                for turn in [slot.turn for slot in slots if slot.turn is not None]:
                    turn.request_stop("shutdown")
                for slot in slots:
                    if slot.live is not None and slot.live.turn is not None:
                        await slot.live.turn.wait_finished()
            with trio.move_on_after(SHUTDOWN_S):
                lives = [slot.live for slot in slots if slot.live is not None]
                for live in lives:
                    live.close()
                for live in lives:
                    await live.closed.wait()

    async def watch_memory(self, free_memory: Callable[[], int | None]) -> None:
        """Park idle processes, one after the other, while less memory is left than there should be. Runs for ever."""
        least = self._settings.min_free_memory_bytes
        while least:
            await trio.sleep(self._settings.memory_every_s)
            left = free_memory()
            if left is not None and left < least and self._slots.park_one():
                self._log.info("an idle session is parked: little memory is left", bytes_left=left)

    # ── Starting ──────────────────────────────────────────────────────────────

    async def _wait_not_held(self, key: str) -> None:
        while (slot := self._slots.find(key)) is not None and slot.is_held and not self._slots.is_stopping:
            await self._slots.wait_changed()

    def _reserve(self, spec: SessionSpec, turn: Turn) -> Slot:
        """Take the session for this turn, at once, so that of two callers one is told that it is busy."""
        if self._slots.is_stopping:
            raise EngineStopped
        slot = self._slots.get(spec.key)
        if slot.turn is not None:
            raise SessionBusy(spec.session_id, slot.turn.turn_id)
        slot.turn = turn
        self._slots.notify()
        return slot

    async def _begin(self, slot: Slot, spec: SessionSpec, turn: Turn, prompt: Prompt, owner: str) -> None:
        """Hand the prompt to a process; one that has died while it was idle is replaced."""
        try:
            while True:
                live = await self._ensure_live(slot, spec, owner)
                if turn.stop_reason is not None:
                    outcome, error = stopped(turn.stop_reason, turn.stop_error)
                    turn.finish(TurnResult(outcome=outcome, error=error))
                    return
                if live is not None and live.is_usable:
                    live.begin(turn, prompt)
                    return
        finally:
            if not turn.is_finished and (slot.live is None or slot.live.turn is not turn):
                # It never began; whoever waits in `interrupt` must not wait for ever.
                turn.finish(TurnResult(outcome="failed", error=EngineStopped("the turn could not be started")))

    async def _ensure_live(self, slot: Slot, spec: SessionSpec, owner: str = "") -> LiveSession | None:
        """Return the session's process, a new one if need be; None when its turn was stopped before there was one."""
        async with slot.lock:
            live = slot.live
            if live is not None and live.is_usable and live.spec == spec:
                return live
            if live is not None:
                live.close()
                await live.closed.wait()
            binary = await self._finder.find()
            if not await self._slots.take_place(slot, owner):
                return None
            try:
                return await self._start(slot, spec, binary)
            finally:
                slot.is_starting = False
                self._slots.notify()

    async def _start(self, slot: Slot, spec: SessionSpec, binary: Binary) -> LiveSession:
        resume = await self._keeper.prepare(spec, in_use=spec.ephemeral is not None)
        if spec.ephemeral is not None and spec.ephemeral.from_nothing:
            resume = False
        settings = await self._complete(self._settings)
        for is_last_try in (False, True):
            live = slot.live = LiveSession(
                spec,
                settings,
                reaper=self._reaper,
                decide=self._decide,
                # Of a fork that is thrown away nothing is kept.
                keeper=self._keeper if spec.ephemeral is None else FilesAlone(self._settings),
                log=self._log,
                kept=slot.kept,
                answer_tools=self._answer_tools,
            )
            self._nursery.start_soon(self._own, slot, live, binary, resume)
            await live.ready.wait()
            failure = live.failure
            if failure is None:
                return live
            await live.closed.wait()
            if is_last_try or not isinstance(failure, ProcessDied) or not contradicts(failure, resume=resume):
                raise failure
            # The file said one thing and the binary, which knows better, the other.
            resume = not resume
        raise AssertionError("the last try returns or raises")

    # ── Owning ────────────────────────────────────────────────────────────────

    async def _own(self, slot: Slot, live: LiveSession, binary: Binary, resume: bool) -> None:
        metrics = self._metrics if live.spec.ephemeral is None else UNCOUNTED  # it makes no parked session live
        metrics.process_began()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._park_when_idle, slot, live)
                nursery.start_soon(self._count_start, live)
                await live.run(binary, resume=resume)
                nursery.cancel_scope.cancel()
        finally:
            metrics.process_ended()
            slot.live = None if slot.live is live else slot.live
            self._slots.tidy(live.spec.key)
        if isinstance(live.failure, ProcessDied | ProcessBroken):
            self._log.warning("a session's process ended", session=live.spec.session_id, reason=str(live.failure))

    async def _count_start(self, live: LiveSession) -> None:
        with trio.CancelScope(shield=True):  # one that fails at once is counted too; `run` always sets it
            await live.ready.wait()
        self._metrics.process_started(ready=live.failure is None)

    async def _park_when_idle(self, slot: Slot, live: LiveSession) -> None:
        timeout_s = self._settings.session_timeout_s
        while True:
            await trio.sleep_until(max(live.idle_since, trio.current_time() - timeout_s / 2) + timeout_s)
            is_idle = slot.turn is None and not live.is_at_work
            if is_idle and trio.current_time() >= live.idle_since + timeout_s:
                live.close()


async def _as_it_is(settings: EngineSettings) -> EngineSettings:
    return settings


@asynccontextmanager
async def open_engine(
    settings: EngineSettings,
    *,
    decide: Decide = deny_all,
    complete: Complete = _as_it_is,
    log: Log,
    metrics: SessionMetrics = UNCOUNTED,
    keeper: TranscriptKeeper | None = None,
    free_memory: Callable[[], int | None] = free_memory,
    answer_tools: AnswerTools = no_tools,
) -> AsyncIterator[Engine]:
    """Run an engine. Leaving it interrupts every turn and closes every process, within about 20 s.

    Args:
        settings: Limits and places.
        decide: Answers the binary's questions about tools.
        complete: Is asked at each start of a process, and may raise a `CallError` for whoever needs the process.
        log: For what nobody waits for.
        metrics: Count processes and turns.
        keeper: Keeps the transcripts; None leaves them to the binary's own files.
        free_memory: Tells how many bytes are left for processes, None when that is not known.
        answer_tools: Answers for the servers of sessions' own tools.

    Raises:
        OSError: The folder of records cannot be written, or no process can be started.
    """
    error: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            reaper = Reaper(settings.run_dir, log)
            await nursery.start(reaper.run)
            engine = Engine(
                settings,
                nursery=nursery,
                reaper=reaper,
                decide=decide,
                complete=complete,
                log=log,
                metrics=metrics,
                keeper=keeper,
                answer_tools=answer_tools,
            )
            nursery.start_soon(engine.watch_memory, free_memory)
            try:
                yield engine
            finally:
                await engine.shut_down()
        except Exception as caught:  # noqa: BLE001 - handed on below, without the nursery's group around it
            error = caught
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error
