"""Makes the folder of a shadow and brings it to the state of its workspace. All of it touches the disk."""

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, Final

from clonk_gitsync.git.options import OPTIONS, as_file
from clonk_gitsync.git.process import Owner
from clonk_gitsync.git.repository import Repository
from clonk_gitsync.git.shadow_folder import ShadowFolder, Stamp, checksum_of, open_file, stamp_of

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
    if folder.shallow != stamp_of(f"{repository.common_dir}/shallow"):
        folder.shallow, _ = _copy(repository.common_dir / "shallow", path / "shallow")
        folder.relation = None  # counted along a history that ends elsewhere now


def _give(path: Path, owner: Owner) -> None:
    if owner is not None:
        for one in (path, *path.rglob("*")):
            os.chown(one, *owner, follow_symlinks=False)


def _copy(source: Path, target: Path) -> tuple[Stamp | None, bytes | None]:
    """Copy a file of the workspace's, or have none where it has none; return its state, and its last bytes."""
    opened = open_file(source)
    if opened is None:
        target.unlink(missing_ok=True)
        return None, None
    with opened, target.open("wb") as copy:
        status = os.fstat(opened.fileno())
        checksum = checksum_of(opened.fileno())
        shutil.copyfileobj(opened, copy)
        keep_time(opened.fileno(), copy)
    return Stamp.of(status), checksum


def keep_time(source: int, target: BinaryIO) -> None:
    """Give a copy of an index the original's time: git looks again at files that are as new as the index is."""
    status = os.fstat(source)
    target.flush()
    os.utime(target.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
