"""Hypercorn on trio with its faults mended, all of them here. Each has a test; drop a mend when upstream has it.

1. A connection is never closed when the application is cancelled by the disconnect that its own last message causes, as
   every quart-trio application is (hypercorn issue 330): `Connection: close` and HTTP/1.0 give no end of file. The last
   message of a response is shielded.
2. A reader that stalls holds `send_all` for ever, in a shield, and with it the shutdown. Every send has a limit and can
   be cut off.
3. A request's body that the application does not read fills its queue; then the last message of the response waits for
   room in the queue of the very task that sends it. What nobody will read is dropped.
4. A connection closed with unread data is reset by the kernel, and the client may lose the answer that it was sent
   (413 for a body that is too large). The end is sent, that of TLS too, then what still comes is thrown away for a
   moment.
5. An exception in one connection ends the whole server. It is logged, and ends that connection.
6. Pipelined requests behind the last answer of a connection leave its task waiting for ever. The moment of 4 ends it.
7. Every request starts and stops a task that watches for idleness, and every answer goes out in two writes. The limit
   of the reading is moved instead, and the head waits for the body: a fifth of the CPU time of a small call.
8. A client that offers HTTP/2 beside (`Upgrade: h2c`, as Java's and curl's do) is promised it and then cut off; so is
   one that begins with it. The offer is passed over, as a server may (RFC 9110, section 7.8).

Written for hypercorn 0.18, HTTP/1.
"""

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import attrs
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup, _handle
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from clonk_core.interfaces.host import Log
from clonk_core.metrics import Metrics
from clonk_core.transports.strangers import Strangers
from clonk_core.transports.tls import Stream, send_end, transport_of

