"""A client that calls through the whole gateway of a host in the same process, without a socket."""

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson

from clonk_core.interfaces.door import Connection, Dispatch
from clonk_core.interfaces.runs import Following
from clonk_core.messages import Event, JsonValue, Request


class InsideClient:
    """Calls methods as a remote client does: JSON in, JSON out, errors as `CallError`.

    Args:
        dispatch: The door of a host.
        connection: Who calls.
    """

    def __init__(self, dispatch: Dispatch, connection: Connection) -> None:
        self._dispatch = dispatch
        self.connection = connection

    async def call(self, method: str, /, *positional: JsonValue, **params: JsonValue) -> Any:
        """Call a plain method and return its result.

        Raises:
            CallError: What it answered.
        """
        answer = await self._ask(method, positional, params)
        if isinstance(answer, Following):
            await answer.run.stop("cancelled")
            raise TypeError(f"{method} streams; use `stream`")
        return orjson.loads(answer.result)

    @asynccontextmanager
    async def stream(
        self, method: str, /, *positional: JsonValue, **params: JsonValue
    ) -> AsyncIterator["InsideStream"]:
        """Call a streaming method and read its events, `done` included.

        Raises:
            CallError: What it answered before it began.
        """
        answer = await self._ask(method, positional, params)
        if not isinstance(answer, Following):
            raise TypeError(f"{method} does not stream; use `call`")
        async with answer.run.follow(answer.after) as batches:
            yield InsideStream(answer.run.id, batches)

    async def events(self, method: str, /, *positional: JsonValue, **params: JsonValue) -> list[Any]:
        """Call a streaming method and return all its events."""
        async with self.stream(method, *positional, **params) as stream:
            return [event async for _seq, event in stream]

    async def _ask(self, method: str, positional: tuple[JsonValue, ...], params: dict[str, JsonValue]) -> Any:
        arguments: Any = list(positional) if positional else params
        # Through JSON, so that a test cannot hand over what no client could send.
        arguments = orjson.loads(orjson.dumps(arguments))
        return await self._dispatch(Request(method=method, params=arguments, id=1), self.connection)


class InsideStream:
    """The events of one run, each with its number. Not a generator: a reader may stop anywhere.

    Attributes:
        subscription: The run's id.
    """

    def __init__(self, subscription: str, batches: AsyncIterator[Sequence[Event]]) -> None:
        self.subscription = subscription
        self._batches = batches
        self._ready: deque[Event] = deque()

    def __aiter__(self) -> "InsideStream":
        return self

    async def __anext__(self) -> tuple[int, Any]:
        while not self._ready:
            self._ready.extend(await anext(self._batches))
        event = self._ready.popleft()
        return event.seq, orjson.loads(event.payload)

    async def next(self) -> tuple[int, Any]:
        """Return the next event and its number."""
        return await anext(self)
