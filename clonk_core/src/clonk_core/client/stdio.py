"""Clients over pipes: to a process that runs `clonk stdio`, or over any pair of streams."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Final

import trio

from clonk_core.client.base import ConnectionLost
from clonk_core.client.duplex import DuplexClient, Link, LinkClosed

_READ_BYTES: Final = 64 * 1024
_END_S: Final = 15.0
"""How long the process may take to end by itself once its input has ended."""


class PipeClient(DuplexClient):
    """Implements `client.base.Client` over two streams; it cannot come back when they end. Open it with `async with`.

    Args:
        source: What the server writes.
        sink: What the server reads. Both are closed at the end.
    """

    def __init__(self, source: trio.abc.ReceiveStream, sink: trio.abc.SendStream) -> None:
        super().__init__(retries=0)
        self._source = source
        self._sink = sink

    @asynccontextmanager
    async def open_link(self) -> AsyncIterator[Link]:
        """Use the streams; see `DuplexClient.open_link`."""
        try:
            yield _LineLink(self._source, self._sink)
        finally:
            await trio.aclose_forcefully(self._sink)
            await trio.aclose_forcefully(self._source)


class StdioClient(DuplexClient):
    """Implements `client.base.Client` over a process of its own. Open it with `async with`; leaving ends the process.

    Args:
        command: Program and arguments: `["clonk", "stdio"]`.
        env: The process's environment; this one's when None.
        cwd: The process's working directory; this one's when None.
    """

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        super().__init__(retries=0)
        self._command = list(command)
        self._env = dict(env) if env is not None else None
        self._cwd = cwd

    @asynccontextmanager
    async def open_link(self) -> AsyncIterator[Link]:
        """Start the process; see `DuplexClient.open_link`."""
        try:
            process = await trio.lowlevel.open_process(
                self._command, stdin=PIPE, stdout=PIPE, env=self._env, cwd=self._cwd
            )
        except OSError as error:
            raise ConnectionLost(f"{self._command[0]} cannot be started: {error}") from error
        assert process.stdin is not None  # noqa: S101  (piped)
        assert process.stdout is not None  # noqa: S101  (piped)
        try:
            yield _LineLink(process.stdout, process.stdin)
        finally:
            with trio.CancelScope(shield=True):
                await _end(process)


async def _end(process: trio.Process) -> None:
    """End the process: its input ends, then it is asked, then killed."""
    assert process.stdin is not None  # noqa: S101  (piped)
    assert process.stdout is not None  # noqa: S101  (piped)
    await trio.aclose_forcefully(process.stdin)
    await trio.aclose_forcefully(process.stdout)
    with trio.move_on_after(_END_S):
        await process.wait()
    if process.returncode is None:
        process.terminate()
        with trio.move_on_after(_END_S):
            await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()


class _LineLink:
    """Messages as lines."""

    def __init__(self, source: trio.abc.ReceiveStream, sink: trio.abc.SendStream) -> None:
        self._source = source
        self._sink = sink
        self._sending = trio.StrictFIFOLock()
        self._torn = False
        self._lines: list[bytes] = []
        self._partial: list[bytes] = []

    async def send(self, message: bytes) -> None:
        async with self._sending:
            if self._torn:
                raise LinkClosed("a message was cut off")
            self._torn = True
            try:
                await self._sink.send_all(message + b"\n")
                self._torn = False
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise LinkClosed("the process reads no more") from error

    async def receive(self) -> bytes | str:
        while not self._lines:
            try:
                piece = bytes(await self._source.receive_some(_READ_BYTES))
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise LinkClosed("the process writes no more") from error
            if not piece:
                raise LinkClosed("the process has ended")
            *lines, rest = piece.split(b"\n")
            if lines:
                lines[0] = b"".join([*self._partial, lines[0]])
                self._partial = []
                self._lines = [line for line in reversed(lines) if line]
            if rest:
                self._partial.append(rest)
        return self._lines.pop()
