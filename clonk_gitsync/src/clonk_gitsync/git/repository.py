"""Which git repository a folder is in. Found without git, so that none of its settings counts."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

from clonk_gitsync.git.plain_files import open_plain

MAX_POINTER_BYTES: Final = 8192
"""A `.git` file holds one path."""

MAX_ALTERNATES: Final = 5
"""As deep as git itself follows repositories that borrow objects of others."""

OPERATIONS: Final = {
    "MERGE_HEAD": "merge",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "BISECT_LOG": "bisect",
}
"""What lies in a repository's folder while it is in the middle of something."""


class NoRepository(Exception):
    """There is no repository that may be used.

    Args:
        reason: Why, in words that follow "the folder".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@attrs.frozen(kw_only=True)
class Repository:
    """A git repository with its files.

    Attributes:
        top: Root of the work tree.
        git_dir: What belongs to this work tree alone: HEAD, index, a merge in progress.
        common_dir: What all work trees share: objects, refs. The same as `git_dir` in the first one.
        prefix: The folder that was asked for, relative to `top`, ending with `/`; empty for `top` itself.
    """

    top: Path
    git_dir: Path
    common_dir: Path
    prefix: str

    @property
    def folder(self) -> Path:
        """The folder that was asked for."""
        return self.top / self.prefix if self.prefix else self.top

    @property
    def is_linked(self) -> bool:
        """Whether it is a further work tree, whose repository lies elsewhere."""
        return self.git_dir != self.common_dir

    def operation(self) -> str | None:
        """Return what it is in the middle of: `merge`, `rebase`, ...; None for nothing."""
        return next((words for name, words in OPERATIONS.items() if os.path.lexists(f"{self.git_dir}/{name}")), None)

    def head_branch(self) -> str | None:
        """Return the branch that is checked out, whether it has a commit or not; None for a detached HEAD.

        Read from the file: git's own answer costs a process.
        """
        try:
            text = _read_pointer(self.git_dir / "HEAD").rstrip("\n")
        except OSError:  # a link, as an old git made them
            return None
        return text.removeprefix("ref: refs/heads/") if text.startswith("ref: refs/heads/") else None

    def is_checked_out_elsewhere(self, branch: str) -> bool:
        """Tell whether another work tree of the repository has a branch checked out. Touches the disk."""
        with suppress(OSError):
            others = [self.common_dir, *(self.common_dir / "worktrees").iterdir()]
            return any(_is_at(other, branch) for other in others if other != self.git_dir)
        return False


def _is_at(git_dir: Path, branch: str) -> bool:
    with suppress(OSError):
        return _read_pointer(git_dir / "HEAD").rstrip("\n") == f"ref: refs/heads/{branch}"
    return False


def find_repository(folder: Path, roots: Sequence[Path]) -> Repository:
    """Return the repository that a folder is in. Touches the disk: for a thread.

    Args:
        folder: Resolved.
        roots: Allowed folders, resolved. What lies above them is not looked at, and a repository whose own folder is
            elsewhere is not used: a workspace can name any.

    Raises:
        NoRepository: It is in none that can be used.
    """
    for top in (folder, *folder.parents):
        if not _is_below(top, roots):
            break
        if os.path.lexists(top / ".git"):
            prefix = folder.relative_to(top).as_posix()
            return _repository(top, "" if prefix == "." else f"{prefix}/", roots)
        if all((top / name).exists() for name in ("HEAD", "objects", "refs")):
            raise NoRepository("is in a bare git repository, which has no files of its own")
    raise NoRepository("is in no git repository")


def _repository(top: Path, prefix: str, roots: Sequence[Path]) -> Repository:
    try:
        git_dir = _git_dir(top / ".git").resolve()
        common_dir = _common_dir(git_dir)
        parts = [git_dir, common_dir, *(_followed(common_dir / name) for name in ("objects", "refs"))]
        is_whole = (git_dir / "HEAD").is_file() and (common_dir / "objects").is_dir()
    except (OSError, RuntimeError, ValueError) as error:
        raise NoRepository("is in a git repository that cannot be read") from error
    if not all(_is_below(part, roots) for part in parts):
        raise NoRepository("is in a git repository that lies outside of the allowed roots")
    if (top / ".git").is_symlink() or (git_dir != top / ".git" and not _is_linked_from(git_dir, top)):
        raise NoRepository("is in a git repository that belongs to another folder")
    if not is_whole:
        raise NoRepository("is in a git repository that is broken")
    _check_objects(common_dir / "objects", roots)
    return Repository(top=top, git_dir=git_dir, common_dir=common_dir, prefix=prefix)


def _is_linked_from(git_dir: Path, top: Path) -> bool:
    """Tell whether a repository knows this further work tree of it: a `.git` file could name any repository."""
    try:
        return Path(_read_pointer(git_dir / "gitdir").strip()) == top / ".git"
    except OSError:
        return False


def _check_objects(objects: Path, roots: Sequence[Path], depth: int = 0) -> None:
    """Refuse objects that are kept elsewhere: by them a workspace could have another's files pushed as its own."""
    if depth > MAX_ALTERNATES:
        raise NoRepository("borrows objects of too many repositories")
    for folder in (objects, objects / "pack", objects / "info"):
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            if any(entry.is_symlink() for entry in entries):
                raise NoRepository("is in a git repository whose objects are symbolic links")
    alternates = objects / "info" / "alternates"
    if not alternates.is_file():
        return
    for line in _read_pointer(alternates).splitlines():
        if not line or line.startswith("#"):
            continue
        other = (objects / line).resolve()
        if line.startswith('"') or not _is_below(other, roots):
            raise NoRepository("borrows objects of a git repository that lies outside of the allowed roots")
        _check_objects(other, roots, depth + 1)


def _git_dir(dot_git: Path) -> Path:
    if dot_git.is_dir():
        return dot_git
    text = _read_pointer(dot_git)
    if not text.startswith("gitdir:"):
        raise ValueError("no pointer to a repository")
    return dot_git.parent / text.removeprefix("gitdir:").strip()


def _common_dir(git_dir: Path) -> Path:
    pointer = git_dir / "commondir"
    return (git_dir / _read_pointer(pointer).strip()).resolve() if pointer.is_file() else git_dir


def _followed(path: Path) -> Path:
    """Return where a path leads to whose folder is resolved already."""
    return path.resolve() if path.is_symlink() else path


def _read_pointer(path: Path) -> str:
    with open_plain(path) as file:
        return os.fsdecode(file.read(MAX_POINTER_BYTES))


def _is_below(path: Path, roots: Sequence[Path]) -> bool:
    # Both are resolved, without "..". Asked ten times in each operation, and `is_relative_to` is slow.
    text = f"{path}/"
    return any(text.startswith(str(root).rstrip("/") + "/") for root in roots)
