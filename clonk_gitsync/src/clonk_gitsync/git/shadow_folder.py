"""The folders of shadows: made for one operation, or kept for the next one on the same workspace.

A kept folder saves making and removing some files, which costs as much as a small `git status`, and keeps what git
has learnt of files that look changed and are not. Nothing of it is believed: settings, HEAD and refs are compared
with what they should be at each use, and its index counts only while the workspace's own has not been written since
it was copied, and nothing but looking was done with it. Folders that belong to another user are never kept: that user
could change them meanwhile.
"""

import os
import shutil
import stat
import tempfile
import threading
import time
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

import attrs

from clonk_gitsync.git.options import OPTIONS, as_file
from clonk_gitsync.git.process import Owner, owner_of
from clonk_gitsync.git.refs import NotPlain, read_head
from clonk_gitsync.git.repository import Repository

MAX_KEPT: Final = 64
"""Folders that wait for the next operation on their workspace. Each holds a copy of an index."""

LEARNING_S: Final = 5.0
"""Seconds between two times that git writes down what it has learnt of a workspace's files."""

SETTINGS: Final = as_file(OPTIONS) + """[core]
\trepositoryformatversion = 1
\tbare = false
[extensions]
{extensions}[remote "clonk"]
\turl = .
\tfetch = +refs/heads/*:refs/remotes/clonk/*
[branch "clonk"]
\tremote = clonk
\tmerge = refs/heads/tip"""
"""With a branch that follows another, of which `git status` counts what each has and the other lacks."""

HEAD: Final = "refs/heads/clonk"
"""What is checked out, always: the branch that follows. It has no commit where the workspace has none."""

TIP: Final = "refs/remotes/clonk/tip"
"""What it follows."""

Stamp: TypeAlias = tuple[int, int, int, int]


@attrs.define(kw_only=True)
class ShadowFolder:
    """A folder in use.

    Attributes:
        repository: The workspace's.
        owner: As whom git works there.
        path: Where it is.
        head: The commit that is checked out.
        object_format: `sha1` or `sha256`.
        can_be_kept: Whether it may be used again.
        copied: Which state of the workspace's index its own is; None for none that may be believed.
        had_new: Whether files that git does not know were found the last time.
        learnt_at: When git last wrote into our index what it had learnt of files that look changed and are not, on the
            clock of `time.monotonic`; None for never since it was copied.
    """

    repository: Repository
    owner: Owner
    path: Path
    head: str | None
    object_format: str
    can_be_kept: bool
    copied: Stamp | None = None
    had_new: bool = False
    learnt_at: float | None = None

    def is_to_learn(self) -> bool:
        """Tell whether git shall write down what it learns, and take it for done. Its lock costs a third of a look."""
        now = time.monotonic()
        if not self.can_be_kept or (self.learnt_at is not None and now < self.learnt_at + LEARNING_S):
            return False
        self.learnt_at = now
        return True


class ShadowFolders:
    """Makes folders, and keeps those that may be used again.

    Args:
        home: Ours alone, for kept folders; what an earlier process left there is removed. None keeps nothing.
    """

    def __init__(self, home: Path | None = None) -> None:
        self._home = home
        self._kept: dict[Path, ShadowFolder] = {}
        self._lock = threading.Lock()
        if home is not None:
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(mode=0o700)

    def take(self, repository: Repository) -> ShadowFolder | None:
        """Return a folder for a workspace. Touches the disk: for a thread.

        Returns:
            None when git must be asked how the repository keeps things; then `make` is for it.

        Raises:
            OSError: It cannot be made.
        """
        owner = owner_of(repository.top)
        try:
            head = read_head(repository)
        except NotPlain:
            return None
        if owner is not None or self._home is None:
            return make(repository, owner, "sha1", head)
        with self._lock:
            kept = self._kept.pop(repository.git_dir, None)
        if kept is not None:
            kept.repository, kept.head = repository, head
            try:
                _fill(kept, SETTINGS.format(extensions=""))
            except OSError:  # something has happened to it
                shutil.rmtree(kept.path, ignore_errors=True)
            else:
                return kept
        return make(repository, owner, "sha1", head, self._home)

    def give_back(self, folder: ShadowFolder) -> list[Path]:
        """Keep a folder for the next operation, where it may be kept; return the folders that are to be removed."""
        if not folder.can_be_kept:
            return [folder.path]
        with self._lock:
            if folder.repository.git_dir in self._kept:
                return [folder.path]
            self._kept[folder.repository.git_dir] = folder
            if len(self._kept) <= MAX_KEPT:
                return []
            oldest = next(iter(self._kept))
            return [self._kept.pop(oldest).path]


