"""How runs end: from what an activation did, or what was done to it, to its one last event. No I/O here."""

from collections.abc import Callable

import attrs

from clonk_core.errors import (
    CallCancelled,
    CallError,
    DeadlineExceeded,
    Forbidden,
    Internal,
    RateLimited,
    ServerRestarted,
)
from clonk_core.messages import Done, ErrorObject, Outcome, StopReason

Encode = Callable[[object], bytes]
"""Gives the JSON text of an event. Host and wire provide it: this room knows no converter."""


def one_line(payload: bytes) -> bytes:
    """Return the same JSON text as it is kept: without line feeds, in no more memory than it needs.

    Line feeds stand between the events on disk; JSON escapes them inside strings, so that one in the text is white
    space and nothing else. orjson returns even the shortest text in a block of 4 KiB (measured with 3.13), which would
    make the memory of a live run eight times what it holds: hence the copy.
    """
    return payload.replace(b"\n", b" ") if b"\n" in payload else bytes(memoryview(payload))


@attrs.frozen(kw_only=True)
class Ending:
    """The last event of a run, ready to be stored.

    Attributes:
        outcome: What it says.
        payload: Its JSON text, on one line.
    """

    outcome: Outcome
    payload: bytes


@attrs.frozen(kw_only=True)
class Endings:
    """Makes last events.

    Attributes:
        error_object: The error as it appears on the wire.
        incident: Logs an unexpected exception and returns what the caller may know of it.
    """

    error_object: Callable[[CallError], ErrorObject]
    incident: Callable[[Exception], Internal]

    def of_exception(self, error: Exception) -> Done:
        """Return the last event of a run whose activation raised."""
        if not isinstance(error, CallError):
            error = self.incident(error)
        outcome: Outcome = "failed"
        if isinstance(error, DeadlineExceeded | RateLimited):
            outcome = "limited"
        elif isinstance(error, CallCancelled):
            outcome = "cancelled"
        elif isinstance(error, Forbidden):
            outcome = "refused"
        return Done(outcome=outcome, error=self.error_object(error))

    def of_stop(self, reason: StopReason) -> Done:
        """Return the last event of a run that was stopped and said nothing itself."""
        match reason:
            case "limited":
                return self.of_exception(DeadlineExceeded("the run's time was up"))
            case "shutdown":
                return self.of_restart()
            case "reader_gone":
                return self.of_exception(CallCancelled("its reader went away"))
            case "cancelled":
                return self.of_exception(CallCancelled("stopped on request"))

    def of_restart(self) -> Done:
        """Return the last event of a run that the server's own end cut off."""
        return self.of_exception(ServerRestarted("the server ended before the run did; start it again"))

    def encode(self, done: Done, encode: Encode) -> Ending:
        """Return the last event ready to be stored; one that cannot be encoded becomes a failure that can."""
        try:
            return Ending(outcome=done.outcome, payload=one_line(encode(done)))
        except Exception as error:  # noqa: BLE001 - the activation's own `Done` subclass may hold anything
            failed = self.of_exception(error)
            return Ending(outcome=failed.outcome, payload=one_line(encode(failed)))
