"""How a work tree stands, told by a process of ours that stays: git's own start takes as long as a look at 500 files.

It has libgit2 in it, which is for a process of its own: what a workspace holds is read there by a library in C, a file
that is cut meanwhile can end it, and one that never ends can hold it up. When it has no answer, for whatever reason,
git is asked.
"""

import json
import math
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from clonk_core.plugin import Log
from clonk_gitsync.git.shadow import Shadow

ANSWER_S: Final = 1.0
"""Longest time for an answer; git is quicker then."""

AGAIN_S: Final = 60.0
"""Seconds in which a workspace of which it was not sure is not asked for, and a process that broke is not replaced."""

MAX_INDEX_BYTES: Final = 64 * 1024
"""A larger index is git's: beyond some 700 files its several threads make good for its start."""

PROGRAM: Final = ("-I", "-m", "clonk_gitsync.git.glance_process")


@attrs.frozen(kw_only=True)
class Glance:
    """What `git status` would count. Nothing is staged.

    Attributes:
        unstaged: Files that are not as in the index.
        untracked: Files that git does not know.
    """

    unstaged: int
    untracked: int


class Glances:
    """Asks the process, which is started when it is first wanted. One question at a time.

    Args:
        home: An empty folder of ours: its HOME.
        log: Told when it breaks.
        wanted: Whether it may be started at all.
    """

    def __init__(self, home: Path, log: Log, *, wanted: bool) -> None:
        self._home = home
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._is_asked = False
        self._not_before = 0.0 if wanted else math.inf

    async def ask(self, shadow: Shadow) -> Glance | None:
        """Return how the files of a workspace stand.

        Args:
            shadow: Our folder beside it, whose index is the workspace's.

        Returns:
            None when git has to tell.
        """
        folder = shadow.folder_in_use
        if shadow.head is None or not folder.can_be_kept or time.monotonic() < folder.no_glance_before:
            return None
        is_small = folder.copied is not None and folder.copied.size <= MAX_INDEX_BYTES
        if not is_small or self._is_asked or not self._is_there():
            return None
        self._is_asked, answer = True, None
        question = {
            "folder": str(folder.path),
            "top": str(shadow.repository.top),
            "objects": f"{shadow.repository.common_dir}/objects",
            "head": shadow.head,
        }
        try:
            # Nobody who leaves early leaves an answer behind for the next question.
            with trio.move_on_after(ANSWER_S, shield=True):
                answer = await self._exchange(question)
        finally:
            self._is_asked = False
        if answer is None:  # it is too late, or gone
            self._break()
        if answer is not None and "unsure" not in answer:
            return Glance(**answer)
        folder.no_glance_before = time.monotonic() + AGAIN_S
        return None

    def close(self) -> None:
        """End the process; it is not started again."""
        self._not_before = math.inf
        self._end()

    def _is_there(self) -> bool:
        """Tell whether it can be asked. Started it is at the first time, but not waited for."""
        if self._process is not None and self._process.poll() is not None:
            self._break()
        if self._process is None:
            if time.monotonic() >= self._not_before:
                self._start()
            return False
        if not self._is_ready:
            with suppress(BlockingIOError, ValueError):
                self._is_ready = json.loads(self._read()) == {"ready": True}
        return self._is_ready

    def _start(self) -> None:
        environ = {"PATH": os.defpath, "HOME": str(self._home), "XDG_CONFIG_HOME": str(self._home), "LC_ALL": "C.UTF-8"}
        try:
            self._process = subprocess.Popen(
                [sys.executable, *PROGRAM],
                cwd=self._home,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            self._log.warning("no process tells how workspaces stand; git does", reason=str(error))
            self._not_before = time.monotonic() + AGAIN_S
            return
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None  # noqa: S101 - for the type checker
            os.set_blocking(stream.fileno(), False)

    async def _exchange(self, question: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer; None when there is none."""
        assert self._process is not None  # noqa: S101 - for the type checker
        assert self._process.stdin is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        try:
            # A question is shorter than what a pipe takes, and the one before was answered.
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            line = b""
            while not line.endswith(b"\n"):
                await trio.lowlevel.wait_readable(self._process.stdout.fileno())
                chunk = self._read()
                if not chunk:
                    return None
                line += chunk
            answer: dict[str, Any] = json.loads(line)
        except (OSError, ValueError, trio.ClosedResourceError):
            return None
        return answer

    def _read(self) -> bytes:
        assert self._process is not None  # noqa: S101 - for the type checker
        assert self._process.stdout is not None  # noqa: S101
        return os.read(self._process.stdout.fileno(), 65_536)

    def _break(self) -> None:
        if self._process is None:
            return
        code = self._process.poll()
        if code != 0:  # else it has ended by itself, as nothing was asked for a while
            self._log.warning("the process that tells how workspaces stand gave no answer; git does", code=code)
            self._not_before = max(self._not_before, time.monotonic() + AGAIN_S)
        self._end()

    def _end(self) -> None:
        process, self._process, self._is_ready = self._process, None, False
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    trio.lowlevel.notify_closing(stream.fileno())
                    stream.close()
