"""A client over HTTP; streams are server-sent events and come back with `Last-Event-ID`."""

import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

import trio

from clonk_core.client.backoff import RETRIES, Backoff
from clonk_core.client.base import ClientError, ConnectionLost, RemoteError, StreamEvent, arguments
from clonk_core.errors import ParseError
from clonk_core.messages import NOT_GIVEN, JsonValue
from clonk_core.wire.peer import (
    EventCame,
    Failed,
    FromServer,
    SubscriptionFailed,
    Succeeded,
    parse_from_server,
    request_bytes,
)
from clonk_core.wire.sse import Decoder

if TYPE_CHECKING:
    import httpx

_CONNECT_S: Final = 10.0
_SILENCE_S: Final = 60.0
"""A stream that is silent for longer is cut: the server writes a comment every 15 s."""

_CLOSE_S: Final = 2.0
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class HttpClient:
    """Implements `client.base.Client`. Open it with `async with`.

    Args:
        url: Where the server is: `http://127.0.0.1:4445`, with or without `/mcp`.
        api_key: Sent as `Authorization: Bearer`.
        retries: How often in a row a cut stream comes back before it gives up.
        ssl_context: Which certificates are believed at an `https` address. Without it the system's authorities, or
            those that the environment variables SSL_CERT_FILE and SSL_CERT_DIR name.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        retries: int = RETRIES,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url.rstrip("/").removesuffix("/mcp") + "/mcp"
        self._api_key = api_key
        self._retries = retries
        self._ssl_context = ssl_context
        self._resources = AsyncExitStack()
        self._http: httpx.AsyncClient

    async def __aenter__(self) -> Self:
        # Here, because it takes 150 ms and a program that never calls need not pay.
        import httpx

        try:
            url = httpx.URL(self._url)
        except httpx.InvalidURL as error:
            raise ConnectionLost(f"{self._url} is no address: {error}") from error
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key}"
        # httpx has a list of its own, and reads the environment only together with the proxies in it.
        secured = url.scheme == "https"
        client = httpx.AsyncClient(
            headers=headers,
            verify=(self._ssl_context or ssl.create_default_context()) if secured else True,
            timeout=httpx.Timeout(connect=_CONNECT_S, read=None, write=None, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),
            trust_env=url.host not in _LOOPBACK,  # no proxy reaches our own machine
        )
        self._http = await self._resources.enter_async_context(client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_S):
            await self._resources.aclose()

    async def call(self, method: str, /, *positional: JsonValue, **params: JsonValue) -> Any:
        """Call a plain method; see `Client.call`."""
        import httpx

        content = request_bytes(method, arguments(positional, params), 1)
        try:
            response = await self._http.post(self._url, content=content, headers={"Accept": "application/json"})
        except httpx.TransportError as error:
            raise self._lost(error) from error
        return _result(response.content, response.status_code)

    async def notify(self, method: str, /, *positional: JsonValue, **params: JsonValue) -> None:
        """Call a method without wanting an answer; see `Client.notify`."""
        import httpx

        content = request_bytes(method, arguments(positional, params), NOT_GIVEN)
        try:
            await self._http.post(self._url, content=content)
        except httpx.TransportError as error:
            raise self._lost(error) from error

    @asynccontextmanager
    async def stream(self, method: str, /, *positional: JsonValue, **params: JsonValue) -> AsyncIterator["HttpStream"]:
        """Call a streaming method; see `Client.stream`."""
        stream = HttpStream(self)
        try:
            await stream.begin(request_bytes(method, arguments(positional, params), 1))
            yield stream
        finally:
            await stream.leave()

    @asynccontextmanager
    async def resume(self, subscription: str, *, after: int = 0) -> AsyncIterator["HttpStream"]:
        """Read a kept run; see `Client.resume`."""
        stream = HttpStream(self, subscription, after)
        try:
            await stream.begin(None)
            yield stream
        finally:
            await stream.leave()

    async def events(self, method: str, /, *positional: JsonValue, **params: JsonValue) -> list[Any]:
        """Call a streaming method and return all its events; see `Client.events`."""
        async with self.stream(method, *positional, **params) as stream:
            return [event.event async for event in stream]

    async def _open(self, content: bytes | None, last_event_id: str) -> "httpx.Response":
        """Send a request whose answer may be a stream."""
        import httpx

        timeout = httpx.Timeout(connect=_CONNECT_S, read=_SILENCE_S, write=None, pool=None)
        if content is None:
            request = self._http.build_request(
                "GET", self._url, headers={"Last-Event-ID": last_event_id}, timeout=timeout
            )
        else:
            request = self._http.build_request("POST", self._url, content=content, timeout=timeout)
        return await self._http.send(request, stream=True)

    def _lost(self, error: Exception) -> ConnectionLost:
        text, below = "", cast("BaseException | None", error)
        while below is not None and not text:  # httpx leaves the telling to what is below, and hides that
            text, below = str(below), below.__cause__ or below.__context__
        return ConnectionLost(f"no answer from {self._url}: {text or type(error).__name__}")


class HttpStream:
    """The events of one run over HTTP; see `base.EventStream`.

    Attributes:
        subscription: The run's id.
    """

    def __init__(self, client: HttpClient, subscription: str = "", after: int = 0) -> None:
        self.subscription = subscription
        self._client = client
        self._last_seq = after
        self._backoff = Backoff(client._retries)  # noqa: SLF001
        self._ready: deque[FromServer] = deque()
        self._response: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None
        self._decoder = Decoder()
        self._was_cut = False
        self._ended = False

    async def begin(self, content: bytes | None) -> None:
        """Send the call, or come back to the run when there is none, and wait for the answer's head."""
        import httpx

        try:
            await self._connect(content)
            if content is not None and not self._ended:
                first = await self._message()
                if not isinstance(first, Succeeded):
                    raise ClientError("the server's stream does not begin with its subscription")
                self.subscription = str(first.result)
        except (httpx.TransportError, EOFError) as error:
            raise self._client._lost(error) from error  # noqa: SLF001

    def __aiter__(self) -> "HttpStream":
        return self

    async def __anext__(self) -> StreamEvent:
        """Return the next event, coming back as often as it takes."""
        import httpx

        while not self._ended:
            try:
                if self._pieces is None:
                    await self._connect(None)
                    continue
                message = await self._message()
            except (httpx.TransportError, EOFError) as error:
                self._was_cut = True
                await self._leave_response()
                if not await self._backoff.wait():
                    raise self._client._lost(error) from error  # noqa: SLF001
                continue
            if isinstance(message, SubscriptionFailed):
                raise RemoteError.of(message.error)
            if isinstance(message, EventCame) and message.seq > self._last_seq:
                self._backoff.succeeded()
                self._last_seq = message.seq
                event = StreamEvent(self.subscription, message.seq, message.result)
                self._ended = event.is_done
                return event
        raise StopAsyncIteration

    async def next(self) -> StreamEvent:
        """Return the next event; `StopAsyncIteration` after `done`."""
        return await anext(self)

    async def leave(self) -> None:
        """Let go of the connection."""
        self._ended = True
        await self._leave_response()

    async def _connect(self, content: bytes | None) -> None:
        """Open the answer's stream.

        Raises:
            RemoteError: The answer is an error.
            ConnectionLost: The run was cut and is not kept.
            EOFError: The run was cut and the server is not ready yet; come back later.
        """
        response = await self._client._open(content, f"{self.subscription}/{self._last_seq}")  # noqa: SLF001
        if response.status_code == 204:
            await response.aclose()
            self._ended = True
            return
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            body = await response.aread()
            await response.aclose()
            try:
                _result(body, response.status_code)
            except RemoteError as error:
                if self._was_cut and error.kind == "unavailable":
                    raise EOFError(error.message) from error
                if self._was_cut and error.kind == "not_found":
                    raise ConnectionLost("the connection was cut, and the server has not kept the run") from error
                raise
            raise ClientError("the method does not stream; use `call`")
        self._response, self._pieces, self._decoder = response, response.aiter_raw(), Decoder()

    async def _message(self) -> FromServer:
        """Return the next message of the stream.

        Raises:
            EOFError: The stream has ended.
        """
        assert self._pieces is not None  # noqa: S101  (connected)
        while not self._ready:
            try:
                piece = await anext(self._pieces)
            except StopAsyncIteration:
                self._pieces = None
                raise EOFError("the stream was cut") from None
            for event in self._decoder.feed(piece):
                self._ready.extend(parse_from_server(event.data.encode()))
        return self._ready.popleft()

    async def _leave_response(self) -> None:
        import httpx

        pieces, response = self._pieces, self._response
        self._pieces = self._response = None
        self._ready.clear()
        if pieces is not None:
            # End the generators within httpx where they wait; left alone they would be found by the garbage collector.
            with trio.CancelScope() as scope, suppress(httpx.HTTPError, httpx.StreamError):
                scope.cancel()
                async for _ in pieces:
                    pass
        if response is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_S), suppress(httpx.HTTPError):
                await response.aclose()


def _result(body: bytes, status: int) -> Any:
    """Return the result of a plain answer.

    Raises:
        RemoteError: It is an error.
        ClientError: It is no answer of ours, but perhaps a proxy's.
    """
    try:
        answers = parse_from_server(body)
    except ParseError as error:
        raise ClientError(f"the answer (HTTP status {status}) is not Clonk's: {error.message}") from error
    answer = answers[0] if answers else None
    if isinstance(answer, Failed):
        raise RemoteError.of(answer.error)
    if not isinstance(answer, Succeeded):
        raise ClientError(f"the answer (HTTP status {status}) is not Clonk's")
    return answer.result
