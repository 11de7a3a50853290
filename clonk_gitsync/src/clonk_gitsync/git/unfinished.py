"""Takes away what a git that was stopped, or had no room, has left unfinished among a repository's objects."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

PREFIX: Final = "tmp_"
"""What git calls files that are not finished: `tmp_obj_...`, `pack/tmp_pack_...`."""


def remove_unfinished(objects: Path, *, since_ns: int = 0, owner_id: int | None = None) -> None:
    """Remove unfinished files. A disk that is full would otherwise get fuller with each attempt.

    Nothing is followed through a link. What cannot be looked at is left alone.

    Args:
        objects: The folder of the objects.
        since_ns: Only what was changed since then, in nanoseconds of the epoch.
        owner_id: Only in folders of this user, in whose name root works; anybody's when None.
    """
    with suppress(OSError):
        _remove_in(os.open(objects, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW), since_ns, owner_id, deeper=True)


def _remove_in(folder: int, since_ns: int, owner_id: int | None, *, deeper: bool) -> None:
    try:
        if owner_id is not None and os.fstat(folder).st_uid != owner_id:
            return
        with os.scandir(folder) as entries:
            folders = [entry.name for entry in entries if deeper and entry.is_dir(follow_symlinks=False)]
        for name in folders:
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            with suppress(OSError):
                _remove_in(below, since_ns, owner_id, deeper=False)
        for name in os.listdir(folder):
            if name.startswith(PREFIX):
                status = os.lstat(name, dir_fd=folder)
                if stat.S_ISREG(status.st_mode) and status.st_ctime_ns >= since_ns:
                    os.unlink(name, dir_fd=folder)
    finally:
        os.close(folder)
