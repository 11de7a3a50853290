"""Signals of a server: the first asks for an orderly end, the second ends at once."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from clonk_core.cli.exit_codes import OK

_WATCHED: Final = ("SIGINT", "SIGTERM", "SIGHUP")


@attrs.define
class Stopping:
    """Whether the server was asked to stop.

    Attributes:
        requested: Set by the first signal.
        received: That signal.
    """

    requested: trio.Event = attrs.field(factory=trio.Event)
    received: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """0 after SIGTERM and SIGHUP, which are how servers are stopped; 130 after Ctrl-C."""
        return 128 + signal.SIGINT if self.received is signal.SIGINT else OK


@asynccontextmanager
async def watched_signals() -> AsyncIterator[Stopping]:
    """Watch for SIGINT, SIGTERM and SIGHUP while the context is open.

    The second signal ends the process where it stands: the databases are written so that this loses nothing that was
    told to a client, and processes of sessions are ended by their reaper.
    """
    stopping = Stopping()
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch, stopping)
        yield stopping
        nursery.cancel_scope.cancel()


async def _watch(stopping: Stopping, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    numbers = [getattr(signal, name) for name in _WATCHED if hasattr(signal, name)]
    # What the caller ignores, as nohup does with SIGHUP, stays ignored.
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    with trio.open_signal_receiver(*numbers) as received:
        task_status.started()
        async for number in received:
            if stopping.received is not None:
                sys.stderr.flush()
                os._exit(128 + number)
            stopping.received = signal.Signals(number)
            stopping.requested.set()
