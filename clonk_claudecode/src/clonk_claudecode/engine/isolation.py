"""What keeps a session's process apart: limits of resources, another user, a sandbox of bubblewrap's."""

import os
import pwd
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

from clonk_claudecode.engine.project_folder import folder_name
from clonk_claudecode.errors import IsolationUnavailable

NAMESPACES: Final = ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
"""Not that of the network: Claude Code talks to its API. Its processes see neither those of the server nor their
environments."""


SHARED_FOLDERS: Final = ("projects", "todos", "session-env", "file-history", "tasks", "shell-snapshots", "debug")
"""Folders below the binary's own that hold things of every session."""


@attrs.frozen(kw_only=True)
class ResourceLimits:
    """Limits of each single process of a session, as the kernel keeps them (setrlimit(2)); None for none.

    Attributes:
        memory_bytes: Private memory (RLIMIT_DATA).
        cpu_s: Seconds of processor time (RLIMIT_CPU).
        processes: Processes and threads of the user that it runs as (RLIMIT_NPROC); not kept for root.
        open_files: Open files (RLIMIT_NOFILE).
        file_bytes: Size of a file that is written (RLIMIT_FSIZE).
    """

    memory_bytes: int | None = None
    cpu_s: int | None = None
    processes: int | None = None
    open_files: int | None = None
    file_bytes: int | None = None

    def options(self) -> tuple[str, ...]:
        """Return the limits as options of prlimit(1)."""
        wanted = {
            "data": self.memory_bytes,
            "cpu": self.cpu_s,
            "nproc": self.processes,
            "nofile": self.open_files,
            "fsize": self.file_bytes,
        }
        return tuple(f"--{name}={limit}:{limit}" for name, limit in wanted.items() if limit is not None)


@attrs.frozen(kw_only=True)
class Sandbox:
    """A sandbox of bubblewrap's.

    Attributes:
        bwrap_path: The program; None searches for it on PATH.
        writable: Further folders that a session may write to.
        hidden: Folders whose contents it does not see, the server's own data first of all.
    """

    bwrap_path: Path | None = None
    writable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()


@attrs.frozen(kw_only=True)
class Isolation:
    """How a session's process is kept apart.

    Attributes:
        limits: Of resources.
        sandbox: None for none.
        user: Name of the user that it runs as; None for the server's own.
    """

    limits: ResourceLimits = attrs.field(factory=ResourceLimits)
    sandbox: Sandbox | None = None
    user: str | None = None


def limited(argv: Sequence[str], limits: ResourceLimits) -> tuple[str, ...]:
    """Return the command that runs `argv` within limits, set before it begins: it may reserve memory at once.

    Raises:
        IsolationUnavailable: There is no prlimit(1).
    """
    options = limits.options()
    if not options:
        return tuple(argv)
    program = shutil.which("prlimit")
    if program is None:
        raise IsolationUnavailable(
            "claudecode.limits needs the program `prlimit` of util-linux (Linux alone); install it, or leave them out"
        )
    return (program, *options, "--", *argv)


def find_bwrap(sandbox: Sandbox) -> Path:
    """Return the program.

    Raises:
        IsolationUnavailable: It is not there: a session that is to have a sandbox does not start without one.
    """
    found = shutil.which(sandbox.bwrap_path or "bwrap")
    if found is None:
        raise IsolationUnavailable(
            "claudecode.sandbox is on and there is no bubblewrap (`bwrap`); install the package `bubblewrap`, or set "
            "claudecode.sandbox.bwrap_path"
        )
    return Path(found)


def sandboxed(argv: Sequence[str], sandbox: Sandbox, *, working_dir: Path, config_dir: Path) -> tuple[str, ...]:
    """Return the command that runs `argv` in a sandbox: all can be read but what is hidden, little can be written.

    Args:
        argv: Program and arguments.
        sandbox: What the configuration says.
        working_dir: Where it works; to be written.
        config_dir: The binary's own folder; to be written.

    Raises:
        IsolationUnavailable: There is no bubblewrap.
    """
    bwrap = find_bwrap(sandbox)
    own = config_dir / "projects" / folder_name(str(working_dir))
    own.mkdir(parents=True, exist_ok=True, mode=0o700)
    shown = [path for path in (*sandbox.writable, config_dir, working_dir) if path.exists()]
    # Of what the binary keeps of all sessions, the conversations of this folder alone.
    others = [config_dir / name for name in SHARED_FOLDERS if (config_dir / name).is_dir()]
    hidden = [path for path in sandbox.hidden if path.is_dir()]
    return (
        str(bwrap),
        *NAMESPACES,
        "--new-session",
        *("--ro-bind", "/", "/"),
        *("--dev", "/dev"),
        *("--proc", "/proc"),
        *("--tmpfs", "/tmp"),  # noqa: S108 - one of its own
        *(word for path in hidden for word in ("--tmpfs", str(path))),
        *_kept_readable(argv[0], hidden),
        *(word for path in shown for word in ("--bind", str(path), str(path))),
        *(word for path in others for word in ("--tmpfs", str(path))),
        *("--bind", str(own), str(own)),
        *("--chdir", str(working_dir)),
        "--",
        *argv,
    )


def _kept_readable(program: str, hidden: Sequence[Path]) -> tuple[str, ...]:
    """Show the program itself where it lies below what is hidden."""
    path = Path(program).resolve()
    below_tmp = path.is_relative_to("/tmp")  # noqa: S108 - where the sandbox has a folder of its own
    if below_tmp or any(path.is_relative_to(folder) for folder in hidden):
        return ("--ro-bind", str(path), program)
    return ()


def open_to_user(user: str, folders: Sequence[Path], *, below: Path) -> int:
    """Give folders of ours to another user, and let that user pass to them. Return the user's number.

    Args:
        user: The user's name.
        folders: What the user shall own, with all that is in it.
        below: The data directory. Down from it, whoever knows the way may pass, and look at nothing.

    Raises:
        IsolationUnavailable: There is no such user, or the server may not give files away.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError as error:
        raise IsolationUnavailable(f"claudecode.run_as names the user {user!r}, who does not exist") from error
    try:
        for folder in folders:
            for parent in (folder, *folder.parents):
                if not parent.is_relative_to(below):
                    break
                if parent is not folder:
                    parent.chmod(stat.S_IMODE(parent.stat().st_mode) | stat.S_IXOTH)
            _give(folder, account.pw_uid, account.pw_gid)
    except PermissionError as error:
        raise IsolationUnavailable(
            "claudecode.run_as needs a server that may change the owner of files, such as one that runs as root"
        ) from error
    return account.pw_uid


def _give(folder: Path, uid: int, gid: int) -> None:
    """Change the owner of a folder and of what is in it, links themselves and not where they lead."""
    if folder.stat().st_uid == uid:
        return  # what is in it was made by that user, or given with it
    os.chown(folder, uid, gid)
    for place, names, files in os.walk(folder):
        for name in (*names, *files):
            os.chown(os.path.join(place, name), uid, gid, follow_symlinks=False)  # noqa: PTH118 - of many files
