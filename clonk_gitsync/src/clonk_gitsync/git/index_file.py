"""A workspace's index, replaced as git itself does it: under its lock, whole or not at all."""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from clonk_gitsync.git.filling import keep_time
from clonk_gitsync.git.process import Owner
from clonk_gitsync.git.repository import Repository

FRESH_INDEX: Final = "index.clonk"
"""The name, in a workspace's git folder, of an index that is about to become its own."""

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def put_index(index: Path, git_dir: Path, owner: Owner) -> bool:
    """Make a copy of an index a workspace's own. Touches the disk: for a thread.

    Args:
        index: The new one.
        git_dir: Where the workspace has its own.
        owner: Whom it shall belong to, when not to us.

    Returns:
        Whether it could be done: not while another git is at work.
    """
    fresh = git_dir / FRESH_INDEX
    fresh.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(fresh, _NEW, 0o644), "wb") as target, index.open("rb") as source:
            shutil.copyfileobj(source, target)
            keep_time(source.fileno(), target)
            if owner is not None:
                os.fchown(target.fileno(), *owner)
        return _become(fresh, git_dir / "index")
    finally:
        fresh.unlink(missing_ok=True)


def _become(fresh: Path, real: Path) -> bool:
    """Put an index in the place of another under git's own lock; tell whether it could be done."""
    lock = real.with_name("index.lock")
    try:
        # The lock is a second name of what is there whole: one that is left behind can be told for ours.
        os.link(fresh, lock, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}:
            raise
    else:
        lock.replace(real)
        return True
    try:  # a disk that knows no second names
        os.close(os.open(lock, _NEW, 0o644))
    except FileExistsError:
        return False
    fresh.replace(real)
    lock.unlink(missing_ok=True)
    return True


def remove_own_lock(repository: Repository) -> None:
    """Remove a lock of the index that `put_index` has left, killed. No other operation of ours is under way here."""
    fresh, lock = (repository.git_dir / name for name in (FRESH_INDEX, "index.lock"))
    with suppress(FileNotFoundError):
        status = fresh.lstat()
        with suppress(FileNotFoundError):
            if os.path.samestat(status, lock.lstat()):
                lock.unlink()
        fresh.unlink()
