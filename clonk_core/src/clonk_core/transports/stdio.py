"""JSON-RPC over standard input and output: one message per line, UTF-8. Logs and whatever else prints go to stderr."""

import os
import stat
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from clonk_core.config.settings import ServerSettings
from clonk_core.errors import CallError, TooLarge
from clonk_core.ids import new_id
from clonk_core.interfaces.door import Connection, Dispatch
from clonk_core.interfaces.host import Log
from clonk_core.metrics import NO_METRICS, Metrics
from clonk_core.transports.doorway import Doorway, PeerGone
from clonk_core.transports.duplex import Duplex
from clonk_core.wire.jsonrpc import Limits

_READ_BYTES: Final = 64 * 1024
_STDIN, _STDOUT, _STDERR = 0, 1, 2


async def serve_stdio(
    dispatch: Dispatch,
    settings: ServerSettings,
    source: trio.abc.ReceiveStream,
    sink: trio.abc.SendStream,
    *,
    log: Log,
    shutdown: trio.Event | None = None,
    metrics: Metrics = NO_METRICS,
) -> None:
    """Serve the one who started this process until its input ends or `shutdown` is set.

    Then what is under way may end within `settings.shutdown_grace_s`; streams that go on longer are left, which ends
    those that are not durable.

    Args:
        dispatch: What answers.
        settings: Limits.
        source: Where requests come from.
        sink: Where answers go. Nothing else may write to it.
        log: Where faults are told.
        shutdown: Set to end as if the input had.
        metrics: Count the connection and its bytes.
    """
    writer = _LineWriter(sink, metrics)
    limits = Limits(message_bytes=settings.max_message_bytes, batch_items=settings.max_batch_items)
    connection = Connection(transport="stdio", peer="stdio", id=new_id("conn"))
    duplex = Duplex(Doorway(dispatch, log), connection, writer.send, limits)

    reader = _LineReader(source, settings.max_message_bytes, metrics)
    metrics.connection_opened("stdio")
    try:
        async with trio.open_nursery() as nursery:
            if shutdown is not None:
                nursery.start_soon(reader.end_when, shutdown)
            await duplex.run(reader.receive, linger_s=settings.shutdown_grace_s)
            nursery.cancel_scope.cancel()
    finally:
        metrics.connection_closed("stdio")


@asynccontextmanager
async def own_stdio() -> AsyncIterator[tuple[trio.abc.ReceiveStream, trio.abc.SendStream]]:
    """Take standard input and output for the protocol alone.

    Meanwhile file descriptor 1 is standard error, so that a stray `print`, here or in a child process, cannot put a
    line of its own between the messages; and descriptor 0 is empty, so that no child eats requests.
    """
    source_fd, sink_fd = os.dup(_STDIN), os.dup(_STDOUT)
    kept_in, kept_out = os.dup(_STDIN), os.dup(_STDOUT)
    nothing = os.open(os.devnull, os.O_RDONLY)
    # What was printed before goes where it was meant to go; what is printed meanwhile may wait in Python's buffer.
    sys.stdout.flush()
    os.dup2(nothing, _STDIN)
    os.dup2(_STDERR, _STDOUT)
    os.close(nothing)
    try:
        async with _open_source(source_fd) as source, _open_sink(sink_fd) as sink:
            yield source, sink
    finally:
        sys.stdout.flush()
        os.dup2(kept_in, _STDIN)
        os.dup2(kept_out, _STDOUT)
        os.close(kept_in)
        os.close(kept_out)


class _LineReader:
    """Reads messages as lines; one over the limit is counted, thrown away, and an error when it ends."""

    def __init__(self, source: trio.abc.ReceiveStream, limit: int, metrics: Metrics) -> None:
        self._source = source
        self._metrics = metrics
        self._limit = limit
        self._whole: deque[bytes] = deque()
        self._rest = b""
        self._parts: list[bytes] = []
        self._size = 0
        self._is_over = False
        self._reading: trio.CancelScope | None = None

    async def end_when(self, event: trio.Event) -> None:
        """Behave as if the input had ended when `event` is set."""
        await event.wait()
        self._is_over = True
        if self._reading is not None:
            self._reading.cancel()

    async def receive(self) -> bytes | CallError | None:
        """Return the next message; see `duplex.Receive`."""
        while True:
            while self._whole:
                self._take(self._whole.popleft())
                message = self._end_line()
                if message is not None:
                    return message
            self._take(self._rest)
            self._rest = b""
            if self._is_over:
                return self._end_line()  # a last line needs no line end
            piece = await self._read()
            self._metrics.bytes_received("stdio", len(piece))
            *whole, self._rest = piece.split(b"\n")
            self._whole.extend(whole)
            if not piece:
                self._is_over = True

    async def _read(self) -> bytes:
        """Return the next bytes, none when there are no more."""
        with trio.CancelScope() as self._reading:
            try:
                return bytes(await self._source.receive_some(_READ_BYTES))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
        return b""

    def _take(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= self._limit:
            self._parts.append(part)
        else:
            self._parts.clear()

    def _end_line(self) -> bytes | CallError | None:
        """Return the line that has ended as a message; None when it is empty."""
        size, line = self._size, b"".join(self._parts)
        self._size, self._parts = 0, []
        if size > self._limit:
            return TooLarge(f"the line has {size} bytes; at most {self._limit} are taken", limit=self._limit)
        return line if line and not line.isspace() else None


class _LineWriter:
    """Writes messages as lines, whole, one after the other. There is no limit of time: the reader is our parent."""

    def __init__(self, sink: trio.abc.SendStream, metrics: Metrics) -> None:
        self._sink = sink
        self._metrics = metrics
        self._lock = trio.StrictFIFOLock()
        self._torn = False

    async def send(self, messages: Sequence[bytes]) -> None:
        async with self._lock:
            if self._torn:
                raise PeerGone
            self._torn = True  # until the last byte is out: half a line must not be followed by another
            lines = b"\n".join(messages) + b"\n"
            try:
                await self._sink.send_all(lines)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise PeerGone from error
            self._torn = False
            self._metrics.bytes_sent("stdio", len(lines))


def _open_source(fd: int) -> trio.abc.ReceiveStream:
    return trio.lowlevel.FdStream(fd) if _can_be_polled(fd) else _FileStream(fd)


def _open_sink(fd: int) -> trio.abc.SendStream:
    return trio.lowlevel.FdStream(fd) if _can_be_polled(fd) else _FileStream(fd)


def _can_be_polled(fd: int) -> bool:
    """Tell whether the kernel can say when it is ready; regular files and /dev/null always are, and cannot be asked."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)


class _FileStream(trio.abc.Stream):
    """A regular file or device as a stream (`clonk stdio < requests.jsonl > answers.jsonl`)."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._open = True

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await trio.to_thread.run_sync(os.read, self._fd, max_bytes or _READ_BYTES)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while view:
            try:
                written = await trio.to_thread.run_sync(os.write, self._fd, view)
            except OSError as error:
                raise trio.BrokenResourceError from error
            view = view[written:]

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            os.close(self._fd)
        await trio.lowlevel.checkpoint()
