"""Connections by hand: what no library would send."""

import base64
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import orjson
import trio

from tests.core.gateway.guarded import secret_of

WITHIN_S = 15.0
"""Longest wait for anything a test expects."""


@attrs.frozen
class Raw:
    """An HTTP answer, its header lines as they came."""

    status: int
    lines: list[bytes]
    body: bytes

    @classmethod
    def of(cls, received: bytes) -> "Raw":
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        return cls(int(first.split(b" ")[1]), lines, body)

    def header(self, name: str) -> list[str]:
        wanted = name.lower().encode() + b":"
        return [line.partition(b":")[2].strip().decode() for line in self.lines if line.lower().startswith(wanted)]

    @property
    def kind(self) -> str:
        return str(orjson.loads(self.body)["error"]["data"]["kind"])


def message(method: str = "auth.whoami", params: Any = None, id: Any = 1) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params or {}, "id": id})


def post_bytes(body: bytes, *lines: bytes, path: bytes = b"/mcp", host: bytes = b"localhost") -> bytes:
    """A whole request after which the connection is closed."""
    head = [
        b"POST %b HTTP/1.1" % path,
        b"Host: " + host,
        b"Content-Type: application/json",
        b"Connection: close",
        b"Content-Length: %d" % len(body),
        *lines,
    ]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def bearer(key_id: str) -> bytes:
    return b"Authorization: Bearer " + secret_of(key_id).encode()


def upgrade_bytes(*lines: bytes, path: bytes = b"/ws", host: bytes = b"localhost") -> bytes:
    head = [
        b"GET %b HTTP/1.1" % path,
        b"Host: " + host,
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)),
        *lines,
    ]
    return b"\r\n".join(head) + b"\r\n\r\n"


async def received_from(stream: trio.SocketStream) -> bytes:
    """All that comes until the other side closes; a reset is an end too."""
    found = b""
    with trio.fail_after(WITHIN_S):
        try:
            async for piece in stream:
                found += piece
        except trio.BrokenResourceError:
            pass
    return found


async def ended(stream: trio.SocketStream) -> bool:
    """Wait until the other side has closed."""
    await received_from(stream)
    return True


async def ask_raw(port: int, data: bytes) -> Raw:
    """Send what may be no HTTP at all, and return the answer."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        with suppress(trio.BrokenResourceError):  # it may have read enough
            await stream.send_all(data)
        return Raw.of(await received_from(stream))


class Frames:
    """The frames of a WebSocket connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.head = b""
        self._buffer = b""

    async def open(self, *lines: bytes) -> "Frames":
        await self.stream.send_all(upgrade_bytes(*lines))
        while b"\r\n\r\n" not in self._buffer:
            await self._more()
        self.head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return self

    async def send(self, payload: bytes, opcode: int = 1, *, first: int | None = None) -> None:
        await self.stream.send_all(frame_bytes(payload, opcode, first=first))

    async def receive(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame."""
        while len(self._buffer) < 2:
            await self._more()
        size, start = self._buffer[1], 2
        if size == 126:
            while len(self._buffer) < 4:
                await self._more()
            size, start = struct.unpack("!H", self._buffer[2:4])[0], 4
        while len(self._buffer) < start + size:
            await self._more()
        opcode, payload = self._buffer[0] & 15, self._buffer[start : start + size]
        self._buffer = self._buffer[start + size :]
        return opcode, payload

    async def answer(self, id: Any) -> Any:
        while True:
            opcode, payload = await self.receive()
            found = orjson.loads(payload) if opcode == 1 else {}
            if isinstance(found, list) or found.get("id") == id:
                return found

    async def _more(self) -> None:
        with trio.fail_after(WITHIN_S):
            piece = await self.stream.receive_some(65_536)
        if not piece:
            raise EOFError(self._buffer)
        self._buffer += piece


def frame_bytes(payload: bytes, opcode: int = 1, *, first: int | None = None) -> bytes:
    """A client's frame, masked with zeros; `first` is its whole first byte when that is to be odd."""
    size = len(payload)
    head = bytes([0x80 | opcode if first is None else first])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65_536:
        head += struct.pack("!BH", 0x80 | 126, size)
    else:
        head += struct.pack("!BQ", 0x80 | 127, size)
    return head + b"\0\0\0\0" + payload


@asynccontextmanager
async def frames(port: int, *lines: bytes) -> AsyncIterator[Frames]:
    """An open WebSocket connection."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    try:
        yield await Frames(stream).open(*lines)
    finally:
        await trio.aclose_forcefully(stream)
