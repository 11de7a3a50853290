"""Putting files back to a recorded state, all or nothing, and without losing what was not recorded."""

import os
import stat
from collections.abc import Sequence

import trio

from clonk_claudecode.checkpoints.git import GitFailed
from clonk_claudecode.checkpoints.repository import Repository
from clonk_claudecode.checkpoints.shadow import Limits, Shadow
from clonk_claudecode.errors import NotRestorable


async def find_collisions(
    shadow: Shadow, repository: Repository, limits: Limits, now_tree: str, target: str
) -> list[bytes]:
    """Return the files that a restore would overwrite and that the recorded state does not hold, being ignored.

    Args:
        shadow: Of the session.
        repository: Where the files are.
        limits: Of what can be recorded.
        now_tree: The state of the files as recorded now.
        target: What is to be restored.

    Raises:
        NotRestorable: There is something that cannot be recorded.
        GitFailed: The states cannot be compared.
    """
    done = await shadow.run(
        "diff-tree", "-r", "-z", "--no-renames", "--name-only", "--diff-filter=AT", now_tree, target, at_top=True
    )
    new = [path for path in done.stdout.split(b"\0") if path]
    listed = await shadow.run("ls-tree", "-r", "-z", "--name-only", now_tree, at_top=True) if new else None
    known = frozenset(listed.stdout.split(b"\0")) if listed else frozenset[bytes]()
    return await trio.to_thread.run_sync(_collisions, os.fsencode(repository.top), new, known, limits)


def _collisions(top: bytes, new: Sequence[bytes], known: frozenset[bytes], limits: Limits) -> list[bytes]:
    files: list[bytes] = []
    for path in new:
        if _is_behind_recorded(top, path, known):
            continue
        try:
            status = os.lstat(os.path.join(top, path))  # noqa: PTH118 - bytes
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            _require_known(top, path, known)
        elif path not in known:
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
                raise NotRestorable(f"{_shown(path)} is neither a file nor a link and stands in the way; remove it")
            if status.st_size > limits.max_file_bytes:
                raise NotRestorable(f"{_shown(path)} is in no checkpoint, being too large, and would be lost; move it")
            files.append(path)
    return files


def _is_behind_recorded(top: bytes, path: bytes, known: frozenset[bytes]) -> bool:
    """Tell whether a file or link that is recorded stands where a path needs a folder: it gives way.

    Raises:
        NotRestorable: One stands there that is not recorded.
    """
    folder = os.path.dirname(path)  # noqa: PTH120 - bytes
    while folder:
        full = os.path.join(top, folder)  # noqa: PTH118 - bytes
        if os.path.lexists(full) and (os.path.islink(full) or not os.path.isdir(full)):  # noqa: PTH112, PTH114
            if folder in known:
                return True
            raise NotRestorable(f"{_shown(folder)} is in no checkpoint and stands in the way; move it")
        folder = os.path.dirname(folder)  # noqa: PTH120 - bytes
    return False


def _require_known(top: bytes, folder: bytes, known: frozenset[bytes]) -> None:
    """See that a folder which has to give way holds nothing that is not recorded."""
    for place, _folders, names in os.walk(os.path.join(top, folder)):  # noqa: PTH118 - bytes
        for name in names:
            inner = os.path.relpath(os.path.join(place, name), top)  # noqa: PTH118 - bytes
            if inner not in known:
                raise NotRestorable(f"{_shown(inner)} is in no checkpoint and stands in the way; move it")


async def switch(shadow: Shadow, now_tree: str, target: str) -> None:
    """Change the files from one recorded state to another. Git looks at everything before it changes anything.

    Raises:
        NotRestorable: The files are not what was recorded a moment ago, or something stands in the way.
    """
    try:
        # Whole: files that are half put back are a state that nobody wants.
        with trio.CancelScope(shield=True):
            await shadow.run("read-tree", "-m", "-u", now_tree, target, at_top=True)
    except GitFailed as error:
        raise NotRestorable("its files are changing, or something stands in the way; try again") from error


def reason_not_to(repository: Repository) -> str | None:
    """Return why files cannot be put back now, and what to do; None when they can."""
    operation = repository.operation()
    if operation is not None:
        return f"the repository is in the middle of a {operation}; finish or abort it"
    if (repository.git_dir / "index.lock").exists():
        return "another git command is at work in the repository; try again"
    return None


def _shown(path: bytes) -> str:
    return repr(path.decode(errors="replace"))
