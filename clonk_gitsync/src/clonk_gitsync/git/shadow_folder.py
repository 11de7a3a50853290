"""The folder of a shadow: made for one operation on a workspace, or for several (`kept_folders.py`)."""

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, TypeVar

import attrs

from clonk_gitsync.git.options import OPTIONS, as_file
from clonk_gitsync.git.plain_files import open_plain
from clonk_gitsync.git.process import Owner
from clonk_gitsync.git.repository import Repository

LEARNING_S: Final = 5.0
"""Seconds between two times that git writes down what it has learnt of a workspace's files."""

SETTINGS: Final = (
    as_file(OPTIONS)
    + """[core]
\trepositoryformatversion = 1
\tbare = false
[extensions]
{extensions}[remote "clonk"]
\turl = .
\tfetch = +refs/heads/*:refs/remotes/clonk/*
[branch "clonk"]
\tremote = clonk
\tmerge = refs/heads/tip
"""
)
"""With a branch that follows another, of which `git status` counts what each has and the other lacks."""

HEAD: Final = "refs/heads/clonk"
"""What is checked out, always: the branch that follows. It has no commit where the workspace has none."""

TIP: Final = "refs/remotes/clonk/tip"
"""What it follows."""

CHECKSUM_BYTES: Final = 20
"""Of an index with SHA-1, which alone are kept."""


class Stamp(NamedTuple):
    """Which state a file is in: another one is written, or the same one anew, and it is another."""

    inode: int
    size: int
    modified_ns: int
    changed_ns: int


@attrs.frozen(kw_only=True)
class Seen:
    """What a workspace's files tell before git is asked. By itself nothing; each look adds what it wants."""

    def settle(self, folder: "ShadowFolder") -> None:
        """Bring our folder to it. Touches the disk."""


S = TypeVar("S", bound=Seen)


@attrs.frozen(kw_only=True)
class Relation:
    """How two commits stand to each other, which never changes.

    Attributes:
        head, tip: The commits.
        ahead: Commits that the first has and the second lacks.
        behind: The other way round.
    """

    head: str
    tip: str
    ahead: int
    behind: int


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
        checksum: What that index ends with, a hash of all that it says; None for an index without one.
        shallow: Which state of the list of commits whose parents are not there; None for none.
        written: The small files that are as we have written them, each with its line and its state.
        seen: What the workspace's files told at the last look of each kind.
        is_steady: Whether the workspace was the same at the last two uses: then it is guessed to be the same now.
        relation: How HEAD and another commit were found to stand to each other.
        no_glance_before: Until then a `Glance` is not asked for, on the clock of `time.monotonic`.
        lessons: How often git has written into our index what it had learnt of files that look changed and are not.
        learnt_at: When it did the last time, or the index was copied, in seconds since 1970.
    """

    repository: Repository
    owner: Owner
    path: Path
    head: str | None
    object_format: str
    can_be_kept: bool
    copied: Stamp | None = None
    checksum: bytes | None = None
    shallow: Stamp | None = None
    written: dict[str, tuple[str | None, Stamp | None]] = attrs.Factory(dict)
    seen: dict[type[Seen], Seen] = attrs.Factory(dict)
    is_steady: bool = False
    relation: Relation | None = None
    no_glance_before: float = 0.0
    lessons: int = 0
    learnt_at: float = 0.0

    def remember(self, seen: Seen) -> None:
        """Keep what the workspace's files tell now. Touches the disk: for a thread."""
        seen.settle(self)
        self.seen[type(seen)] = seen

    def recall(self, kind: type[S]) -> S | None:
        """Return what the workspace's files told at the last look of a kind."""
        seen = self.seen.get(kind)
        return seen if isinstance(seen, kind) else None

    def is_whole(self) -> bool:
        """Tell whether our own files are as we have written them."""
        return self.copied is not None and all(
            _stamp_of(f"{self.path}/{name}") == stamp for name, (_, stamp) in self.written.items()
        )

    def is_still(self, repository: Repository, owner: Owner, head: str | None) -> bool:
        """Tell whether a repository is what it was when this folder was filled. Touches the disk: for a thread."""
        return (
            (repository, owner, head) == (self.repository, self.owner, self.head)
            and self.has_index_of(repository)
            and _stamp_of(f"{repository.common_dir}/shallow") == self.shallow
        )

    def has_index_of(self, repository: Repository) -> bool:
        """Tell whether our index is the workspace's, though that was written anew. Touches the disk: for a thread.

        Within a second after a file was written, each `git status` by hand writes the index as it was.
        """
        index = f"{repository.git_dir}/index"
        if self.copied is None:
            return False
        if _stamp_of(index) != self.copied:
            opened = _open(index)
            if opened is None:
                return False
            with opened:
                stamp, checksum = _stamp(os.fstat(opened.fileno())), _checksum(opened.fileno())
            if checksum is None or checksum != self.checksum:
                return False
            self.copied = stamp
        return True

    def put(self, name: str, line: str | None) -> None:
        """Write a small file when it is not as it should be, or have none: writing costs as much as all else here.

        Raises:
            OSError: It cannot be written.
        """
        if self.written.get(name) == (line, _stamp_of(f"{self.path}/{name}")):
            return
        file = self.path / name
        if line is None:
            file.unlink(missing_ok=True)
        else:
            file.write_text(f"{line}\n")
        self.written[name] = (line, _stamp_of(file))

    def is_to_learn(self) -> bool:
        """Tell whether git shall write down what it learns. Its lock costs a third of a look.

        It does at first; in the next second, when files that were as new as the index are older than it; and from time
        to time.
        """
        now = time.time()
        is_due = (True, int(now) != int(self.learnt_at), abs(now - self.learnt_at) > LEARNING_S)[min(self.lessons, 2)]
        return self.can_be_kept and is_due

    def note_lesson(self) -> None:
        """Take it for done."""
        self.lessons, self.learnt_at = self.lessons + 1, time.time()


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
        fill(made, repository, head)
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
    folder.put(TIP, tip)
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


