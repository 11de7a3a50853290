"""A child process: started, fed, listened to, and ended with all that it has started.

Made for many short ones. It is started from the loop's own thread: the system stops the whole process until the child's
program is loaded anyway (`vfork`, with Python's lock held), so that a thread more would only add its own cost. What the
child is given lies in memory, and one task reads all that it says.
"""

import fcntl
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import trio

CHUNK: Final = 65_536
"""Bytes that are read at once."""

BRIEF_S: Final = 0.02
"""Seconds in which most children end. Until then only the end is waited for: to wait for what they say, for the end of
that and for their own end is two turns of the loop more."""

PIPE_BYTES: Final = 1024**2
"""What a child can say before it has to wait for us to read, where the system allows as much."""

SAID_BYTES: Final = 64 * 1024
"""Of what a child complained about; the end of it counts."""

GRACE_S: Final = 2.0
"""Longest time that a child has to clean up when it is stopped."""

MAX_LINE: Final = 1000
"""Of a line of its complaints."""

Owner: TypeAlias = tuple[int, int] | None
OnLine: TypeAlias = Callable[[str], Awaitable[None]]
Take: TypeAlias = Callable[[bytes], Awaitable[bool]]


class Child:
    """A process that runs. Made by `start`.

    Args:
        process: It.
        max_output: Bytes of standard output that are kept; when it says more, it is ended.
        on_line: Told each line of its standard error, as it comes.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", max_output: int, on_line: OnLine | None) -> None:
        self._process = process
        self._max_output = max_output
        self._on_line = on_line
        self.output = bytearray()
        self.said = bytearray()
        self.too_much = False

    @classmethod
    async def start(
        cls,
        words: Sequence[str | bytes | Path],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: bytes | int,
        stdout: int | None,
        owner: Owner,
        pass_fds: Sequence[int],
        max_output: int,
        on_line: OnLine | None,
        away_from_terminal: bool,
    ) -> "Child":
        """Start one in a process group of its own, so that it can be ended with all it has started.

        Args:
            words: Program and arguments.
            cwd, env, pass_fds: As for `subprocess.Popen`.
            stdin: What it reads, or a descriptor.
            stdout: A descriptor that takes its output; it is kept when None.
            owner: As whom it runs, when not as we do.
            max_output, on_line: See `Child`.
            away_from_terminal: In a session of its own, so that it can ask nobody at a terminal. That costs half a
                millisecond, where the system gives each session its own share of the processors.

        Raises:
            OSError, ValueError: It cannot be started.
        """

        def popen(words: Sequence[str | bytes | Path], source: IO[bytes], **user: Any) -> "subprocess.Popen[bytes]":
            return subprocess.Popen(
                words,
                cwd=cwd,
                env=env,
                stdin=source,
                stdout=subprocess.PIPE if stdout is None else stdout,
                stderr=subprocess.PIPE,
                start_new_session=away_from_terminal,
                process_group=None if away_from_terminal else 0,
                pass_fds=tuple(pass_fds),
                **user,
            )

        with _source(stdin) as source:
            if owner is None:
                process = popen(words, source)
            elif (setpriv := _setpriv(env.get("PATH"))) is not None:
                process = popen(
                    [setpriv, f"--reuid={owner[0]}", f"--regid={owner[1]}", "--clear-groups", "--", *words], source
                )
            else:
                become = partial(popen, words, source, user=owner[0], group=owner[1], extra_groups=())
                process = await trio.to_thread.run_sync(become)
        return cls(process, max_output, on_line)

    async def wait(self) -> int:
        """Return its exit code, when it has ended and all is read. Left early, it is ended with all it has started."""
        try:
            streams = {
                stream.fileno(): take
                for stream, take in (
                    (self._process.stdout, self._take_output),
                    (self._process.stderr, self._take_said),
                )
                if stream is not None
            }
            for descriptor in streams:
                os.set_blocking(descriptor, False)
            if self._on_line is None and await self._ends_soon():
                for descriptor, take in tuple(streams.items()):
                    if not await self._read(descriptor, take, PIPE_BYTES // CHUNK):
                        del streams[descriptor]
            if streams:
                await self._listen(streams)
            await self._wait_ended()
        finally:
            with trio.CancelScope(shield=True):
                await self._end()
            code = self._process.wait()
            for stream in (self._process.stdout, self._process.stderr):
                if stream is not None:
                    stream.close()
        return code

    async def _listen(self, streams: Mapping[int, Take]) -> None:
        """Take what it says, until the end of it."""
        with selectors.DefaultSelector() as selector:
            for descriptor, take in streams.items():
                selector.register(descriptor, selectors.EVENT_READ, take)
            while selector.get_map():
                # The selector's own descriptor: one task, and one turn of the loop for all that is ready.
                await trio.lowlevel.wait_readable(selector.fileno())
                for key, _ in selector.select(0):
                    if not await self._read(key.fd, key.data):
                        selector.unregister(key.fd)

    async def _read(self, descriptor: int, take: Take, chunks: int = 1) -> bool:
        """Take what there is, up to some chunks, and tell whether more may come."""
        for _ in range(chunks):
            try:
                chunk = os.read(descriptor, CHUNK)
            except BlockingIOError:
                return True
            if not chunk or not await take(chunk):
                return False
        return True

    async def _ends_soon(self) -> bool:
        """Wait for its end, but not for long; tell whether it has come."""
        if not hasattr(os, "pidfd_open"):
            return False
        if self._process.stdout is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # more than this user may have in all
                fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        with trio.move_on_after(BRIEF_S):
            await self._wait_ended()
            return True
        return False

    async def _wait_ended(self) -> None:
        """Wait for its end, and leave its remains: while they are there, its group's number is nobody else's."""
        ended = partial(os.waitid, os.P_PID, self._process.pid)
        if ended(os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
            return
        if hasattr(os, "pidfd_open"):
            descriptor = os.pidfd_open(self._process.pid)
            try:
                await trio.lowlevel.wait_readable(descriptor)
            finally:
                os.close(descriptor)
        else:
            await trio.to_thread.run_sync(ended, os.WEXITED | os.WNOWAIT, abandon_on_cancel=True)

    async def _end(self) -> None:
        """End it with all it has started. Asked to, git takes its locks and temporary files away."""
        ended = partial(os.waitid, os.P_PID, self._process.pid)
        if ended(os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            self._kill(signal.SIGTERM)
            with trio.move_on_after(GRACE_S):
                await self._wait_ended()
        self._kill()
        await self._wait_ended()

    def _kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        # Its group is what it has started: transports, pack programs.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def _take_output(self, chunk: bytes) -> bool:
        if len(self.output) + len(chunk) > self._max_output:
            self.too_much = True
            self.output += chunk[: self._max_output - len(self.output)]
            self._kill()
            return False
        self.output += chunk
        return True

    async def _take_said(self, chunk: bytes) -> bool:
        if self._on_line is not None:
            rest = self.said[self.said.rfind(b"\n") + 1 :][-MAX_LINE:]
            *lines, _ = (bytes(rest) + chunk).replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                await self._on_line(line.decode(errors="replace"))
        self.said += chunk.replace(b"\r", b"\n") if self._on_line is not None else chunk
        del self.said[:-SAID_BYTES]
        return True


def _source(stdin: bytes | int) -> IO[bytes]:
    """Return what a child reads: what it is given lies ready in memory."""
    if isinstance(stdin, int):
        return os.fdopen(os.dup(stdin), "rb", buffering=0)
    if not stdin:
        return os.fdopen(os.open(os.devnull, os.O_RDONLY), "rb", buffering=0)
    file = (
        os.fdopen(os.memfd_create("stdin"), "w+b", buffering=0)
        if hasattr(os, "memfd_create")
        else tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the caller closes it
    )
    left = memoryview(stdin)
    while left:
        left = left[file.write(left) :]
    file.seek(0)
    return file


def _setpriv(path: str | None) -> str | None:
    """Return the program that becomes another user and then runs the given one.

    Python itself can do so only by a real `fork`, which copies the server's page tables: 20 ms with 150 MB. The one of
    busybox has not the options.
    """
    found = shutil.which("setpriv", path=path)
    return None if found is None or "busybox" in os.path.realpath(found) else found
