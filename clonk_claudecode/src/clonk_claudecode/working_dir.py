"""Where a session may work: an existing folder below one of the allowed roots, symbolic links resolved.

Looked at when a session is created, and again before each prompt: folders, links and roots change.
"""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from clonk_claudecode.errors import WorkingDirLost
from clonk_core.plugin import InvalidParams

SHARED: Final = "shared"
"""Below the folder of workspaces: those that sessions share by name."""

MAX_PATH: Final = 4096
"""As Linux has it (PATH_MAX); also keeps the errors, which repeat it, short."""


class WorkingDirs:
    """The folders of sessions. Everything here touches the disk: for a thread.

    Args:
        configured: Where sessions work that name no folder, if it exists.
        own: Below it each session gets a folder of its own if not.
        roots: Allowed folders, resolved; `configured` is allowed too.
    """

    def __init__(self, *, configured: Path, own: Path, roots: Sequence[Path]) -> None:
        self._configured = configured
        self._own = own
        self._given_roots = roots

    def choose(self, given: str | None, session_id: str, workspace: str | None = None) -> Path:
        """Return the folder of a new session, made if it is one of its own, or a shared one that is not there yet.

        Args:
            given: An absolute path; None for none.
            session_id: For a folder of its own.
            workspace: Name of a shared folder; None for none.

        Raises:
            InvalidParams: As in `resolve_working_dir`; or both are given.
        """
        if workspace is not None:
            if given is not None:
                raise InvalidParams("give one of `working_dir` and `workspace`", path="$.workspace")
            return self._shared(workspace)
        if given is not None:
            return self._given(given)
        if self._configured.is_dir():
            return self._configured.resolve()
        own = self._own / session_id
        own.mkdir(parents=True, mode=0o700)
        return own.resolve()

    def _given(self, given: str) -> Path:
        path = resolve_working_dir(given, self.roots())
        own = self._own.resolve()
        if path in (own, own / SHARED):
            raise InvalidParams(
                f"{given!r} holds the folders of all sessions; leave it out for a new one, or give a `workspace`",
                path="$.working_dir",
            )
        return path

    def _shared(self, name: str) -> Path:
        shared = self._own / SHARED / name
        if shared.is_symlink():
            raise InvalidParams(f"the workspace {name!r} is a symbolic link on the server", path="$.workspace")
        try:
            shared.mkdir(parents=True, exist_ok=True, mode=0o700)
        except FileExistsError as error:
            raise InvalidParams(f"the workspace {name!r} is no folder on the server", path="$.workspace") from error
        return shared.resolve()

    def kind_of(self, path: Path) -> Literal["own", "shared", "given"]:
        """Tell what a session's folder is: made for it, shared by name, or one that it was given."""
        own = self._own.resolve()
        if not path.is_relative_to(own) or path == own:
            return "given"
        return "shared" if path.is_relative_to(own / SHARED) else "own"

    def check(self, path: Path) -> None:
        """See that a session's folder is still what it was when the session was created.

        Raises:
            WorkingDirLost: It is gone, no folder any more, behind a link, or not allowed any more.
        """
        if not any(path.is_relative_to(root) for root in self.roots()):
            raise WorkingDirLost(str(path), "is under no allowed root any more; `workspaces.roots` sets them")
        require_unmoved(path)

    def own_folder(self, session_id: str) -> Path:
        """Return where a session's own folder is, or would be."""
        return self._own.resolve() / session_id

    def owner_of(self, path: Path) -> str | None:
        """Return the id of the session that a folder was made for; None for a folder of another kind."""
        own = self._own.resolve()
        first = path.relative_to(own).parts[:1] if path.is_relative_to(own) else ()
        return first[0] if first and first[0].startswith("sess_") else None

    def drop_empty(self, session_id: str) -> None:
        """Remove the folder that was made for a session, if there is nothing in it."""
        with contextlib.suppress(OSError):
            (self._own / session_id).rmdir()

    def drop(self, session_id: str) -> None:
        """Remove the folder that was made for a session with all that is in it; links are removed, not followed."""
        shutil.rmtree(self._own / session_id, ignore_errors=True)

    def roots(self) -> Sequence[Path]:
        """Return what is allowed now: where a link leads may have changed."""
        return (*self._given_roots, self._configured.resolve())


def resolve_working_dir(given: str, roots: Sequence[Path]) -> Path:
    """Return the folder that `given` really is.

    Args:
        given: An absolute path.
        roots: Allowed folders, resolved.

    Raises:
        InvalidParams: It is not absolute, does not exist, is no folder, or lies outside of every root. Outside of the
            roots nothing is told of what exists.
    """
    if "\0" in given:
        raise InvalidParams("a path cannot hold a NUL character", path="$.working_dir")
    if len(given) > MAX_PATH:
        raise InvalidParams(f"a path has at most {MAX_PATH} characters", path="$.working_dir")
    path = Path(given)
    if not path.is_absolute():
        raise InvalidParams(f"must be an absolute path, not {given!r}", path="$.working_dir")
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links, a name that is too long
        raise InvalidParams("cannot be resolved: too long, or a loop of links", path="$.working_dir") from error
    if not any(resolved.is_relative_to(root) for root in roots):
        allowed = ", ".join(str(root) for root in roots)
        raise InvalidParams(
            f"{given!r} is not under an allowed root ({allowed}); `workspaces.roots` sets them", path="$.working_dir"
        )
    if not resolved.is_dir():
        raise InvalidParams(f"{given!r} is no folder; create it first", path="$.working_dir")
    return resolved


def require_unmoved(path: Path) -> None:
    """See that a resolved path still leads to a folder, and through no symbolic link.

    Raises:
        WorkingDirLost: It does not.
    """
    if not path.is_dir():
        raise WorkingDirLost(str(path), "is gone; put it back, or create another session")
    if path.resolve() != path:
        raise WorkingDirLost(str(path), "leads elsewhere now, through a symbolic link; create another session")
