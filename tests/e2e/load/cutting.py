"""A proxy that cuts connections after a random number of bytes, wherever in a message that may be."""

import random
import socket
import struct
from contextlib import suppress
from typing import Final

import trio

PIECE_BYTES: Final = 16 * 1024
EARLY_BYTES: Final = 600
"""Within the request, or the answer's head."""

EARLY_SHARE: Final = 0.1
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class Cutter:
    """Says when connections are cut, and counts the cuts.

    Args:
        seed: Of what is random.
        mean_bytes: What a connection carries on average before it is cut.

    Attributes:
        cuts: How many there were.
        is_idle: Whether new connections are left alone.
    """

    def __init__(self, seed: int, mean_bytes: float) -> None:
        self.cuts = 0
        self.is_idle = False
        self._random = random.Random(seed)
        self._mean_bytes = mean_bytes

    def limit(self) -> float:
        """Return after how many bytes a new connection is cut."""
        if self._random.random() < EARLY_SHARE:
            return self._random.randrange(EARLY_BYTES)
        return self._random.expovariate(1 / self._mean_bytes)

    def is_reset(self) -> bool:
        """Tell whether a cut is a reset; else the stream just ends."""
        return self._random.random() < 0.5


class CuttingProxy:
    """Carries connections to a server on this machine.

    Args:
        cutter: Says when they are cut.

    Attributes:
        target: The server's port; another one when it was started again.
        port: Where the proxy listens, once it `serve`s.
    """

    def __init__(self, cutter: Cutter) -> None:
        self.target = 0
        self.port = 0
        self._cutter = cutter

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Carry connections until cancelled."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._carry, [listener])
            task_status.started()

    async def _carry(self, client: trio.SocketStream) -> None:
        async with client:
            try:
                server = await trio.open_tcp_stream("127.0.0.1", self.target)
            except OSError:
                return
            async with server:
                connection = _Connection(client, server, self._cutter)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(connection.pump, client, server, nursery.cancel_scope)
                    nursery.start_soon(connection.pump, server, client, nursery.cancel_scope)


class _Connection:
    """One connection, and how many bytes it may still carry."""

    def __init__(self, client: trio.SocketStream, server: trio.SocketStream, cutter: Cutter) -> None:
        self._sides = (client, server)
        self._cutter = cutter
        self._left = cutter.limit()

    async def pump(self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
        """Carry one direction until an end or the cut."""
        with suppress(*_GONE):
            while data := await source.receive_some(PIECE_BYTES):
                if len(data) >= self._left and not self._cutter.is_idle:
                    await sink.send_all(data[: int(self._left)])
                    self._cut()
                    break
                self._left -= len(data)
                await sink.send_all(data)
        both.cancel()

    def _cut(self) -> None:
        self._cutter.cuts += 1
        if self._cutter.is_reset():
            for side in self._sides:
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