def fill(folder: ShadowFolder, repository: Repository, head: str | None) -> None:
    """Bring a folder to the state of its workspace. Touches the disk.

    Raises:
        OSError: It cannot be done.
    """
    path, folder.repository, folder.head = folder.path, repository, head
    extensions = "" if folder.object_format == "sha1" else f"\tobjectFormat = {folder.object_format}\n"
    if os.path.lexists(path / "index.lock"):  # of a git that was ended
        (path / "index.lock").unlink()
    places = (
        f"core.worktree={repository.top}",
        f"core.excludesFile={repository.common_dir}/info/exclude",
    )
    folder.put("config", SETTINGS.format(extensions=extensions) + as_file(places))
    folder.put("HEAD", f"ref: {HEAD}")
    folder.put(HEAD, folder.head)
    if not folder.has_index_of(repository):
        folder.copied, folder.checksum = _copy(repository.git_dir / "index", path / "index")
        folder.lessons, folder.learnt_at = min(folder.lessons, 1), time.time()
    if folder.shallow != _stamp_of(f"{repository.common_dir}/shallow"):
        folder.shallow, _ = _copy(repository.common_dir / "shallow", path / "shallow")


def _give(path: Path, owner: Owner) -> None:
    if owner is not None:
        for one in (path, *path.rglob("*")):
            os.chown(one, *owner, follow_symlinks=False)


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _stamp_of(file: Path | str) -> Stamp | None:
    try:
        return _stamp(os.lstat(file))
    except FileNotFoundError:
        return None


def _copy(source: Path, target: Path) -> tuple[Stamp | None, bytes | None]:
    """Copy a file of the workspace's, or have none where it has none; return its state, and its last bytes."""
    opened = _open(source)
    if opened is None:
        target.unlink(missing_ok=True)
        return None, None
    with opened, target.open("wb") as copy:
        status = os.fstat(opened.fileno())
        checksum = _checksum(opened.fileno())
        shutil.copyfileobj(opened, copy)
        keep_time(opened.fileno(), copy)
    return _stamp(status), checksum


def _open(file: Path | str) -> BinaryIO | None:
    """Open a file of the workspace's, None where it has none."""
    try:
        return open_plain(file)
    except FileNotFoundError:
        return None


def _checksum(index: int) -> bytes | None:
    """Return what an index ends with. Some are without a checksum: zeros."""
    size = os.fstat(index).st_size
    found = os.pread(index, CHECKSUM_BYTES, max(0, size - CHECKSUM_BYTES))
    return found if len(found) == CHECKSUM_BYTES and found.strip(b"\0") else None


def keep_time(source: int, target: BinaryIO) -> None:
    """Give a copy of an index the original's time: git looks again at files that are as new as the index is."""
    status = os.fstat(source)
    target.flush()
    os.utime(target.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
