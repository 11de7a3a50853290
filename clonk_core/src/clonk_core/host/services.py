"""Background services of activations: started, watched, started again with a growing delay, ended in order."""

from collections.abc import Callable
from typing import Final

import trio

from clonk_core.boundary import plugin_boundary
from clonk_core.interfaces.host import Log
from clonk_core.plugin import Activation

FIRST_DELAY_S: Final = 0.5
LONGEST_DELAY_S: Final = 60.0
STEADY_AFTER_S: Final = 60.0
"""A service that worked this long is taken as healthy again: the next failure waits the first delay."""


async def supervise(activation: Activation, log: Log, tell_state: Callable[[str], None]) -> None:
    """Run `activation.serve` until it returns or this is cancelled.

    Args:
        activation: Whose service it is.
        log: Where failures go.
        tell_state: Called with `running`, `restarting: <reason>` and `ended`.
    """
    delay_s = FIRST_DELAY_S
    while True:
        began = trio.current_time()
        try:
            with plugin_boundary():
                await activation.serve(lambda: tell_state("running"))
        except Exception as error:  # another package's code: recorded, then tried again
            log.exception("service failed", namespace=activation.namespace, retry_in_s=delay_s)
            tell_state(f"restarting: {type(error).__name__}: {str(error)[:200]}")
        else:
            tell_state("ended")
            return
        if trio.current_time() - began > STEADY_AFTER_S:
            delay_s = FIRST_DELAY_S
        await trio.sleep(delay_s)
        delay_s = min(delay_s * 2, LONGEST_DELAY_S)
