"""Git, run by argument list: nothing that a workspace or this machine configures is executed or asked for.

What git reads here are settings of our own: the repositories that it works on are ours (`shadow.py`, `hub.py`). Only a
few plumbing commands read a workspace's own settings, none of which starts a program; and what could start one is
switched off on the command line, which git believes over every file.

A server that runs as root works on a workspace as its owner: what git reads there was written by the owner, and what it
makes belongs to the owner.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import trio

from clonk_gitsync.git import child as children
from clonk_gitsync.git.options import ENVIRONMENT, OPTIONS

MAX_OUTPUT: Final = 256 * 1024**2
"""Bytes of standard output that are kept; a command that says more is ended. 100 000 names are some 10 MB."""

SAID_CHARS: Final = 1000
"""Of the complaint, for the log."""

FIXED: Final = tuple(word for option in OPTIONS for word in ("-c", option))

LIMIT_S: Final = 600.0
"""Longest time for a command that is given no other."""


Owner: TypeAlias = children.Owner
OnLine: TypeAlias = children.OnLine


def owner_of(folder: Path) -> Owner:
    """Return user and group of a folder, when root shall work there as them; else None."""
    if os.geteuid() != 0:
        return None
    status = folder.stat()
    return None if status.st_uid == 0 else (status.st_uid, status.st_gid)


class GitFailed(Exception):
    """Git did not do it. For the log alone: git's words may tell of what the caller must not know.

    Args:
        command: The subcommand.
        said: The end of its complaint.
    """

    def __init__(self, command: str, said: str) -> None:
        super().__init__(f"git {command}: {said}")
        self.said = said


class GitMissing(GitFailed):
    """There is no git."""

    def __init__(self) -> None:
        super().__init__("", "there is no git on PATH")


class GitTooSlow(GitFailed):
    """It took longer than it may."""


class GitTooMuch(GitFailed):
    """It said more than is kept."""


@attrs.frozen(kw_only=True)
class Done:
    """What came of a command.

    Attributes:
        code: Its exit code.
        output: Its standard output.
        said: The end of its standard error.
    """

    code: int
    output: bytes
    said: str

    @property
    def text(self) -> str:
        """The output without the white space around it."""
        return self.output.decode(errors="replace").strip()


class Git:
    """Runs git.

    Args:
        home: An empty folder of ours: git's HOME.
        environ: The hub's environment, for PATH; the process's own when None.
        large_files: Whether git-lfs is used where it is there.

    Attributes:
        home: As given.
        lfs_program: The git-lfs that was beside it at the start, absolute; None when none is used.
    """

    def __init__(self, home: Path, environ: Mapping[str, str] | None = None, *, large_files: bool = True) -> None:
        self.home = home
        self._path = (os.environ if environ is None else environ).get("PATH", os.defpath)
        self._program: str | None = None
        found = shutil.which("git-lfs", path=self._path) if large_files else None
        self.lfs_program = None if found is None else str(Path(found).absolute())

    @property
    def program(self) -> str | None:
        """The git that is run; None when there is none. One that was found stays, until it cannot be started."""
        self._program = self._program or shutil.which("git", path=self._path)
        return self._program

    def environment(self) -> dict[str, str]:
        """Return the variables that every command has; nothing of the hub's own but PATH."""
        return {"PATH": self._path, "HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home), **ENVIRONMENT}

    async def run(
        self,
        *arguments: str | bytes | Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        stdin: bytes | int = b"",
        stdout: int | None = None,
        owner: Owner = None,
        pass_fds: Sequence[int] = (),
        check: bool = True,
        limit_s: float = LIMIT_S,
        max_output: int = MAX_OUTPUT,
        cut_output: bool = False,
        on_line: OnLine | None = None,
        with_remote: bool = False,
        settings_are_ours: bool = False,
    ) -> Done:
        """Run a subcommand and return what came of it. Cancelled or out of time, it ends with all it has started.

        Args:
            arguments: The subcommand and what follows.
            cwd: Where it runs.
            env: Variables beside those that keep foreign settings away.
            options: Further settings, `name=value`.
            stdin: Given to it, or a descriptor to read from.
            stdout: A descriptor that takes its output; it is kept when None.
            owner: As whom it runs, when not as the hub.
            pass_fds: Descriptors that it and its children have too.
            check: Whether another exit code than 0 raises.
            limit_s: Seconds it may take.
            max_output: Bytes it may say.
            cut_output: Whether it is ended well, with what it has said so far, when it would say more.
            on_line: Told each line of its standard error, as it comes.
            with_remote: Whether it speaks with a remote; programs of its transport might look for a terminal.
            settings_are_ours: Whether all settings that it can read are ours and hold what `OPTIONS` says: it need not
                be said once more, which takes git a quarter of a millisecond to read.

        Raises:
            GitMissing: There is none.
            GitTooSlow: The time was up.
            GitTooMuch: It said more than `max_output`.
            GitFailed: It cannot be started, or failed.
        """
        program, name = self.program, str(arguments[0])
        if program is None:
            raise GitMissing
        fixed = () if settings_are_ours else FIXED
        words = [program, *fixed, *(word for option in options for word in ("-c", option)), *arguments]
        try:
            child = await children.Child.start(
                words,
                cwd=cwd,
                env={**self.environment(), **(env or {})},
                stdin=stdin,
                stdout=stdout,
                owner=owner,
                pass_fds=pass_fds,
                max_output=max_output,
                on_line=on_line,
                away_from_terminal=with_remote,
            )
        except (OSError, ValueError) as error:
            self._program = None
            raise GitFailed(name, getattr(error, "strerror", None) or "cannot be started") from error
        try:
            with trio.fail_after(limit_s):
                code = await child.wait()
        except trio.TooSlowError as error:
            raise GitTooSlow(name, f"it took longer than {limit_s:g} s") from error
        if child.too_much and not cut_output:
            raise GitTooMuch(name, f"it said more than {max_output} bytes")
        code = 0 if child.too_much else code
        done = Done(code=code, output=bytes(child.output), said=child.said.decode(errors="replace"))
        if check and done.code != 0:
            raise GitFailed(name, done.said.strip()[-SAID_CHARS:])
        return done
