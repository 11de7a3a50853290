"""How late tasks are woken: whatever keeps the event loop busy, a plugin that computes say, delays everybody."""

from typing import Final

import trio

from clonk_core.metrics import Metrics

EVERY_S: Final = 0.25
"""How often it is measured: a loop that is kept busy for longer is always seen, at a cost of 0.1 ms a second."""


async def watch_loop(metrics: Metrics) -> None:
    """Sleep and measure by how much it was too long, until cancelled."""
    while True:
        wanted = trio.current_time() + EVERY_S
        await trio.sleep_until(wanted)
        metrics.loop_lagged(max(0.0, trio.current_time() - wanted))
