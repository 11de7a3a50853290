"""Signals of a server: the first asks for an orderly end, the second ends at once; what does not end is ended.

Where there is something to read again, SIGHUP does that instead.
"""

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from clonk_core.cli.exit_codes import FAILED, OK
from clonk_core.cli.main import complain
from clonk_core.config.settings import Settings

_WATCHED: Final = ("SIGINT", "SIGTERM", "SIGHUP")

Reload = Callable[[], object]
"""Reads again what was changed; called at a SIGHUP, must not raise."""

SPARE_S: Final = 30.0
"""Time beside the grace periods for everything to close, in seconds. What is still there then (a plugin that shields
itself from cancellation) would stay for ever."""


@attrs.define
class Stopping:
    """Whether the server was asked to stop.

    Attributes:
        requested: Set by the first signal.
        received: That signal.
        start: To be entered around all: the first signal cancels it as long as `has_started` is not set. A server that
            hangs before it serves anybody has nothing to end in order.
        has_started: Set by the server when it serves.
        patience_s: Longest time from the first signal to the end of the process, in seconds.
    """

    requested: trio.Event = attrs.field(factory=trio.Event)
    received: signal.Signals | None = None
    start: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    has_started: bool = False
    patience_s: float = SPARE_S

    @property
    def exit_code(self) -> int:
        """0 after SIGTERM and SIGHUP, which are how servers are stopped; 130 after Ctrl-C."""
        return 128 + signal.SIGINT if self.received is signal.SIGINT else OK

    def allow(self, settings: Settings) -> None:
        """Let the end take as long as the configuration allows."""
        self.patience_s = settings.server.shutdown_grace_s + settings.streams.stop_grace_s + SPARE_S


@asynccontextmanager
async def watched_signals(reload: Reload | None = None) -> AsyncIterator[Stopping]:
    """Watch for SIGINT, SIGTERM and SIGHUP while the context is open.

    The second signal ends the process where it stands: the databases are written so that this loses nothing that was
    told to a client, and processes of sessions are ended by their reaper.

    Args:
        reload: What SIGHUP does instead of asking for the end.
    """
    stopping = Stopping()
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch, stopping, reload)
        nursery.start_soon(_end_at_last, stopping)
        yield stopping
        nursery.cancel_scope.cancel()


async def _watch(
    stopping: Stopping, reload: Reload | None, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    reloading = {getattr(signal, "SIGHUP", None)} if reload is not None else set()
    numbers = [getattr(signal, name) for name in _WATCHED if hasattr(signal, name)]
    # What the caller ignores, as nohup does with SIGHUP, ends nothing.
    numbers = [one for one in numbers if one in reloading or signal.getsignal(one) is not signal.SIG_IGN]
    with trio.open_signal_receiver(*numbers) as received:
        task_status.started()
        async for number in received:
            if reload is not None and number in reloading:
                reload()
                continue
            if stopping.received is not None:
                sys.stderr.flush()
                os._exit(128 + number)
            stopping.received = signal.Signals(number)
            stopping.requested.set()
            if not stopping.has_started:
                stopping.start.cancel()


async def _end_at_last(stopping: Stopping) -> None:
    await stopping.requested.wait()
    await trio.sleep(stopping.patience_s)
    complain(f"still not ended {stopping.patience_s:g} s after it was told to; ended now")
    os._exit(FAILED)
