"""What the clients over WebSocket and pipes have in common: many calls and streams on one connection.

Events wait in memory until they are read. When a stream's events come faster than they are read, what is over the bound
is dropped and asked for again later (`rpc.resume`), so that a stream that nobody reads holds up no call beside it.
"""

from abc import abstractmethod
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import count
from types import TracebackType
from typing import Any, Final, Protocol, Self

import trio

from clonk_core.client.backoff import RETRIES, Backoff
from clonk_core.client.base import ClientError, ConnectionLost, RemoteError, StreamEvent, arguments
from clonk_core.errors import ParseError
from clonk_core.messages import NOT_GIVEN, ErrorObject, JsonValue
from clonk_core.wire.peer import (
    EventCame,
    Failed,
    FromServer,
    SubscriptionFailed,
    Succeeded,
    parse_from_server,
    request_bytes,
)

MAX_WAITING_BYTES: Final = 16 * 2**20
"""Most that the unread events of one stream may hold, as sent."""


class LinkClosed(Exception):
    """Nothing more comes, or goes."""


class Link(Protocol):
    """One connection, message by message."""

    async def send(self, message: bytes) -> None:
        """Send one message; raises `LinkClosed`."""

    async def receive(self) -> bytes | str:
        """Return the next message; raises `LinkClosed`."""


