"""A small HTTP/1.1 server for one connection, on trio and h11. Knows nothing of the Messages API."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import h11
import trio

# A request with a long conversation and pictures; the real API refuses above 32 MB.
MAX_BODY_BYTES = 64 * 1024 * 1024
_READ_BYTES = 256 * 1024


@attrs.frozen(kw_only=True)
class HttpRequest:
    """Method, target with query, headers with names in lower case, and the whole body."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class ConnectionCut(Exception):
    """Raised by a handler to close the connection at once, in the middle of an answer or before it."""


class Responder:
    """Sends the one answer to one request: `start`, any number of `send`, and the server ends it."""

    def __init__(self, connection: h11.Connection, stream: trio.SocketStream, *, head: bool) -> None:
        self._connection = connection
        self._stream = stream
        self._head = head

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send status and headers; the body follows in chunks unless a length is given."""
        await self._send(h11.Response(status_code=status, headers=list(headers.items())))

    async def send(self, body: bytes) -> None:
        """Send a part of the body."""
        await self._send(h11.Data(data=body))

    async def send_json(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer."""
        body = json.dumps(value).encode()
        basic = {"content-type": "application/json", "content-length": str(len(body))}
        await self.start(status, basic | dict(headers or {}))
        if not self._head:
            await self.send(body)

    async def finish(self) -> None:
        """End the body."""
        await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> None:
        out = self._connection.send(event)
        if out:
            await self._stream.send_all(out)


Handler = Callable[[HttpRequest, Responder], Awaitable[None]]


async def serve_connection(stream: trio.SocketStream, handler: Handler) -> None:
    """Answer the requests of one connection until either side is done with it.

    A client that goes away in the middle of an answer cancels the handler.
    """
    connection = h11.Connection(h11.SERVER)
    try:
        while await _serve_request(connection, stream, handler):
            connection.start_next_cycle()
    except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError, ConnectionCut):
        pass  # A broken, misbehaving or deliberately cut connection concerns no other one.
    finally:
        await trio.aclose_forcefully(stream)


async def _serve_request(connection: h11.Connection, stream: trio.SocketStream, handler: Handler) -> bool:
    """Serve one request; return whether another may follow on this connection."""
    request = await _read_request(connection, stream)
    if request is None:
        return False
    responder = Responder(connection, stream, head=request.method == "HEAD")
    gone = await _run_handler(connection, stream, handler, request, responder)
    if gone:
        return False
    await responder.finish()
    return connection.our_state is h11.DONE and connection.their_state is h11.DONE


async def _run_handler(
    connection: h11.Connection, stream: trio.SocketStream, handler: Handler, request: HttpRequest, responder: Responder
) -> bool:
    """Run the handler while watching for the client's going; return whether it went."""
    gone = False
    cut: ConnectionCut | trio.BrokenResourceError | None = None
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            nonlocal gone
            try:
                while received := await stream.receive_some(_READ_BYTES):
                    connection.receive_data(received)
            except trio.BrokenResourceError:
                pass  # A reset is a going, too.
            gone = True
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        try:
            await handler(request, responder)
        except (ConnectionCut, trio.BrokenResourceError) as error:
            cut = error  # Raised again outside, so that no exception group leaves the nursery.
        nursery.cancel_scope.cancel()
    if cut is not None:
        raise cut
    return gone


async def _read_request(connection: h11.Connection, stream: trio.SocketStream) -> HttpRequest | None:
    """Read one request, body and all; None at the orderly end of the connection."""
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                await stream.send_all(connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            connection.receive_data(await stream.receive_some(_READ_BYTES))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY_BYTES:
                raise ConnectionCut
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = {name.decode("ascii").lower(): value.decode("latin-1") for name, value in head.headers}
            return HttpRequest(
                method=head.method.decode("ascii"),
                path=head.target.decode("latin-1"),
                headers=headers,
                body=bytes(body),
            )
        else:
            return None
