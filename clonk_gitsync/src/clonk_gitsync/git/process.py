"""Git, run by argument list: nothing that a workspace or this machine configures is executed or asked for.

What git reads here are settings of our own: the repositories that it works on are ours (`shadow.py`, `hub.py`). Only a
few plumbing commands read a workspace's own settings, none of which starts a program; and what could start one is
switched off on the command line, which git believes over every file.

A server that runs as root works on a workspace as its owner: what git reads there was written by the owner, and what it
makes belongs to the owner.
"""

import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE
from typing import Final, TypeAlias

import attrs
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
    "core.sshCommand=false",
    "core.gitProxy=",
    "core.askPass=false",
    "core.pager=cat",
    "core.editor=false",
    "core.commitGraph=false",
    "core.quotePath=false",
    "sequence.editor=false",
    "credential.helper=",
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "push.gpgSign=false",
    "gpg.program=false",
    "gpg.ssh.program=false",
    "gpg.x509.program=false",
    "log.showSignature=false",
    "merge.verifySignatures=false",
    "diff.external=",
    "diff.ignoreSubmodules=all",
    "diff.submodule=short",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    "push.followTags=false",
    "push.default=nothing",
    "remote.pushDefault=",
    "uploadpack.packObjectsHook=",
    "fetch.writeCommitGraph=false",
    "fetch.bundleURI=",
    "transfer.bundleURI=false",
    "transfer.advertiseSID=false",
    "http.followRedirects=false",
    "http.sslVerify=true",
    "http.cookieFile=",
    "http.extraHeader=",
    "protocol.allow=never",
    "protocol.version=2",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "init.templateDir=",
    "init.defaultBranch=main",
    "safe.directory=*",
)

MAX_OUTPUT: Final = 256 * 1024**2
"""Bytes of standard output that are kept; a command that says more is ended. 100 000 names are some 10 MB."""

SAID_BYTES: Final = 64 * 1024
"""Of what git complained about; the end of it counts."""

SAID_CHARS: Final = 1000
"""Of the complaint, for the log."""

LIMIT_S: Final = 600.0
"""Longest time for a command that is given no other."""

Owner: TypeAlias = tuple[int, int] | None
OnLine: TypeAlias = Callable[[str], Awaitable[None]]


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
        lfs_program: The git-lfs that was beside it at the start, absolute; None when none is used.
    """

    def __init__(self, home: Path, environ: Mapping[str, str] | None = None, *, large_files: bool = True) -> None:
        self._home = home
        self._path = (os.environ if environ is None else environ).get("PATH", os.defpath)
        found = shutil.which("git-lfs", path=self._path) if large_files else None
        self.lfs_program = None if found is None else str(Path(found).absolute())

    @property
    def program(self) -> str | None:
        """The git that is run; None when there is none."""
        return shutil.which("git", path=self._path)

    def environment(self) -> dict[str, str]:
        """Return the variables that every command has; nothing of the hub's own but PATH."""
        return {
            "PATH": self._path,
            "HOME": str(self._home),
            "XDG_CONFIG_HOME": str(self._home),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "false",
            "SSH_ASKPASS": "false",
            "GIT_SSH_COMMAND": "false",
            "GIT_EDITOR": "false",
            "GIT_PAGER": "cat",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_ALLOW_PROTOCOL": "",
        }

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
        on_line: OnLine | None = None,
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
            on_line: Told each line of its standard error, as it comes.

        Raises:
            GitMissing: There is none.
            GitTooSlow: The time was up.
            GitTooMuch: It said more than `max_output`.
            GitFailed: It cannot be started, or failed.
        """
        program, name = self.program, str(arguments[0])
        if program is None:
            raise GitMissing
        words = [program, *(word for option in (*OPTIONS, *options) for word in ("-c", option)), *arguments]
        try:
            process = await trio.lowlevel.open_process(
                words,
                cwd=cwd,
                env={**self.environment(), **(env or {})},
                stdin=stdin if isinstance(stdin, int) else PIPE,
                stdout=PIPE if stdout is None else stdout,
                stderr=PIPE,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
                user=None if owner is None else owner[0],
                group=None if owner is None else owner[1],
                extra_groups=None if owner is None else (),
            )
        except (OSError, ValueError) as error:
            raise GitFailed(name, getattr(error, "strerror", None) or "cannot be started") from error
        talk = _Talk(process, max_output, on_line)
        try:
            with trio.fail_after(limit_s):
                await talk.hold(stdin if isinstance(stdin, bytes) else None)
        except trio.TooSlowError as error:
            raise GitTooSlow(name, f"it took longer than {limit_s:g} s") from error
        finally:
            await _end(process)
        done = Done(
            code=process.returncode or 0, output=bytes(talk.output), said=bytes(talk.said).decode(errors="replace")
        )
        if talk.too_much:
            raise GitTooMuch(name, f"it said more than {max_output} bytes")
        if check and done.code != 0:
            raise GitFailed(name, done.said.strip()[-SAID_CHARS:])
        return done


class _Talk:
    """Feeds a process and keeps what it says."""

    def __init__(self, process: trio.Process, max_output: int, on_line: OnLine | None) -> None:
        self._process = process
        self._max_output = max_output
        self._on_line = on_line
        self.output = bytearray()
        self.said = bytearray()
        self.too_much = False

    async def hold(self, stdin: bytes | None) -> None:
        """Return when the process has ended and all is read."""
        async with trio.open_nursery() as nursery:
            if self._process.stdin is not None:
                nursery.start_soon(self._feed, stdin or b"")
            if self._process.stdout is not None:
                nursery.start_soon(self._read_output)
            nursery.start_soon(self._read_said)
            await self._process.wait()

    async def _feed(self, stdin: bytes) -> None:
        stream = self._process.stdin
        assert stream is not None  # noqa: S101 - for the type checker
        async with stream:
            with suppress(trio.BrokenResourceError):  # it has ended without reading all; its exit code says why
                if stdin:
                    await stream.send_all(stdin)

    async def _read_output(self) -> None:
        stream = self._process.stdout
        assert stream is not None  # noqa: S101 - for the type checker
        async for chunk in stream:
            if len(self.output) + len(chunk) > self._max_output:
                self.too_much = True
                _kill(self._process)
                return
            self.output += chunk

    async def _read_said(self) -> None:
        stream = self._process.stderr
        assert stream is not None  # noqa: S101 - for the type checker
        rest = b""
        async for chunk in stream:
            self.said += chunk
            del self.said[:-SAID_BYTES]
            if self._on_line is not None:
                *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
                rest = rest[-SAID_CHARS:]
                for line in lines:
                    await self._on_line(line.decode(errors="replace"))


def _kill(process: trio.Process) -> None:
    # Its own session, so its group is what it has started: transports, pack programs.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _end(process: trio.Process) -> None:
    _kill(process)
    with trio.CancelScope(shield=True):
        await process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                await stream.aclose()
