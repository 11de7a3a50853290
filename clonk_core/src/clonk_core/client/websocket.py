"""A client over WebSocket; a cut stream comes back on a new connection with `rpc.resume`."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import trio

from clonk_core.client.backoff import RETRIES
from clonk_core.client.base import ConnectionLost, RemoteError
from clonk_core.client.duplex import DuplexClient, Link, LinkClosed
from clonk_core.errors import ParseError
from clonk_core.wire.peer import Failed, parse_from_server

_CONNECT_S: Final = 10.0
_CLOSE_S: Final = 1.0
_MAY_NOT: Final = frozenset({401, 403})
_MAX_MESSAGE_BYTES: Final = 256 * 2**20
"""Results have no limit of their own; memory has."""


class HandshakeRefused(Exception):
    """The server did not answer the handshake."""


class WebSocketClient(DuplexClient):
    """Implements `client.base.Client` over WebSocket. Open it with `async with`.

    Args:
        url: Where the server is: `ws://127.0.0.1:4444/ws`.
        api_key: Sent as `Authorization: Bearer` with the handshake.
        retries: How often in a row a lost connection is opened again.
        ssl_context: Which certificates are believed at a `wss` address. Without it the system's authorities, or those
            that the environment variables SSL_CERT_FILE and SSL_CERT_DIR name.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        retries: int = RETRIES,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(retries=retries)
        self._url = url
        self._ssl_context = ssl_context
        self._headers = [(b"Authorization", f"Bearer {api_key}".encode())] if api_key is not None else []

    @asynccontextmanager
    async def open_link(self) -> AsyncIterator[Link]:
        """Connect; see `DuplexClient.open_link`."""
        from trio_websocket import ConnectionRejected, HandshakeError

        stream, host, resource = await self._open_stream()
        refused: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(_CONNECT_S):
                    socket = await self._shake_hands(nursery, stream, host, resource)
                yield _SocketLink(socket, stream)
                with trio.move_on_after(_CLOSE_S):
                    await socket.aclose()
                nursery.cancel_scope.cancel()
        except* (HandshakeError, HandshakeRefused, trio.TooSlowError) as group:
            refused = group
            while isinstance(refused, BaseExceptionGroup):
                refused = refused.exceptions[0]
        finally:
            # The library leaves its socket open when the server refuses or closes first.
            await trio.aclose_forcefully(stream)
        if isinstance(refused, ConnectionRejected):
            otherwise = f"{self._url} takes no WebSocket: HTTP status {refused.status_code}"
            raise _refusal(refused.status_code, refused.body, otherwise) from refused
        if refused is not None:
            raise ConnectionLost(f"{self._url} takes no WebSocket: {refused!r}") from refused

    async def _shake_hands(self, nursery: trio.Nursery, stream: Any, host: str, resource: str) -> Any:
        """Return the open connection, which the nursery reads.

        The library's own function waits on when the server closes instead of answering.
        """
        from trio_websocket import WebSocketConnection
        from wsproto import ConnectionType, WSConnection

        socket = WebSocketConnection(
            stream,
            WSConnection(ConnectionType.CLIENT),
            host=host,
            path=resource,
            client_extra_headers=self._headers,
            message_queue_size=64,
            max_message_size=_MAX_MESSAGE_BYTES,
            receive_buffer_size=64 * 1024,
        )
        opened = socket._open_handshake  # noqa: SLF001

        async def read() -> None:
            await socket._reader_task()  # noqa: SLF001
            opened.set()

        nursery.start_soon(read)
        await opened.wait()
        if socket.closed is not None:
            raise HandshakeRefused("the server closed the connection")
        return socket

    async def _open_stream(self) -> tuple[Any, str, str]:
        """Return the open stream, the value of `Host` and the path."""
        try:
            parts = urlsplit(self._url)
            port = parts.port
        except ValueError as error:
            raise ConnectionLost(f"{self._url} is no address: {error}") from error
        if parts.scheme not in {"ws", "wss"} or not parts.hostname:
            raise ConnectionLost(f"{self._url} is no address; give one such as ws://127.0.0.1:4444/ws")
        secure = parts.scheme == "wss"
        resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            with trio.fail_after(_CONNECT_S):
                stream: Any = await trio.open_tcp_stream(parts.hostname, port or (443 if secure else 80))
                if secure:
                    stream = await self._encrypt(stream, parts.hostname)
        except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
            raise ConnectionLost(f"no answer from {self._url}: {error.__cause__ or error}") from error
        return stream, parts.netloc.rpartition("@")[2], resource

    async def _encrypt(self, stream: trio.SocketStream, hostname: str) -> "trio.SSLStream[trio.SocketStream]":
        context = self._ssl_context or ssl.create_default_context()
        secured = trio.SSLStream(stream, context, server_hostname=hostname, https_compatible=True)
        try:
            await secured.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured


def _refusal(status: int, body: bytes | None, otherwise: str) -> ConnectionLost | RemoteError:
    """Return the error of a handshake that was refused: the server's own where the caller may not come in.

    Anything else may be a proxy's, or passes: there is no server at this address now.
    """
    if status not in _MAY_NOT:
        return ConnectionLost(otherwise)
    try:
        answers = parse_from_server(body or b"")
    except ParseError:
        return ConnectionLost(otherwise)
    failed = next((answer for answer in answers if isinstance(answer, Failed)), None)
    return ConnectionLost(otherwise) if failed is None else RemoteError.of(failed.error)


class _SocketLink:
    """One WebSocket connection."""

    def __init__(self, socket: Any, stream: trio.abc.AsyncResource) -> None:
        self._socket = socket
        self._stream = stream
        self._sending = trio.StrictFIFOLock()
        self._torn = False

    async def send(self, message: bytes) -> None:
        from trio_websocket import ConnectionClosed

        async with self._sending:
            if self._torn:
                raise LinkClosed("a message was cut off")
            self._torn = True
            try:
                await self._socket.send_message(message.decode())
                self._torn = False
            except ConnectionClosed as error:
                raise LinkClosed(str(error)) from error
            finally:
                if self._torn:  # half a message may be out: nothing can follow it
                    await trio.aclose_forcefully(self._stream)

    async def receive(self) -> bytes | str:
        from trio_websocket import ConnectionClosed

        try:
            message: bytes | str = await self._socket.get_message()
        except ConnectionClosed as error:
            raise LinkClosed(str(error)) from error
        return message
