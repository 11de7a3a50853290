"""What every client offers, whatever it is connected by, and how it fails."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import attrs

from clonk_core.errors import ClonkError
from clonk_core.messages import ErrorObject, JsonValue


class ClientError(ClonkError):
    """A call came to nothing; base of what clients raise."""


class RemoteError(ClientError):
    """The server answered with an error.

    Attributes:
        code: Number from the table of errors.
        kind: Stable name that programs act on.
        message: One sentence for a person.
        data: What belongs to it, without `kind`.
    """

    def __init__(self, code: int, kind: str, message: str, data: Mapping[str, JsonValue]) -> None:
        super().__init__(message)
        self.code = code
        self.kind = kind
        self.message = message
        self.data = dict(data)

    @classmethod
    def of(cls, error: ErrorObject) -> "RemoteError":
        """Return the exception for an error object as it came."""
        data = {name: value for name, value in error.data.items() if name != "kind"}
        return cls(error.code, str(error.data.get("kind", "")), error.message, data)


class ConnectionLost(ClientError):
    """There is no server, or it is gone, and coming back did not help. Whether a call was worked is not known."""


@attrs.frozen
class StreamEvent:
    """One event of a run. Unpacks as `seq, event`.

    Attributes:
        subscription: The run.
        seq: Its number, from 1 without holes (a `gap` event has the number of the last one dropped).
        event: What happened: a JSON object with a `type`.
    """

    subscription: str
    seq: int
    event: Any

    def __iter__(self) -> Iterator[Any]:
        return iter((self.seq, self.event))

    @property
    def is_done(self) -> bool:
        """Whether it is the last one."""
        return isinstance(self.event, dict) and self.event.get("type") == "done"


class EventStream(Protocol):
    """The events of one run, `done` last. Read by one task; leaving early is always allowed."""

    @property
    def subscription(self) -> str:
        """The run's id."""

    def __aiter__(self) -> AsyncIterator[StreamEvent]:
        """Iterate over the events.

        Raises:
            RemoteError: The server cannot give more of it now.
            ConnectionLost: The server is gone and did not come back.
        """

    async def next(self) -> StreamEvent:
        """Return the next event; `StopAsyncIteration` after `done`."""


class Client(Protocol):
    """Calls methods of a server. Arguments are JSON values, named or positional."""

    async def call(self, method: str, /, *positional: JsonValue, **params: JsonValue) -> Any:
        """Call a plain method and return its result.

        Raises:
            RemoteError: What it answered.
            ConnectionLost: There was no answer.
        """

    async def notify(self, method: str, /, *positional: JsonValue, **params: JsonValue) -> None:
        """Call a method without wanting an answer."""

    def stream(
        self, method: str, /, *positional: JsonValue, **params: JsonValue
    ) -> AbstractAsyncContextManager[EventStream]:
        """Call a streaming method and read its events. A cut connection is taken up again without loss or repetition.

        Raises:
            RemoteError: What it answered instead of starting.
            ConnectionLost: There was no answer.
        """

    def resume(self, subscription: str, *, after: int = 0) -> AbstractAsyncContextManager[EventStream]:
        """Read a kept run after event number `after`."""

    async def events(self, method: str, /, *positional: JsonValue, **params: JsonValue) -> list[Any]:
        """Call a streaming method and return all its events."""


def arguments(positional: Sequence[JsonValue], params: Mapping[str, JsonValue]) -> Any:
    """Return what goes out as `params`.

    Raises:
        TypeError: Both kinds were given; JSON-RPC takes one.
    """
    if positional and params:
        raise TypeError("give arguments by position or by name, not both")
    return list(positional) if positional else dict(params)
