"""The folder of a shadow, and what is known of it. Made by `filling.py`, kept by `kept_folders.py`."""

import os
import time
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, TypeVar

import attrs

from clonk_gitsync.git.plain_files import open_plain
from clonk_gitsync.git.process import Owner
from clonk_gitsync.git.repository import Repository

LEARNING_S: Final = 5.0
"""Seconds between two times that git writes down what it has learnt of a workspace's files."""

CHECKSUM_BYTES: Final = 20
"""Of an index with SHA-1, which alone are kept."""


class Stamp(NamedTuple):
    """Which state a file is in: another one is written, or the same one anew, and it is another."""

    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """Return the state that a status tells of."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@attrs.frozen(kw_only=True)
class Seen:
    """What a workspace's files tell before git is asked. By itself nothing; each look adds what it wants."""

    def settle(self, folder: "ShadowFolder") -> None:
        """Bring our folder to it. Touches the disk."""


S = TypeVar("S", bound=Seen)


@attrs.frozen(kw_only=True)
class Relation:
    """How two commits stand to each other, which stays as long as the history is cut off at the same places.

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
            stamp_of(f"{self.path}/{name}") == stamp for name, (_, stamp) in self.written.items()
        )

    def is_still(self, repository: Repository, owner: Owner, head: str | None) -> bool:
        """Tell whether a repository is what it was when this folder was filled. Touches the disk: for a thread."""
        return (
            (repository, owner, head) == (self.repository, self.owner, self.head)
            and self.has_index_of(repository)
            and stamp_of(f"{repository.common_dir}/shallow") == self.shallow
        )

    def has_index_of(self, repository: Repository) -> bool:
        """Tell whether our index is the workspace's, though that was written anew. Touches the disk: for a thread.

        Within a second after a file was written, each `git status` by hand writes the index as it was.
        """
        index = f"{repository.git_dir}/index"
        if self.copied is None:
            return False
        if stamp_of(index) != self.copied:
            opened = open_file(index)
            if opened is None:
                return False
            with opened:
                stamp, checksum = Stamp.of(os.fstat(opened.fileno())), checksum_of(opened.fileno())
            if checksum is None or checksum != self.checksum:
                return False
            self.copied = stamp
        return True

    def put(self, name: str, line: str | None) -> None:
        """Write a small file when it is not as it should be, or have none: writing costs as much as all else here.

        Raises:
            OSError: It cannot be written.
        """
        if self.written.get(name) == (line, stamp_of(f"{self.path}/{name}")):
            return
        file = self.path / name
        if line is None:
            file.unlink(missing_ok=True)
        else:
            file.write_text(f"{line}\n")
        self.written[name] = (line, stamp_of(file))

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


def stamp_of(file: Path | str) -> Stamp | None:
    """Return the state of a file, None where there is none. Touches the disk."""
    try:
        return Stamp.of(os.lstat(file))
    except FileNotFoundError:
        return None


def open_file(file: Path | str) -> BinaryIO | None:
    """Open a file of the workspace's, None where it has none."""
    try:
        return open_plain(file)
    except FileNotFoundError:
        return None


def checksum_of(index: int) -> bytes | None:
    """Return what an index ends with. Some are without a checksum: zeros."""
    size = os.fstat(index).st_size
    found = os.pread(index, CHECKSUM_BYTES, max(0, size - CHECKSUM_BYTES))
    return found if len(found) == CHECKSUM_BYTES and found.strip(b"\0") else None
