"""Running async work from a terminal program so that Ctrl-C means what the work says it means."""

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")


class Interrupts:
    """What the next Ctrl-C does.

    Attributes:
        handler: Called once for the next Ctrl-C; None gives the work up, with KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.handler: Callable[[], Awaitable[None]] | None = None


def run_interruptible(work: Callable[[Interrupts], Awaitable[T]]) -> T:
    """Run `work` on trio to its end and return what it returns. To be called in the main thread, outside of trio.

    Raises:
        KeyboardInterrupt: Ctrl-C, and the work had set no handler for it.
    """
    return trio.run(_main, work)


async def _main(work: Callable[[Interrupts], Awaitable[T]]) -> T:
    interrupts = Interrupts()
    result: list[T] = []
    errors: list[Exception] = []
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                async for _ in signals:
                    handler, interrupts.handler = interrupts.handler, None
                    if handler is None:
                        nursery.cancel_scope.cancel()
                    else:
                        nursery.start_soon(handler)

            nursery.start_soon(watch)
            try:
                result.append(await work(interrupts))
            except Exception as error:  # noqa: BLE001 - raised again below, outside of the nursery's exception group
                errors.append(error)
            nursery.cancel_scope.cancel()
    if errors:
        raise errors[0]
    if not result:
        raise KeyboardInterrupt
    return result[0]
