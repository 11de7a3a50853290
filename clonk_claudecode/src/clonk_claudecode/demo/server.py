"""The server that `clonk demo` starts: a process of its own, watched, and ended in order."""

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from clonk_claudecode.demo.show import DemoFailed

START_S: Final = 20.0
"""Longest time for the server to be ready; it takes about a second on an idle machine."""

STOP_S: Final = 15.0
"""Longest time for the server to end: its grace period and a little more."""

GONE_S: Final = 5.0
"""Longest time for its children to be gone after it: what is killed takes a moment."""

LOG_END_S: Final = 1.0
"""Longest time for the last lines of the log, when something that the server left behind still holds it open."""

LOG_TAIL: Final = 25
"""Lines of the server's log that are shown when something goes wrong."""


class Server:
    """A running server.

    Attributes:
        http_url: Its HTTP address, without path.
        websocket_url: Where it speaks WebSocket.
        pid: Its process.
        log: The last lines of its log.
    """

    def __init__(self, process: trio.Process, folder: Path) -> None:
        self.http_url = ""
        self.websocket_url = ""
        self.pid = process.pid
        self.log: deque[str] = deque(maxlen=LOG_TAIL)
        self._process = process
        self._folder = folder
        self._ready = trio.Event()
        self._log_ended = trio.Event()

    async def stop(self) -> int:
        """Ask it to end, with SIGTERM, and return its exit code.

        Raises:
            DemoFailed: It does not end in time.
        """
        self._process.terminate()
        with trio.move_on_after(STOP_S):
            return await self._process.wait()
        raise DemoFailed(f"the server did not end within {STOP_S:g} s after SIGTERM")

    async def leftovers(self) -> Sequence[str]:
        """Return the processes that it has left behind, after they had a moment to go; none where /proc is missing."""
        with trio.move_on_after(GONE_S):
            while self._others():  # noqa: ASYNC110 - nobody tells when another's child has gone
                await trio.sleep(0.05)
        return self._others()

    def _others(self) -> list[str]:
        """Find processes that name our folder in their arguments or environment, as all that the server starts do."""
        wanted = os.fsencode(self._folder)
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if int(process.name) != os.getpid() and any(
                    wanted in (process / name).read_bytes() for name in ("cmdline", "environ")
                ):
                    found.append(f"{process.name} {(process / 'comm').read_text().strip()}")
            except OSError:
                continue  # it has ended, or is another user's
        return found

    async def _wait_ready(self) -> None:
        """Wait until it is ready.

        Raises:
            DemoFailed: It ends before, or takes too long.
        """
        with trio.move_on_after(START_S):
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    await self._process.wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                await self._ready.wait()
                nursery.cancel_scope.cancel()
        if self._ready.is_set():
            return
        code = self._process.poll()
        ended = f"the server ended with exit code {code}"
        raise DemoFailed(f"the server was not ready within {START_S:g} s" if code is None else ended)

    async def _read_log(self) -> None:
        """Keep the log in the folder, and its end in memory; learn from it where the server listens."""
        assert self._process.stderr is not None  # noqa: S101 - it was started with a pipe
        rest = b""
        async with await trio.open_file(self._folder / "server.log", "wb") as file:
            async for piece in self._process.stderr:
                await file.write(piece)
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    text = line.decode(errors="replace")
                    self.log.append(text)
                    self._learn(text)
        if rest:
            self.log.append(rest.decode(errors="replace"))
        self._log_ended.set()

    def _learn(self, line: str) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            return
        if isinstance(record, dict) and record.get("event") == "listening":
            self.http_url = record["http"].removesuffix("/mcp")
            self.websocket_url = record["websocket"]
            self._ready.set()


@asynccontextmanager
async def run_server(folder: Path, config: Path, environment: Mapping[str, str]) -> AsyncIterator[Server]:
    """Start `clonk serve`, wait until it is ready, and see to it that it has ended afterwards.

    Raises:
        DemoFailed: It does not start. Any such error of the block gets the end of the log.
    """
    command = [sys.executable, "-m", "clonk_core", "serve", "--config", str(config)]
    process = await trio.lowlevel.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=folder,
        # Ctrl-C on the terminal is for the demonstration, which then ends the server.
        start_new_session=True,
    )
    server = Server(process, folder)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server._read_log)  # noqa: SLF001 - the server's own other half
        try:
            await server._wait_ready()  # noqa: SLF001
            yield server
        except Exception as error:  # noqa: BLE001 - raised again below, outside of the nursery's exception group
            failure = error
        finally:
            await _end(process)
        with trio.move_on_after(LOG_END_S):
            await server._log_ended.wait()  # noqa: SLF001
        nursery.cancel_scope.cancel()
    if isinstance(failure, DemoFailed):
        raise DemoFailed(str(failure), server.log) from failure
    if failure is not None:
        raise failure


async def _end(process: trio.Process) -> None:
    """End a server that is still there: by SIGTERM, and if that does not help by force."""
    with trio.CancelScope(shield=True):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with trio.move_on_after(STOP_S):
                await process.wait()
                return
            process.kill()
        await process.wait()
