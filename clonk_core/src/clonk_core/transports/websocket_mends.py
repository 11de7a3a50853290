"""trio-websocket's server side with its faults mended, all here. Each has a test; drop a mend when upstream has it.

1. A message over the limit closes the connection. It is counted and thrown away, and only that message fails.
2. Text that is no UTF-8 closes the connection. RFC 6455 wants that; our wire contract wants an answer and the
   connection to go on. Text is kept as bytes, which also spares decoding and encoding again.
3. Every message sent costs a lock, a write and two switches of task (80 us), every message received a channel and a
   switch more. Several go into one write, which waits only when the socket is full, and whoever wants a message reads
   it.
4. A send has no limit of time, and a send that is cancelled leaves half a frame, after which the next one is garbage.
   `watch_sends` gives it a limit (a scope around each send would cost 5 % of a call), and after half a frame nothing
   more is written.
5. A frame that breaks the protocol closes the connection without saying why. The close frame is sent.
6. Frames that were queued when the connection is closed raise out of the reading task. They are dropped.
7. A handshake with a `Host` beyond ASCII raises `UnicodeError` out of the reading. It is refused with 400.

Written for trio-websocket 0.12 and wsproto 1.3, which it uses; no extension is ever negotiated.
"""

import os
import struct
from collections.abc import Callable, Sequence
from typing import Final

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, RejectConnection, Request
from wsproto.frame_protocol import Frame, FrameDecoder, MessageDecoder, Opcode
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from clonk_core.errors import CallError, InvalidRequest, TooLarge
from clonk_core.metrics import NO_METRICS, Metrics
from clonk_core.transports.tls import Stream, transport_of

_RECEIVE_BYTES: Final = 64 * 1024
_SEND_CHUNK_BYTES: Final = 64 * 1024
"""The limit of time counts for each piece, so that a slow reader is not a stalled one."""

_FINAL_TEXT: Final = 0x81
"""First byte of an unfragmented text frame (RFC 6455, section 5.2)."""


class _BytesDecoder(MessageDecoder):
    """Joins frames to messages and leaves their text undecoded.

    Attributes:
        is_text: Whether the frame handed out last belongs to a text message.
    """

    is_text = False

    def process_frame(self, frame: Frame) -> Frame:
        if frame.opcode is Opcode.TEXT and self.opcode is None:
            self.is_text = True
            # As binary: wsproto would insist on `str` for text.
            frame = Frame(Opcode.BINARY, frame.payload, frame.frame_finished, frame.message_finished)
        elif frame.opcode is Opcode.BINARY and self.opcode is None:
            self.is_text = False
        return super().process_frame(frame)


