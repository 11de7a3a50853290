"""A run as an HTTP answer: server-sent events while it goes on, or one JSON document at its end."""

from typing import Final

import trio

from clonk_core.errors import CallError, TooLarge
from clonk_core.interfaces.door import Connection
from clonk_core.interfaces.runs import Following
from clonk_core.transports.doorway import Doorway
from clonk_core.transports.exchange import Exchange
from clonk_core.wire.jsonrpc import reply_bytes
from clonk_core.wire.sse import KEEP_ALIVE, SubscriptionWriter, comment_bytes, event_bytes, retry_bytes

MAX_JSON_BYTES: Final = 64 * 2**20
"""Most that the events of one JSON answer may hold together, since they wait in memory; a stream has no such limit."""

_RETRY_MS: Final = 1000
"""When a client that was cut off is asked to come back."""

_STREAM_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # a proxy must not wait for more
]


async def answer_as_stream(
    exchange: Exchange,
    doorway: Doorway,
    following: Following,
    first: bytes,
    *,
    writer: SubscriptionWriter,
    keep_alive_s: float,
    connection: Connection,
) -> None:
    """Send the run's events as they come, each batch in one write, until its end or the client's.

    Args:
        exchange: The request being answered.
        doorway: How the run is followed.
        following: What to follow.
        first: Message before the events; none when empty.
        writer: Writes the run's events; shared by its readers, which with 20 of them saves a seventh of the CPU time.
        keep_alive_s: A quiet stream gets a comment every so many seconds.
        connection: Whose credential lets it read: when that ends, so does the stream.

    Raises:
        CallError: The run cannot be read; nothing has been sent yet.
    """
    async with doorway.follow(following) as batches:
        stream = _EventStream(exchange, keep_alive_s)
        await stream.begin(retry_bytes(_RETRY_MS) + (event_bytes(first) if first else b""))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.leave_with_client, nursery.cancel_scope)
            nursery.start_soon(stream.keep_alive)
            nursery.start_soon(stream.leave_with_credential, nursery.cancel_scope, doorway, connection)
            try:
                async for events in batches:
                    await stream.write(writer.batch(events))
            except CallError as error:
                await stream.write(event_bytes(writer.frames.error(error)))
            nursery.cancel_scope.cancel()
    if not stream.left:
        await stream.end()


async def answer_as_json(exchange: Exchange, doorway: Doorway, following: Following, id_: object) -> None:
    """Wait for the run's end and send its events as one document; nothing when the client leaves before.

    Raises:
        CallError: The run cannot be read, or its events are too many for one answer.
    """
    payloads: list[bytes] = []
    size = 0
    failure: CallError | None = None
    async with doorway.follow(following) as batches:
        stream = _EventStream(exchange, 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.leave_with_client, nursery.cancel_scope)
            try:
                async for events in batches:
                    payloads.extend(event.payload for event in events)
                    size += sum(len(event.payload) for event in events)
                    if size > MAX_JSON_BYTES:
                        raise _too_large(following)
            except CallError as error:
                failure = error
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if not stream.left:
        events_json = b",".join(payloads)
        result = b'{"subscription":"%b","events":[%b]}' % (following.run.id.encode(), events_json)
        await exchange.answer_json(200, reply_bytes(id_, result))


class _EventStream:
    """The answer's body, written by the one who follows and by the one who keeps the connection alive.

    Attributes:
        left: Whether the client has gone.
    """

    def __init__(self, exchange: Exchange, keep_alive_s: float) -> None:
        self._exchange = exchange
        self._keep_alive_s = keep_alive_s
        self._lock = trio.Lock()
        self._written_s = trio.current_time()
        self.left = False

    async def begin(self, body: bytes) -> None:
        await self._exchange.send(
            {"type": "http.response.start", "status": 200, "headers": [*_STREAM_HEADERS, *self._exchange.added]}
        )
        await self.write(body)

    async def write(self, body: bytes) -> None:
        async with self._lock:
            await self._exchange.send({"type": "http.response.body", "body": body, "more_body": True})
            self._written_s = trio.current_time()

    async def end(self) -> None:
        await self._exchange.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def leave_with_client(self, scope: trio.CancelScope) -> None:
        """Cancel `scope` when the client has gone."""
        await self._exchange.wait_disconnected()
        self.left = True
        scope.cancel()

    async def leave_with_credential(self, scope: trio.CancelScope, doorway: Doorway, connection: Connection) -> None:
        """Cancel `scope` when the reader may read no more, after a comment that says why."""
        reason = await doorway.dispatch.wait_over(connection)
        await self.write(comment_bytes(reason))
        scope.cancel()

    async def keep_alive(self) -> None:
        """Write a comment whenever the stream has been quiet."""
        while True:
            await trio.sleep_until(self._written_s + self._keep_alive_s)
            if trio.current_time() >= self._written_s + self._keep_alive_s:
                await self.write(KEEP_ALIVE)


def _too_large(following: Following) -> TooLarge:
    return TooLarge(
        "the events are too many for one JSON answer; take them as a stream (`Accept: text/event-stream`), with "
        "rpc.resume if the run is kept",
        limit=MAX_JSON_BYTES,
        subscription=following.run.id,
    )
