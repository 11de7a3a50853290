"""One turn as its reader sees it: a prompt, the items that follow, and how it ended."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio

from clonk_claudecode.engine.outcome import TurnResult
from clonk_claudecode.events import TurnItem
from clonk_core.plugin import CallError, StopReason

MAX_WAITING_ITEMS: Final = 4096
"""Items that the reader has not taken yet; about 2 MiB, and half a second of the fastest reply.

A reader stores what it takes, and a commit to a busy disk takes that long. Beyond it the binary has to wait, which it
does when its output is not read. An interrupted turn is read on without a bound, or its end could not be seen.
"""


class Turn:
    """Iterate over it for its items; afterwards `result` says how it ended. For one reader.

    Attributes:
        turn_id: The subscription of the run that it belongs to; told to whoever finds the session busy.
        prompt_uuid: Uuid of the prompt's entry in the transcript.
        deadline_s: How long it may take, None for no limit; then it is interrupted, with the outcome `limited`.
        deadline: The same on trio's clock.
        model: Who answers it; None for the session's own model.
        stop_reason: Why it is being stopped; None when it is not.
        stop_error: What the result shall say about the stop, when the reason alone does not.
        on_late_stop: Called when it shall be stopped and the binary is done with it already, to cut short what its
            reader still does.
    """

    def __init__(
        self, turn_id: str, prompt_uuid: str, *, deadline_s: float | None = None, model: str | None = None
    ) -> None:
        self.turn_id = turn_id
        self.prompt_uuid = prompt_uuid
        self.deadline_s = deadline_s
        self.deadline = float("inf") if deadline_s is None else trio.current_time() + deadline_s
        self.model = model
        self.stop_reason: StopReason | None = None
        self.stop_error: CallError | None = None
        self.on_late_stop: Callable[[], object] | None = None
        self._items: deque[TurnItem] = deque()
        self._result: TurnResult | None = None
        self._began_at = trio.current_time()
        self._ended_at = self._began_at
        self._finished = trio.Event()
        self._stirred = trio.Event()
        self._ready = trio.Event()
        self._room = trio.Event()

    # ── For the reader ────────────────────────────────────────────────────────

    def __aiter__(self) -> "Turn":
        return self

    async def __anext__(self) -> TurnItem:
        while not self._items:
            if self._result is not None:
                raise StopAsyncIteration
            self._ready = trio.Event()
            await self._ready.wait()
        item = self._items.popleft()
        self._room.set()
        return item

    @property
    def is_finished(self) -> bool:
        """Whether the binary is done with it; items may still wait to be read."""
        return self._result is not None

    @property
    def result(self) -> TurnResult:
        """How it ended. Known when the iteration has ended."""
        if self._result is None:
            raise RuntimeError("the turn has not ended yet")
        return self._result

    @property
    def duration_s(self) -> float:
        """How long it took, in seconds, the start of a process included."""
        return (self._ended_at if self.is_finished else trio.current_time()) - self._began_at

    async def wait_finished(self) -> TurnResult:
        """Wait until the binary is done with it."""
        await self._finished.wait()
        return self.result

    def request_stop(self, reason: StopReason, error: CallError | None = None) -> None:
        """Have it interrupted; the first reason counts. Returns at once, the items go on up to the end."""
        if self.stop_reason is None and self._result is None:
            self.stop_reason = reason
            self.stop_error = error
            self._room.set()
            self._stirred.set()
        elif self._result is not None and self.on_late_stop is not None:
            self.on_late_stop()

    # ── For the session that runs it ──────────────────────────────────────────

    def put(self, items: Sequence[TurnItem]) -> None:
        """Add items for the reader. Call `wait_room` before the next."""
        self._items.extend(items)
        self._ready.set()

    async def wait_room(self) -> None:
        """Wait while the reader is too far behind."""
        while len(self._items) > MAX_WAITING_ITEMS and self.stop_reason is None and self._result is None:
            self._room = trio.Event()
            await self._room.wait()

    def finish(self, result: TurnResult) -> None:
        """End it; the first end counts."""
        if self._result is None:
            self._result = result
            self._ended_at = trio.current_time()
            for event in (self._ready, self._room, self._stirred, self._finished):
                event.set()

    def amend(self, result: TurnResult) -> None:
        """Change how it has ended, for what is found out afterwards: its answer is not what was asked for."""
        self._result = result

    def stir(self) -> None:
        """Wake `wait_stirred`: something happened that a stop in progress should know of."""
        self._stirred.set()

    async def wait_stirred(self) -> None:
        """Wait for the end, for a stop, or for `stir`; then arm it anew."""
        await self._stirred.wait()
        if self._result is None:
            self._stirred = trio.Event()