class ServerConnection(WebSocketConnection):
    """The server's end of one connection. Call `receive` until it returns None; write with `send_texts`.

    Args:
        stream: The accepted socket; `EncryptedConnection` takes an encrypted one.
        max_message_bytes: Largest message.
        limit_now: Gives the largest message that is taken now, when it may be less than that.
        send_timeout_s: Longest time a piece of 64 KiB may wait for the reader.
        metrics: Count the bytes.

    Attributes:
        last_received_s: When something came in, on trio's clock.
        stalled: Whether it ended because the reader took nothing for too long.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        max_message_bytes: int,
        send_timeout_s: float,
        limit_now: Callable[[], int] | None = None,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        super().__init__(
            stream,
            WSConnection(ConnectionType.SERVER),
            message_queue_size=0,
            max_message_size=max_message_bytes,
            receive_buffer_size=_RECEIVE_BYTES,
        )
        self._raw = transport_of(stream).socket
        self._metrics = metrics
        self._send_timeout_s = send_timeout_s
        self._decoder = _BytesDecoder()
        self._frames: FrameDecoder | None = None
        self._limit_now = limit_now or (lambda: max_message_bytes)
        # One piece of memory: frames of two bytes each, kept in a list, would take twenty times what was sent.
        self._pieces = bytearray()
        self._size = 0
        self._torn = False
        self._piece_began_s: float | None = None
        self.stalled = False
        self.last_received_s = trio.current_time()

    async def receive(self) -> bytes | CallError | None:
        """Return the next text message, the error of one that is none (too large, binary), or None at the end.

        To be called from the handshake on, by one task at a time; pings and the like are answered in here.
        """
        has_waited = False
        try:
            while self._reader_running:
                for event in self._wsproto.events():
                    found = await self._handle(event)
                    if found is not None:
                        if not has_waited:  # of a hundred messages read in one piece, others get a turn after each
                            await trio.lowlevel.checkpoint()
                        return found
                has_waited = True
                message = await self._read_on()
                if message is not None:
                    return message
        except ConnectionClosed:
            pass
        await self.drop()
        return None

    async def _handle(self, event: Event) -> bytes | CallError | None:
        if isinstance(event, BytesMessage):
            return self._join(event)
        if isinstance(event, Ping):
            await self._handle_ping_event(event)
        elif isinstance(event, CloseConnection):
            await self._handle_close_connection_event(event)
        elif isinstance(event, Request):
            await self._handle_request_event(event)
        return None  # a pong, too, has done its part by coming

    async def _read_on(self) -> bytes | None:
        """Read from the socket, for wsproto; or return a message when it is a whole one of the usual kind."""
        try:
            data = await self._receive_some()
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            data = b""
        if not data:
            if self._wsproto.state is not ConnectionState.CLOSED:
                await self._abort_web_socket()
            self._reader_running = False
            return None
        self.last_received_s = trio.current_time()
        self._metrics.bytes_received("websocket", len(data))
        message = self._whole_text(data)
        if message is not None:
            return message
        if self._wsproto.state is not ConnectionState.CLOSED:
            try:
                self._wsproto.receive_data(data)
            except RemoteProtocolError as error:
                if error.event_hint is not None:
                    await self._send(error.event_hint)
                self._reader_running = False
            except UnicodeError:
                await self._send(RejectConnection(status_code=400))
                self._reader_running = False
        return None

    async def _receive_some(self) -> bytes:
        """Wait first and read then: trio reads, is told that there is nothing yet, waits and reads again."""
        source = self._raw
        while source.fileno() >= 0:
            await trio.lowlevel.wait_readable(source)
            try:
                return os.read(source.fileno(), _RECEIVE_BYTES)
            except BlockingIOError:
                continue  # it was woken for nothing
        return b""

    def _whole_text(self, data: bytes) -> bytes | None:
        """Return the message when `data` is one text frame, whole and below 64 KiB, and nothing is pending.

        It is what nearly always comes, and four times quicker than through wsproto.
        """
        frames = self._frames
        if (
            frames is None
            or data[0] != _FINAL_TEXT
            or len(data) < 6
            or len(frames.buffer)
            or frames.header is not None
            or self._decoder.opcode is not None
            or self._close_reason is not None
        ):
            return None
        size, start = data[1] - 128, 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
            if size < 126:
                return None  # written longer than need be, which wsproto refuses
        if not 0 < size <= self._max_message_size or (start == 2 and size > 125) or len(data) != start + 4 + size:
            return None
        mask = int.from_bytes((data[start : start + 4] * (size // 4 + 1))[:size], "little")
        return (int.from_bytes(data[start + 4 :], "little") ^ mask).to_bytes(size, "little")

    async def handshake(self) -> WebSocketRequest:
        """Return the client's request for a handshake, to be accepted or rejected."""
        return await self._get_request()

    @staticmethod
    def host_header(request: WebSocketRequest) -> bytes:
        """Return the `Host` of a handshake, which wsproto keeps apart from the other headers."""
        return request._event.host.encode("utf-8")  # noqa: SLF001

    async def send_ping(self) -> None:
        """Send a ping; any answer moves `last_received_s`."""
        await self._send(Ping(payload=b""))

    async def send_texts(self, messages: Sequence[bytes]) -> None:
        """Send text messages, UTF-8, in one write. Whoever asks first is served first.

        No checkpoint where the socket takes all of it at once, as nearly always.

        Raises:
            ConnectionClosed: It is over; nothing or not all of it was sent.
        """
        data = b"".join(_framed(messages))
        taken = 0 if self._stream_lock.locked() else self._write_at_once(data)
        if taken == len(data):
            return
        try:
            self._stream_lock.acquire_nowait()  # of a message begun, nobody may come between
        except trio.WouldBlock:
            await self._stream_lock.acquire()
        try:
            if self._wsproto.state is not ConnectionState.OPEN:
                raise ConnectionClosed(self._close_reason)
            await self._write(memoryview(data)[taken:])
        finally:
            self._stream_lock.release()

    def _write_at_once(self, data: bytes) -> int:
        """Write what the socket takes without waiting; return how many bytes. None where something is wrong."""
        if self._torn or self._wsproto.state is not ConnectionState.OPEN:
            return 0
        try:
            taken = os.write(self._raw.fileno(), data)
        except OSError:
            return 0  # it is full, or broken, which the next write will tell
        self._metrics.bytes_sent("websocket", taken)
        return taken

    @property
    def sending(self) -> bool:
        """Whether a write is under way."""
        return self._piece_began_s is not None

    async def watch_sends(self) -> None:
        """Drop the connection when its reader takes nothing for longer than the limit (and up to a quarter more)."""
        while True:
            await trio.sleep(self._send_timeout_s / 4)
            if self._piece_began_s is None or trio.current_time() - self._piece_began_s < self._send_timeout_s:
                continue
            self.stalled = True
            await self.drop()
            return

    async def close(self, code: int, reason: str, *, timeout_s: float) -> None:
        """Say goodbye and wait for the other side's answer, at most `timeout_s`."""
        with trio.move_on_after(timeout_s):
            await self.aclose(code, reason)
        await self.drop()

    async def drop(self) -> None:
        """Close the socket as it is."""
        self._reader_running = False
        await trio.aclose_forcefully(self._stream)

    async def _send(self, event: Event) -> None:
        async with self._stream_lock:
            try:
                data = self._wsproto.send(event)
            except LocalProtocolError:
                raise ConnectionClosed(self._close_reason) from None
            if isinstance(event, AcceptConnection):
                # Before the client can know that it may speak: its first message may come while this is written.
                connection = self._wsproto.connection
                assert connection is not None  # noqa: S101  (made by accepting)
                connection._proto._message_decoder = self._decoder  # noqa: SLF001
                self._frames = connection._proto._frame_decoder  # noqa: SLF001
            await self._write(data)

    async def _write(self, data: bytes | memoryview) -> None:
        """Write with the lock held. A write that is cut off, by the limit or by cancellation, is the last one."""
        if self._torn:
            raise ConnectionClosed(self._close_reason)
        self._torn = True
        view = memoryview(data)
        try:
            for start in range(0, len(view), _SEND_CHUNK_BYTES):
                self._piece_began_s = trio.current_time()
                chunk = view[start : start + _SEND_CHUNK_BYTES]
                await self._stream.send_all(chunk)
                self._metrics.bytes_sent("websocket", len(chunk))
            self._torn = False
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self._abort_web_socket()
            raise ConnectionClosed(self._close_reason) from None
        finally:
            self._piece_began_s = None

    def _join(self, event: BytesMessage) -> bytes | CallError | None:
        """Take a piece of a message, and return the message when it is the last."""
        self._size += len(event.data)
        limit = self._limit_now()
        if self._size > limit:
            self._pieces = bytearray()
        elif not event.message_finished or self._pieces:
            self._pieces += event.data
        if not event.message_finished:
            return None
        size, pieces = self._size, self._pieces
        self._size, self._pieces = 0, bytearray()
        if self._close_reason is not None:
            return None  # only the answer to our close frame matters now
        if size > limit:
            return TooLarge(f"the message has {size} bytes; at most {limit} are taken", limit=limit)
        if not self._decoder.is_text:
            return InvalidRequest("a binary message; send JSON in text messages")
        return bytes(pieces or event.data)

    async def _handle_close_connection_event(self, event: CloseConnection) -> None:
        if self._wsproto.state is ConnectionState.OPEN:  # not the other side's: wsproto found a broken frame
            await self._send(CloseConnection(code=event.code, reason=event.reason))
        await super()._handle_close_connection_event(event)


class EncryptedConnection(ServerConnection):
    """The same over TLS, where nothing goes past the encryption straight to the socket."""

    async def _receive_some(self) -> bytes:
        return bytes(await self._stream.receive_some(_RECEIVE_BYTES))

    def _write_at_once(self, data: bytes) -> int:
        return 0


def _framed(messages: Sequence[bytes]) -> list[bytes]:
    """Return the messages with the headers of unfragmented, unmasked text frames before them."""
    pieces = []
    for message in messages:
        size = len(message)
        if size < 126:
            pieces.append(bytes((_FINAL_TEXT, size)))
        elif size < 65536:
            pieces.append(struct.pack("!BBH", _FINAL_TEXT, 126, size))
        else:
            pieces.append(struct.pack("!BBQ", _FINAL_TEXT, 127, size))
        pieces.append(message)
    return pieces