ASGIApp = Callable[[Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]
"""An ASGI 3 application."""

_LINGER_S: Final = 2.0
"""How long a client may take to notice that the connection is over."""

_LINGER_BYTES: Final = 64 * 2**20
"""At most this much is thrown away after the last answer."""

_SEND_CHUNK_BYTES: Final = 64 * 1024
"""The limit of time counts for each piece, so that a slow reader is not a stalled one."""


@attrs.frozen(kw_only=True)
class Limits:
    """Limits of one connection.

    Attributes:
        send_timeout_s: A reader that takes no 64 KiB in this time has stalled and is dropped.
        idle_timeout_s: A connection without a request, or with half a request line, is closed after this time.
        header_bytes: Largest size of a request line with its headers.
    """

    send_timeout_s: float = 30.0
    idle_timeout_s: float = 75.0
    header_bytes: int = 32 * 1024


class MendedTaskGroup(TaskGroup):
    """Runs the application for one request; mends 1, 3 and, with its server's help, 7.

    Args:
        hold: Keep back what is sent from now on.
        let_go: Write what was kept back.
    """

    def __init__(self, hold: Callable[[], None], let_go: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self.hold = hold
        self.let_go = let_go

    async def spawn_app(
        self,
        app: Any,
        config: Config,
        scope: Any,
        send: Callable[[Any], Awaitable[None]],
    ) -> Callable[[Any], Awaitable[None]]:
        """Start the application and return the function that gives it what comes in."""
        sender, receiver = trio.open_memory_channel[Any](config.max_app_queue_size)
        disconnect = f"{scope['type']}.disconnect"

        async def receive() -> Any:
            try:
                return await receiver.receive()
            except trio.EndOfChannel:
                return {"type": disconnect}

        async def put(message: Any) -> None:
            if message["type"] == disconnect:
                sender.close()
                return
            # Closed when the application has ended, or the client has gone.
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await sender.send(message)

        async def send_mended(message: Any) -> None:
            if message is not None and message["type"] == "http.response.start":
                self.hold()
                await send(message)
            else:
                with trio.CancelScope(shield=_is_last(message)):
                    await send(message)
                    await self.let_go()

        async def run() -> None:
            with receiver:
                await _handle(app, config, scope, receive, send_mended, trio.to_thread.run_sync, trio.from_thread.run)

        assert self._nursery is not None  # noqa: S101  (entered by the server below)
        self._nursery.start_soon(run)
        return put


def _is_last(message: Any) -> bool:
    """Tell whether this message ends the response; it then also closes or recycles the connection."""
    return message is None or (message["type"] == "http.response.body" and not message.get("more_body", False))


class MendedProtocol(H11Protocol):
    """HTTP/1 and nothing else; mend 8."""

    async def _check_protocol(self, event: Any) -> None:
        """Change to no other protocol."""


class MendedServer(TCPServer):
    """One connection; mends 2, 4, 5, 6 and 7."""

    is_stranger = True
    """Whenever it is counted as one: HTTP says who calls with each request."""

    def __init__(
        self,
        app: Any,
        config: Config,
        context: WorkerContext,
        state: ConnectionState,
        stream: Stream,
        limits: Limits,
        strangers: Strangers,
        log: Log,
        metrics: Metrics,
    ) -> None:
        super().__init__(app, config, context, state, stream)  # type: ignore[arg-type]
        self._log = log
        self._metrics = metrics
        self._stream = stream
        self._transport = transport_of(stream)
        self._limits = limits
        self._strangers = strangers
        self._sending: trio.CancelScope | None = None
        self._reading = trio.CancelScope()
        self._idle = True
        self._over = False
        self._held: list[bytes] | None = None

    def abort(self) -> None:
        """Cut a send that is under way; the connection ends with it."""
        if self._sending is not None:
            self._sending.cancel()

    def close_if_idle(self) -> None:
        """End the connection unless a request is being worked on."""
        if self._idle:
            self._reading.cancel()

    def leave(self) -> None:
        """Make room; an answer that is being written is written to its end."""
        self._reading.cancel()

    async def run(self) -> None:
        """Serve the connection to its end; nothing but `Cancelled` comes out."""
        try:
            socket = self._transport.socket
            client = parse_socket_addr(socket.family, socket.getpeername())
            server = parse_socket_addr(socket.family, socket.getsockname())
            async with MendedTaskGroup(self._hold, self._let_go) as task_group:
                self._task_group = task_group
                self.protocol = MendedProtocol(  # type: ignore[assignment]
                    self.app,
                    self.config,
                    self.context,
                    task_group,
                    ConnectionState(self.state),
                    isinstance(self._stream, trio.SSLStream),
                    client,
                    server,
                    self.protocol_send,
                )
                self._note_idle(idle=True)
                await self._read_data()
        except* OSError:
            pass
        except* Exception:  # noqa: BLE001  (recorded)
            self._log.exception("http connection failed")
        finally:
            await trio.aclose_forcefully(self._stream)

    async def protocol_send(self, event: Event) -> None:
        """Do what the protocol asks for: send bytes, end the connection, watch it when it is idle."""
        if isinstance(event, RawData):
            if self._held is not None:
                self._held.append(event.data)
            else:
                await self._write(event.data)
            return
        if isinstance(event, Updated):
            # Before the answer is written, because meanwhile its reader's next request may be taken up and end that.
            self._note_idle(idle=event.idle)
        await self._let_go()
        if isinstance(event, Closed):
            await self._finish()
            await self.protocol.handle(Closed())

    def _note_idle(self, *, idle: bool) -> None:
        self._idle = idle
        if idle:
            self._strangers.add(self)
        else:
            self._strangers.discard(self)
        if idle and self.context.terminated.is_set():
            self._reading.cancel()  # the shutdown began while the last answer was written
        elif not self._over:
            self._reading.deadline = trio.current_time() + self._limits.idle_timeout_s if idle else math.inf

    def _hold(self) -> None:
        self._held = []

    async def _let_go(self) -> None:
        held, self._held = self._held, None
        if held:
            await self._write(b"".join(held))

    async def _write(self, data: bytes) -> None:
        async with self.send_lock:
            if data and not self._over:
                await self._send_bounded(memoryview(data))

    async def _send_bounded(self, data: memoryview) -> None:
        try:
            for start in range(0, len(data), _SEND_CHUNK_BYTES):
                chunk = data[start : start + _SEND_CHUNK_BYTES]
                deadline = trio.current_time() + self._limits.send_timeout_s
                with trio.CancelScope(shield=True, deadline=deadline) as self._sending:
                    await self._stream.send_all(chunk)
                if self._sending.cancelled_caught:
                    reason = f"took nothing for {self._limits.send_timeout_s:g} s"
                    self._log.warning("http reader dropped", reason=reason)
                    raise trio.BrokenResourceError
                self._metrics.bytes_sent("http", len(chunk))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.aclose_forcefully(self._stream)  # wakes the reading task too
            await self.protocol.handle(Closed())
        finally:
            self._sending = None

    async def _finish(self) -> None:
        """Send the end; what still comes is thrown away until the client has noticed."""
        async with self.send_lock:
            self._over = True
            self._strangers.add(self)
            self._reading.deadline = trio.current_time() + _LINGER_S
            try:
                with trio.move_on_after(_LINGER_S) as self._sending:  # TLS writes, and its reader may have stalled
                    await send_end(self._stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._reading.cancel()
            finally:
                self._sending = None

    async def _read_data(self) -> None:
        with self._reading:
            thrown_away = 0
            while thrown_away < _LINGER_BYTES:
                try:
                    data = await self._receive_some()
                except (trio.ClosedResourceError, trio.BrokenResourceError):
                    break
                self._metrics.bytes_received("http", len(data))
                if self._over:
                    thrown_away += len(data)
                else:
                    await self.protocol.handle(RawData(data))
                if not data:
                    break
        await self.protocol.handle(Closed())

    async def _receive_some(self) -> bytes:
        """Read; after the end was sent, what comes is not decrypted any more."""
        try:
            return bytes(await (self._transport if self._over else self._stream).receive_some(MAX_RECV))
        except trio.BrokenResourceError:
            if not self._over or self._stream is self._transport:
                raise
            # Within TLS nothing may follow the end that was sent while this was waiting; it is thrown away as well.
            return bytes(await self._transport.receive_some(MAX_RECV))