def make(
    repository: Repository, owner: Owner, object_format: str, head: str | None, home: Path | None = None
) -> ShadowFolder:
    """Make a folder.

    Raises:
        OSError: It cannot be made.
    """
    path = Path(tempfile.mkdtemp(prefix="clonk-git-", dir=home))
    made = ShadowFolder(
        repository=repository,
        owner=owner,
        path=path,
        head=head,
        object_format=object_format,
        can_be_kept=home is not None,
    )
    try:
        for name in ("objects", "refs/heads", "refs/remotes/clonk", "info"):
            (path / name).mkdir(parents=True)
        extensions = f"\tobjectFormat = {object_format}\n" if object_format != "sha1" else ""
        _fill(made, SETTINGS.format(extensions=extensions))
        _give(path, owner)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return made


def follow(folder: ShadowFolder, tip: str | None) -> None:
    """Make HEAD a branch that follows another commit, or none. Touches the disk: for a thread.

    Raises:
        OSError: It cannot be written.
    """
    _put(folder.path / TIP, tip)
    if folder.owner is not None and tip is not None:
        os.chown(folder.path / TIP, *folder.owner)


def clear_objects(folder: ShadowFolder) -> None:
    """Remove the objects and large files that were made for one operation. Touches the disk.

    Raises:
        OSError: They cannot be removed.
    """
    shutil.rmtree(folder.path / "lfs", ignore_errors=True)
    shutil.rmtree(folder.path / "objects")
    (folder.path / "objects").mkdir()


def _fill(folder: ShadowFolder, settings: str) -> None:
    """Bring a folder to the state of its workspace."""
    path, repository = folder.path, folder.repository
    if os.path.lexists(path / "index.lock"):  # of a git that was ended
        (path / "index.lock").unlink()
    _put(path / "config", settings)
    _put(path / "HEAD", f"ref: {HEAD}")
    _put(path / HEAD, folder.head)
    if folder.copied is None or folder.copied != _stamp_of(repository.git_dir / "index"):
        folder.copied = _copy(repository.git_dir / "index", path / "index")
        folder.learnt_at = None
    _copy(repository.common_dir / "shallow", path / "shallow")


def _give(path: Path, owner: Owner) -> None:
    if owner is not None:
        for one in (path, *path.rglob("*")):
            os.chown(one, *owner, follow_symlinks=False)


def _put(file: Path, line: str | None) -> None:
    """Write a small file when it is not as it should be, or have none: writing costs as much as all else here."""
    try:
        found = file.read_bytes()
    except FileNotFoundError:
        if line is None:
            return
    else:
        if line is None:
            file.unlink()
            return
        if found == f"{line}\n".encode():
            return
    file.write_text(f"{line}\n")


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _stamp_of(file: Path) -> Stamp | None:
    try:
        return _stamp(file.lstat())
    except FileNotFoundError:
        return None


def _copy(source: Path, target: Path) -> Stamp | None:
    """Copy a file of the workspace's, or have none where it has none.

    Not through a link: we may read more than its owner.
    """
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        target.unlink(missing_ok=True)
        return None
    with os.fdopen(descriptor, "rb") as opened, target.open("wb") as copy:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is no file")
        shutil.copyfileobj(opened, copy)
        keep_time(opened.fileno(), copy)
    return _stamp(status)


def keep_time(source: int, target: BinaryIO) -> None:
    """Give a copy of an index the original's time: git looks again at files that are as new as the index is."""
    status = os.fstat(source)
    target.flush()
    os.utime(target.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
