"""Drives an activation's async generator: from its first event to its last, through stops, deadlines and errors."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime

import attrs
import trio

from clonk_core.boundary import plugin_boundary
from clonk_core.errors import CallCancelled
from clonk_core.messages import Done, StopReason
from clonk_core.runs.endings import Encode, Endings, one_line
from clonk_core.runs.host_events import progress_payload

StopHandler = Callable[[StopReason], None]


@attrs.frozen(kw_only=True)
class RunControl:
    """What a run gives to the activation behind it; the host hands it on in the `Call`.

    Attributes:
        run_id: The subscription.
        deadline: Clock time (UTC) by which the run is stopped, None for none.
        report: Puts a progress event into the run.
        add_stop_handler: Has a handler called before the run is stopped; at once when it is being stopped already.
    """

    run_id: str
    deadline: datetime | None
    report: Callable[[float, float | None, str | None], Awaitable[None]]
    add_stop_handler: Callable[[StopHandler], None]


MakeEvents = Callable[[RunControl], AsyncIterator[object]]


@asynccontextmanager
async def _opened(events: AsyncIterator[object]) -> AsyncIterator[AsyncIterator[object]]:
    """Close an async generator at the end, in the task that ran it; other iterators have nothing to close."""
    if isinstance(events, AsyncGenerator):
        async with aclosing(events):
            yield events
    else:
        yield events


class Producer:
    """One activation's work on one run.

    Args:
        append: Takes the JSON text of the next event; waits when it must.
        encode: Gives the JSON text of an event.
        endings: Makes the last event where the activation does not.
        stop_grace_s: Time between the stop handlers and cancellation, in seconds.
    """

    def __init__(
        self, append: Callable[[bytes], Awaitable[None]], encode: Encode, endings: Endings, stop_grace_s: float
    ) -> None:
        self._append = append
        self._encode = encode
        self._endings = endings
        self._stop_grace_s = stop_grace_s
        self._stop_handlers: list[StopHandler] = []
        self._reason: StopReason | None = None
        self._scope = trio.CancelScope()

    async def produce(self, make_events: MakeEvents, control: RunControl) -> Done:
        """Run the generator to its end and return the last event; events go to `append` as they come.

        A `Done` that the generator yields is the last event. It is given back when the generator has closed, so that
        whoever sees it finds what the activation held let go.
        """
        done: Done | None = None
        raised: Exception | None = None
        try:
            with plugin_boundary(), self._scope:
                async with _opened(make_events(control)) as events:
                    async for event in events:
                        if isinstance(event, Done):
                            done = event
                            break
                        await self._append(one_line(self._encode(event)))
        except Exception as error:  # noqa: BLE001 - around one activation's call; recorded by the ending
            raised = error
        return self._last_event(done, raised)

    def _last_event(self, done: Done | None, raised: Exception | None) -> Done:
        if raised is not None and (done is not None or not self._is_stop(raised)):
            failed = self._endings.of_exception(raised)
            return failed if done is None else done
        if done is not None:
            return done
        return Done() if self._reason is None else self._endings.of_stop(self._reason)

    def _is_stop(self, raised: Exception) -> bool:
        """Whether an exception is the activation's way to say that it was stopped."""
        return self._reason is not None and isinstance(raised, CallCancelled)

    def request_stop(self, reason: StopReason) -> None:
        """Ask the activation to end: told by its stop handlers it has the grace period, without any it is cancelled.

        Only the first reason counts.
        """
        if self._reason is not None:
            return
        self._reason = reason
        if not self._stop_handlers:
            self._scope.cancel()
            return
        self._scope.deadline = trio.current_time() + self._stop_grace_s
        for handler in self._stop_handlers:
            self._tell(handler, reason)

    def cancel(self, reason: StopReason) -> None:
        """Cancel the activation at once, whatever grace it has left."""
        self._reason = self._reason or reason
        self._scope.cancel()

    def add_stop_handler(self, handler: StopHandler) -> None:
        """Have a handler told of the stop; at once when it has been requested already."""
        self._stop_handlers.append(handler)
        if self._reason is not None:
            self._tell(handler, self._reason)

    def _tell(self, handler: StopHandler, reason: StopReason) -> None:
        try:
            with plugin_boundary():
                handler(reason)
        except Exception as error:  # noqa: BLE001 - an activation's handler; without it there is no graceful way
            self._endings.incident(error)
            self._scope.cancel()

    async def report(self, done: float, total: float | None, message: str | None) -> None:
        """Put a progress event into the run."""
        await self._append(one_line(progress_payload(done, total, message)))