class DuplexClient:
    """Implements `client.base.Client` on links that a subclass opens. Open it with `async with`.

    Args:
        retries: How often in a row a lost connection is opened again; 0 for never.
    """

    def __init__(self, *, retries: int = RETRIES) -> None:
        self._retries = retries
        self._resources = AsyncExitStack()
        self._connecting = trio.Lock()
        self._session: _Session | None = None
        self._nursery: trio.Nursery
        self._ids = count(1)

    @abstractmethod
    def open_link(self) -> AbstractAsyncContextManager[Link]:
        """Connect.

        Raises:
            ConnectionLost: There is nobody.
            RemoteError: The server refused.
        """

    async def __aenter__(self) -> Self:
        await self._resources.enter_async_context(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._resources.__aexit__(kind, error, traceback)

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[None]:
        failure: BaseException | None = None
        async with trio.open_nursery() as self._nursery:
            try:
                await self.session()
                yield
            except trio.Cancelled:
                raise
            except BaseException as error:  # noqa: BLE001  (raised again below)
                failure = error
            finally:
                self._nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure  # here, so that it is not wrapped into the nursery's group

    async def call(self, method: str, /, *positional: JsonValue, **params: JsonValue) -> Any:
        """Call a plain method; see `Client.call`."""
        return await (await self.session()).ask(method, arguments(positional, params), next(self._ids), None)

    async def notify(self, method: str, /, *positional: JsonValue, **params: JsonValue) -> None:
        """Call a method without wanting an answer; see `Client.notify`."""
        await (await self.session()).send(request_bytes(method, arguments(positional, params), NOT_GIVEN))

    @asynccontextmanager
    async def stream(
        self, method: str, /, *positional: JsonValue, **params: JsonValue
    ) -> AsyncIterator["DuplexStream"]:
        """Call a streaming method; see `Client.stream`.

        Leaving early stops the reading alone: a run that is not durable ends with the connection.
        """
        stream = DuplexStream(self, 0)
        try:
            await stream.begin(method, arguments(positional, params))
            yield stream
        finally:
            stream.leave()

    @asynccontextmanager
    async def resume(self, subscription: str, *, after: int = 0) -> AsyncIterator["DuplexStream"]:
        """Read a kept run; see `Client.resume`."""
        stream = DuplexStream(self, after)
        try:
            await stream.begin("rpc.resume", {"subscription": subscription, "after": after})
            yield stream
        finally:
            stream.leave()

    async def events(self, method: str, /, *positional: JsonValue, **params: JsonValue) -> list[Any]:
        """Call a streaming method and return all its events; see `Client.events`."""
        async with self.stream(method, *positional, **params) as stream:
            return [event.event async for event in stream]

    async def session(self) -> "_Session":
        """Return the open connection, opening one when there is none.

        Raises:
            ConnectionLost: There is nobody.
        """
        async with self._connecting:
            if self._session is None or self._session.is_over:
                if self._session is not None and not self._retries:
                    raise ConnectionLost("the other side is gone")
                self._session = await self._nursery.start(self._serve_session)
            return self._session

    def next_id(self) -> int:
        """Return an id for a request."""
        return next(self._ids)

    @property
    def retries(self) -> int:
        """How often in a row a lost connection is opened again."""
        return self._retries

    async def _serve_session(self, *, task_status: trio.TaskStatus["_Session"]) -> None:
        session: _Session | None = None
        try:
            async with self.open_link() as link:
                session = _Session(link)
                task_status.started(session)
                await session.read()
        except Exception:
            if session is None:
                raise
            # Whoever waits for the session is told by `end`.
        finally:
            if session is not None:
                session.end()


class _Pending:
    """A request that waits for its answer."""

    def __init__(self, size: int, stream: "DuplexStream | None") -> None:
        self.size = size
        self.stream = stream
        self.answer: FromServer | None = None
        self.came = trio.Event()


class _Session:
    """One connection and what waits on it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._pending: dict[object, _Pending] = {}
        self._streams: dict[str, set[DuplexStream]] = {}
        self.is_over = False

    async def ask(self, method: str, params: Any, id_: int, stream: "DuplexStream | None") -> Any:
        """Send a request and return its result; from then on its events go to `stream`."""
        message = request_bytes(method, params, id_)
        pending = self._pending[id_] = _Pending(len(message), stream)
        try:
            if self.is_over:
                raise ConnectionLost("the connection is lost")
            await self.send(message)
            await pending.came.wait()
        finally:
            del self._pending[id_]
        if isinstance(pending.answer, Failed):
            raise RemoteError.of(pending.answer.error)
        if not isinstance(pending.answer, Succeeded):
            raise ConnectionLost("the connection was lost before the answer came")
        return pending.answer.result

    async def send(self, message: bytes) -> None:
        try:
            await self._link.send(message)
        except LinkClosed as error:
            raise ConnectionLost(f"the connection is lost: {error}") from error

    async def read(self) -> None:
        """Hand out what comes until nothing more does."""
        while True:
            try:
                data = await self._link.receive()
            except LinkClosed:
                return
            try:
                messages = parse_from_server(data)
            except ParseError:
                continue  # not for us
            for message in messages:
                self._hand_out(message, len(data))

    def _hand_out(self, message: FromServer, size: int) -> None:
        if isinstance(message, EventCame):
            for stream in self._streams.get(message.subscription, ()):
                stream.push(message, size)
        elif isinstance(message, SubscriptionFailed):
            for stream in self._streams.get(message.subscription, ()):
                stream.fail(message.error)
        else:
            pending = self._pending.get(message.id) if message.id is not None else self._largest()
            if pending is None or pending.came.is_set():
                return
            pending.answer = message
            if pending.stream is not None and isinstance(message, Succeeded):
                # Now, before the events that may follow in the same breath.
                self._streams.setdefault(str(message.result), set()).add(pending.stream)
            pending.came.set()

    def _largest(self) -> _Pending | None:
        """Return the request that an answer without an id must mean: ours are well-formed, but may be too large."""
        waiting = [pending for pending in self._pending.values() if not pending.came.is_set()]
        return max(waiting, key=lambda pending: pending.size, default=None)

    def leave(self, stream: "DuplexStream") -> None:
        """Hand out no more events to `stream`."""
        found = self._streams.get(stream.subscription)
        if found is not None:
            found.discard(stream)
            if not found:
                del self._streams[stream.subscription]

    def end(self) -> None:
        """Tell everybody who waits that nothing more comes."""
        self.is_over = True
        for pending in self._pending.values():
            pending.came.set()
        for stream in {stream for streams in self._streams.values() for stream in streams}:
            stream.cut()
        self._streams.clear()


class DuplexStream:
    """The events of one run; see `base.EventStream`.

    Attributes:
        subscription: The run's id.
    """

    def __init__(self, client: DuplexClient, after: int) -> None:
        self.subscription = ""
        self._client = client
        self._session: _Session | None = None
        self._waiting: deque[tuple[StreamEvent, int]] = deque()
        self._waiting_bytes = 0
        self._last_pushed = after
        self._last_read = after
        self._is_behind = False
        self._was_cut = False
        self._error: ErrorObject | None = None
        self._ended = False
        self._changed = trio.Event()
        self._backoff = Backoff(client.retries)

    async def begin(self, method: str, params: Any) -> None:
        """Send the call and wait for its acknowledgement."""
        self._session = await self._client.session()
        result = await self._session.ask(method, params, self._client.next_id(), self)
        if not isinstance(result, str) or not result.startswith("sub_"):
            raise ClientError("the method does not stream; use `call`")
        self.subscription = result

    # ── from the reading task ────────────────────────────────────────────────

    def push(self, message: EventCame, size: int) -> None:
        """Take an event, or drop it when it is not the next one or when too many wait."""
        if self._is_behind or message.seq <= self._last_pushed:
            return
        if message.seq != self._last_pushed + 1 and not _is_gap(message.result):
            return  # of a reading that was given up, with events in between that were dropped
        if self._waiting and self._waiting_bytes + size > MAX_WAITING_BYTES:
            self._is_behind = True
            return
        self._last_pushed = message.seq
        self._waiting_bytes += size
        self._waiting.append((StreamEvent(message.subscription, message.seq, message.result), size))
        self._change()

    def fail(self, error: ErrorObject) -> None:
        """Take the news that the server cannot give more now."""
        self._error = error
        self._change()

    def cut(self) -> None:
        """Take the news that the connection is lost."""
        self._was_cut = True
        self._change()

    def _change(self) -> None:
        self._changed.set()

    # ── from the reader ──────────────────────────────────────────────────────

    def __aiter__(self) -> "DuplexStream":
        return self

    async def __anext__(self) -> StreamEvent:
        """Return the next event, coming back as often as it takes."""
        while not self._ended:
            if self._waiting:
                event, size = self._waiting.popleft()
                self._waiting_bytes -= size
                self._last_read = event.seq
                self._backoff.succeeded()
                self._ended = event.is_done
                return event
            if self._error is not None:
                raise RemoteError.of(self._error)
            if self._is_behind or self._was_cut:
                await self._come_back()
            else:
                self._changed = trio.Event()
                await self._changed.wait()
        raise StopAsyncIteration

    async def next(self) -> StreamEvent:
        """Return the next event; `StopAsyncIteration` after `done`."""
        return await anext(self)

    def leave(self) -> None:
        """Read no more."""
        self._ended = True
        if self._session is not None:
            self._session.leave(self)

    async def _come_back(self) -> None:
        """Ask for the events after the last one read."""
        if not await self._backoff.wait():
            raise ConnectionLost("the connection was cut, and the server did not come back")
        again = {"subscription": self.subscription, "after": self._last_read}
        # Before the answer, since events may follow it at once.
        self._is_behind = self._was_cut = False
        try:
            await self.begin("rpc.resume", again)
        except ConnectionLost:
            self._was_cut = True
        except RemoteError as error:
            if error.kind == "not_found":
                raise ConnectionLost("the stream was cut, and the server has not kept the run") from error
            if error.kind != "unavailable":
                raise
            self._was_cut = True


def _is_gap(event: Any) -> bool:
    return isinstance(event, dict) and event.get("type") == "gap"
