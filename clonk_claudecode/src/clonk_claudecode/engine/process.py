"""One process of the binary: started in a session of its own, read in batches of lines, closed down a ladder."""

import contextlib
import fcntl
import os
import pwd
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from clonk_claudecode.engine import process_table
from clonk_claudecode.engine.frames import LineSplitter
from clonk_claudecode.errors import BinaryBroken

CHUNK_BYTES: Final = 256 * 1024
"""Read at once at most; also the size asked for the pipe, so that the binary seldom waits for the reader."""

STDERR_LINES: Final = 40
STDERR_LINE_CHARS: Final = 2000
"""What is kept of stderr: enough for the end of a stack trace."""

LEAVE_S: Final = 1.0
"""The binary ends by itself 50 to 300 ms after its input has ended."""

TERMINATE_S: Final = 2.0
"""Between SIGTERM and SIGKILL."""

LEFTOVER_S: Final = 0.2
"""Between SIGTERM and SIGKILL for what a stopped turn has left: whoever stopped it waits."""

REAP_S: Final = 5.0
"""A killed process is waited for this long; one that hangs in the kernel is left to the system."""


@attrs.frozen(kw_only=True)
class Command:
    """What to start.

    Attributes:
        argv: Program and arguments.
        env: The whole environment.
        working_dir: Where it runs.
        mark: By which its descendants are found; in `env` too.
        pass_fds: File descriptors that it inherits beside the three standard ones.
        user: Name of the user that it runs as; None for our own.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(repr=False)
    working_dir: Path
    mark: str
    pass_fds: tuple[int, ...] = ()
    user: str | None = None


class BinaryProcess:
    """A running process. Made by `start_process`; whoever made it must `close` it.

    Only one task may read, and one write; `drain_stderr` must run in a third.

    Attributes:
        pid: Also the number of its process group.
        mark: By which its descendants are found.
    """

    def __init__(self, process: trio.Process, mark: str) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise AssertionError("a process with three pipes")
        self.pid = process.pid
        self.mark = mark
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._stderr = process.stderr
        self._splitter = LineSplitter()
        self._stderr_tail: deque[str] = deque(maxlen=STDERR_LINES)
        self._stderr_ended = trio.Event()
        self._closed = False

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._process.returncode

    @property
    def stderr_tail(self) -> tuple[str, ...]:
        """Its last lines on stderr."""
        return tuple(self._stderr_tail)

    async def read_lines(self) -> list[bytes]:
        """Wait for output and return the lines that are complete; an empty list once it has ended.

        Raises:
            LineTooLong: A line over the limit.
        """
        while True:
            try:
                chunk = await self._stdout.receive_some(CHUNK_BYTES)
            except trio.BrokenResourceError:
                chunk = b""
            if not chunk:
                rest = self._splitter.rest()
                return [rest] if rest else []
            lines = self._splitter.feed(bytes(chunk))
            if lines:
                return lines

    async def write(self, line: bytes) -> None:
        """Write one frame whole. Must not be cancelled in the middle, or the next frame is garbage.

        Raises:
            trio.BrokenResourceError: The process does not read any more.
        """
        await self._stdin.send_all(line)

    async def drain_stderr(self) -> None:
        """Keep the last lines of stderr until it ends."""
        splitter = LineSplitter(max_line_bytes=sys.maxsize)
        try:
            while chunk := await self._stderr.receive_some(CHUNK_BYTES):
                lines = splitter.feed(bytes(chunk))
                self._stderr_tail.extend(line[:STDERR_LINE_CHARS].decode(errors="replace").rstrip() for line in lines)
        except trio.BrokenResourceError:
            pass
        finally:
            if rest := splitter.rest():
                self._stderr_tail.append(rest[:STDERR_LINE_CHARS].decode(errors="replace"))
            self._stderr_ended.set()

    async def wait_exit(self) -> None:
        """Wait for the process's end, however long."""
        await self._process.wait()

    async def wait(self, *, at_most_s: float) -> int | None:
        """Wait for the process's own end and the last of its stderr. Return the exit code, None if it still runs."""
        with trio.move_on_after(at_most_s):
            await self._process.wait()
            await self._stderr_ended.wait()
        return self.exit_code

    async def close(self, *, patient: bool = True) -> int | None:
        """End the process and everything it started. Shielded, and bounded by about nine seconds.

        Its input is closed first, so that it can flush its transcript and end by itself; then its group and whatever
        else bears its mark get SIGTERM, and in the end SIGKILL.

        Args:
            patient: False leaves out the time to end by itself, for a process that does not answer.
        """
        if self._closed:
            return self.exit_code
        self._closed = True
        with trio.CancelScope(shield=True):
            await self._stdin.aclose()
            async with trio.open_nursery() as nursery:
                # A process that cannot write cannot end either.
                nursery.start_soon(_discard, self._stdout)
                nursery.start_soon(_discard, self._stderr)
                await self._descend(patient=patient)
                nursery.cancel_scope.cancel()
            await self._stdout.aclose()
            await self._stderr.aclose()
        return self.exit_code

    async def _descend(self, *, patient: bool) -> None:
        if patient:
            with trio.move_on_after(LEAVE_S):
                await self._process.wait()
        left = await self._marked()
        if left or self.exit_code is None:
            process_table.signal_group(self.pid, signal.SIGTERM)
            process_table.signal_each(left, signal.SIGTERM)
            with trio.move_on_after(TERMINATE_S):
                await self._process.wait()
                for pid in left:
                    await _wait_gone(pid)
        process_table.signal_group(self.pid, signal.SIGKILL)
        await trio.to_thread.run_sync(process_table.kill_marked, self.mark)
        with trio.move_on_after(REAP_S):
            await self._process.wait()

    async def _marked(self) -> list[int]:
        # Reading every process's environment takes milliseconds, which a stream of events should not wait for.
        found = await trio.to_thread.run_sync(process_table.marked, self.mark)
        return [pid for pid in found if pid != self.pid]


