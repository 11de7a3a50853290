"""Git, run by argument list: nothing that a workspace or this machine configures is executed or asked for.

What a repository's own settings could run is switched off on the command line, which git believes over every file:
hooks, the file system monitor, transports, and with them the fetching of objects that a partial clone lacks. Filters
cannot be switched off without knowing their names; the commands that would run them never read the repository's
settings (see shadow.py).

A server that runs as root works on a repository as its owner, who can then go on with what git has made: the user that
sessions run as (`claudecode.run_as`).
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final

import trio

OPTIONS: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.splitIndex=false",
    "core.sparseCheckout=false",
    "core.attributesFile=/dev/null",
    "core.autocrlf=false",
    "core.safecrlf=false",
    "core.logAllRefUpdates=false",
    "core.sshCommand=false",
    "core.commitGraph=false",
    "protocol.allow=never",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "safe.directory=*",
)

SAID_CHARS: Final = 500
"""Of what git complained about, for the log."""


def owner_of(folder: Path) -> tuple[int, int] | None:
    """Return user and group of a folder, when root shall work there as them; else None."""
    if os.geteuid() != 0:
        return None
    status = folder.stat()
    return None if status.st_uid == 0 else (status.st_uid, status.st_gid)


class GitFailed(Exception):
    """Git did not do it. For the log alone: git's words may tell of files that the caller must not know.

    Args:
        command: The subcommand.
        said: The end of its complaint.
    """

    def __init__(self, command: str, said: str) -> None:
        super().__init__(f"git {command}: {said}")


class GitMissing(GitFailed):
    """There is no git."""

    def __init__(self) -> None:
        super().__init__("", "there is no git on PATH")


class Git:
    """Runs git.

    Args:
        environ: The hub's environment, for PATH; the process's own when None.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._path = (os.environ if environ is None else environ).get("PATH", os.defpath)

    @property
    def is_there(self) -> bool:
        """Whether there is a git to run."""
        return shutil.which("git", path=self._path) is not None

    async def run(
        self,
        *arguments: str | Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        stdin: bytes = b"",
        check: bool = True,
    ) -> CompletedProcess[bytes]:
        """Run a subcommand and return what came of it.

        Args:
            arguments: The subcommand and what follows.
            cwd: Where it runs.
            env: Variables beside those that keep foreign settings away.
            options: Further settings, `name=value`.
            stdin: Given to it.
            check: Whether another exit code than 0 raises.

        Raises:
            GitMissing: There is none.
            GitFailed: It cannot be started, or failed.
        """
        settings = [word for option in (*OPTIONS, *options) for word in ("-c", option)]
        environment = {
            "PATH": self._path,
            "HOME": "/nonexistent",
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            **(env or {}),
        }
        program = shutil.which("git", path=self._path)
        if program is None:
            raise GitMissing
        try:
            owner = owner_of(cwd)
            done = await trio.run_process(
                [program, *settings, *arguments],
                cwd=cwd,
                env=environment,
                stdin=stdin,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                user=None if owner is None else owner[0],
                group=None if owner is None else owner[1],
                extra_groups=None if owner is None else (),
            )
        except OSError as error:
            raise GitFailed(str(arguments[0]), error.strerror or "cannot be started") from error
        if check and done.returncode != 0:
            raise GitFailed(str(arguments[0]), done.stderr.decode(errors="replace").strip()[-SAID_CHARS:])
        return done

    async def in_repository(
        self, folder: Path, *arguments: str | Path, stdin: bytes = b"", check: bool = True
    ) -> CompletedProcess[bytes]:
        """Run a subcommand that neither reads nor writes files of a work tree, on a repository's own folder.

        Raises:
            GitFailed: As in `run`.
        """
        return await self.run(*arguments, cwd=folder, env={"GIT_DIR": str(folder)}, stdin=stdin, check=check)
