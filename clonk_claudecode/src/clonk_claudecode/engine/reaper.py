"""The reaper: nothing that the hub started outlives it, not even after a `kill -9` of the hub.

A small helper process holds a pipe from the hub and ends what is left when the pipe closes. For the case that the
helper is killed too, every process is recorded in a folder; the next hub reads the records of dead predecessors.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Final

import trio

from clonk_claudecode.engine import process_table
from clonk_core.plugin import Log

READY_S: Final = 20.0
"""The helper is there after 30 ms; a busy machine takes longer."""

RESTART_DELAY_S: Final = 1.0
"""Between the death of a helper and the next one, so that a broken system is not flooded with them."""

_PROGRAM: Final = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from clonk_claudecode.engine.reaper_helper import main; main(sys.argv[2:])"
)


class Reaper:
    """Knows the hub's processes and sees to their end. `run` is a service; the rest works while it runs.

    Args:
        run_dir: Folder of the records; made when missing.
        log: Where it tells what it had to end.
    """

    def __init__(self, run_dir: Path, log: Log) -> None:
        self._log = log
        self._token = secrets.token_hex(8)
        self._numbers = count(1)
        self._run_dir = run_dir
        self._own_dir = run_dir / self._token
        self._groups: dict[int, str] = {}
        self._helper: trio.Process | None = None
        self._telling = trio.Lock()

    @property
    def helper_pid(self) -> int | None:
        """Process id of the helper."""
        return None if self._helper is None else self._helper.pid

    def new_mark(self) -> str:
        """Return a mark for the environment of the next process."""
        return f"{self._token}.{next(self._numbers)}."

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """End what dead predecessors left, then keep a helper alive until cancelled.

        Raises:
            OSError: The folder cannot be written, or no process can be started.
        """
        self._run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        ended = await trio.to_thread.run_sync(end_leftovers, self._run_dir)
        if ended:
            self._log.warning("ended processes that an earlier run had left", processes=ended)
        if not process_table.can_find_marked():
            self._log.warning("no /proc here: processes that a tool leaves in the background cannot be found and ended")
        self._write_hub_record()
        try:
            while True:
                helper = await self._start_helper()
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await helper.wait()
                self._log.warning("the reaper's helper has died; starting another", exit_code=helper.returncode)
                await trio.sleep(RESTART_DELAY_S)
        finally:
            await self._end_helper()
            shutil.rmtree(self._own_dir, ignore_errors=True)

    async def add(self, group: int) -> None:
        """Take charge of a process group just started."""
        started = process_table.start_time(group) or "0"
        self._groups[group] = started
        try:
            (self._own_dir / str(group)).write_text(started, encoding="ascii")
        except OSError as error:  # a full disk stops no session: the helper knows the group
            self._log.warning("a process could not be recorded", reason=error.strerror)
        await self._tell(f"add {group} {started}\n")

    async def remove(self, group: int) -> None:
        """Forget a process group that has ended."""
        self._groups.pop(group, None)
        (self._own_dir / str(group)).unlink(missing_ok=True)
        await self._tell(f"remove {group}\n")

    async def _tell(self, line: str) -> None:
        helper = self._helper
        if helper is None or helper.stdin is None:
            return
        # A few bytes into a pipe that is always read. If the helper has died, the next one is told everything.
        with trio.CancelScope(shield=True):
            async with self._telling:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await helper.stdin.send_all(line.encode())

    async def _start_helper(self) -> trio.Process:
        with trio.CancelScope(shield=True):
            helper = await trio.lowlevel.open_process(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, str(Path(__file__).parent.parent.parent), self._token],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={"PATH": os.defpath},
                start_new_session=True,
            )
        self._helper = helper
        if helper.stdout is None:
            raise AssertionError("a helper with a pipe")
        for group, started in list(self._groups.items()):
            await self._tell(f"add {group} {started}\n")
        with trio.move_on_after(READY_S) as waiting:
            ready = await helper.stdout.receive_some(64)
        if waiting.cancelled_caught or not ready:
            self._log.error("the reaper's helper does not start; a kill -9 of the hub would leave processes")
        await helper.stdout.aclose()
        return helper

    async def _end_helper(self) -> None:
        """Close the pipe: what is still listed ends with it."""
        helper, self._helper = self._helper, None
        if helper is None or helper.stdin is None:
            return
        with trio.move_on_after(READY_S, shield=True) as waiting:
            await helper.stdin.aclose()
            await helper.wait()
        if waiting.cancelled_caught:
            helper.kill()

    def _write_hub_record(self) -> None:
        self._own_dir.mkdir(mode=0o700)
        own = os.getpid()
        record = f"{own} {process_table.start_time(own) or '0'} {process_table.boot_id()}"
        (self._own_dir / "hub").write_text(record, encoding="ascii")


def end_leftovers(run_dir: Path) -> int:
    """End what hubs that are dead by now have left, and forget them. Return how many processes were ended.

    A group is only killed when pid and start time of its leader both match the record, since pids come back; marks hold
    a random token and cannot be mistaken.
    """
    ended = 0
    for hub_dir in sorted(path for path in run_dir.iterdir() if path.is_dir()):
        pid, started, boot = (*_read(hub_dir / "hub").split(), "", "", "")[:3]
        same_boot = boot == process_table.boot_id()
        if same_boot and _is_running(pid, started):
            continue  # another hub shares the folder
        if same_boot:
            ended += sum(_end_group(record) for record in hub_dir.iterdir() if record.name.isdigit())
            ended += process_table.kill_marked(f"{hub_dir.name}.")
        shutil.rmtree(hub_dir, ignore_errors=True)
    return ended


def _end_group(record: Path) -> int:
    if not _is_running(record.name, _read(record).strip()):
        return 0
    process_table.signal_group(int(record.name), signal.SIGKILL)
    return 1


def _read(record: Path) -> str:
    """Return what a record holds; nothing when it cannot be read."""
    try:
        return record.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _is_running(pid: str, started: str) -> bool:
    return pid.isdigit() and process_table.is_running(int(pid), started)