async def start_process(command: Command) -> BinaryProcess:
    """Start a process with three pipes in a session of its own, so that signals to the hub's group miss it.

    Raises:
        BinaryBroken: It cannot be started.
    """
    try:
        with trio.CancelScope(shield=True):  # a process started and forgotten would run on
            process = await trio.lowlevel.open_process(
                list(command.argv),
                env=dict(command.env),
                cwd=command.working_dir,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=command.pass_fds,
                start_new_session=True,
                **_as_user(command.user),
            )
    except FileNotFoundError as error:
        raise BinaryBroken("its file is gone") from error
    except OSError as error:
        raise BinaryBroken(f"it cannot be started ({error.strerror})") from error
    _widen(process.stdout)
    return BinaryProcess(process, command.mark)


def _as_user(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    account = pwd.getpwnam(user)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


async def end_marked(mark: str, *, spare: frozenset[process_table.Identity]) -> None:
    """End what bears a mark: SIGTERM, and SIGKILL for what is still there after a moment. Bounded by a second.

    Args:
        mark: The beginning of their marks.
        spare: These live on.
    """
    left = await trio.to_thread.run_sync(process_table.marked_beside, mark, spare)
    if not left:
        return
    process_table.signal_each(left, signal.SIGTERM)
    with trio.move_on_after(LEFTOVER_S):
        for pid in left:
            await _wait_gone(pid)
    await trio.to_thread.run_sync(process_table.kill_marked, mark, spare)


def _widen(stream: object) -> None:
    """Ask for a wider pipe. Linux only, and refused to a user who has many; then the usual 64 KiB do."""
    if sys.platform == "linux" and isinstance(stream, trio.lowlevel.FdStream):
        with contextlib.suppress(OSError):
            fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, CHUNK_BYTES)


async def _discard(stream: trio.abc.ReceiveStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
        while await stream.receive_some(CHUNK_BYTES):
            pass


async def _wait_gone(pid: int) -> None:
    """Wait until a process that is no child of ours has ended."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)
