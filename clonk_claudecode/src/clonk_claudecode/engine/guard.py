"""Watching over a turn: its deadline, the binary's silence, and interrupting it so that it really ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from clonk_claudecode.engine.control import Control
from clonk_claudecode.engine.spec import EngineSettings
from clonk_claudecode.engine.turn import Turn
from clonk_claudecode.errors import ProcessBroken, TurnLimitReached, TurnStalled

AGAIN_S: Final = 1.0
"""An interrupt is answered in 3 to 42 ms; after this long without an end it is sent again."""


class SignsOfLife:
    """When the binary was last heard.

    Attributes:
        last: On trio's clock.
    """

    def __init__(self) -> None:
        self.last = trio.current_time()
        self._is_listening = True

    def note(self) -> None:
        """It was heard now."""
        self.last = trio.current_time()

    @contextmanager
    def not_listening(self) -> Iterator[None]:
        """Do not take it for silence while nobody listens."""
        self._is_listening = False
        try:
            yield
        finally:
            self._is_listening = True
            self.note()

    def silent_at(self, patience_s: float) -> float:
        """Return when it will have been silent for `patience_s`."""
        return (self.last if self._is_listening else trio.current_time()) + patience_s


async def guard(
    turn: Turn, signs: SignsOfLife, control: Control, settings: EngineSettings, *, tools_at_work: Callable[[], bool]
) -> bool:
    """Stop a turn when that is asked for, when its time is up, and when the binary has fallen silent.

    A binary that waits for a permission may be silent for as long as that takes; whoever closes the question stirs the
    turn, and the silence is counted anew from there.

    Returns:
        Whether it ended; False means that the binary did not answer an interrupt, and its process must end.
    """

    def silent_at() -> float:
        if control.is_asking:
            return float("inf")
        return signs.silent_at(settings.tool_timeout_s if tools_at_work() else settings.idle_timeout_s)

    while turn.stop_reason is None and not turn.is_finished:
        with trio.move_on_at(min(turn.deadline, silent_at())):
            await turn.wait_stirred()
        now = trio.current_time()
        if now >= turn.deadline:
            turn.request_stop("limited", TurnLimitReached("timeout_s", turn.deadline_s))
        elif now >= silent_at():
            turn.request_stop("limited", TurnStalled(round(now - signs.last, 1)))
    if not turn.is_finished:
        await _interrupt(turn, control, settings.interrupt_timeout_s)
    return turn.is_finished


async def _interrupt(turn: Turn, control: Control, timeout_s: float) -> None:
    """Interrupt, until the `result` has come, so that the next turn does not begin with the rest of this one.

    An interrupt that the binary takes while the prompt is still queued is without effect (seen with 2.1.330), so it is
    sent again when the binary begins, of which the session stirs the turn.
    """
    with trio.move_on_after(timeout_s):
        while not turn.is_finished:
            try:
                await control.ask(subtype="interrupt")
            except ProcessBroken:
                return
            with trio.move_on_after(AGAIN_S):
                await turn.wait_stirred()
