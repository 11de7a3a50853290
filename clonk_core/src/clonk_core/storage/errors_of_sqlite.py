"""What SQLite's errors mean to the rest of Clonk: one table from apsw's exceptions to ours."""

import errno
import os
from pathlib import Path
from typing import Final

import apsw

from clonk_core.errors import ClonkError, ConstraintViolation, StorageError, StorageFull

_LEAST_FREE_BYTES: Final = 64 * 1024
"""Below this an I/O error is put down to the full disk: SQLite reports a shared-memory file that cannot grow as a
plain I/O error, and it grows by 32 KiB at a time."""

_MEANINGS: Final[tuple[tuple[type[apsw.Error], str], ...]] = (
    (apsw.NotADBError, "is no SQLite database; move it away or restore a backup"),
    (apsw.CorruptError, "is corrupt; restore a backup, or save what is left with `sqlite3 FILE .recover`"),
    (apsw.ReadOnlyError, "cannot be written; see the permissions of the file and its folder"),
    (apsw.CantOpenError, "cannot be opened; see the permissions of the file and its folder"),
    (apsw.BusyError, "is locked by another program and did not become free in time"),
    (apsw.LockedError, "is locked by another program and did not become free in time"),
    (apsw.ConnectionClosedError, "is closed"),
)


def translate(error: apsw.Error, path: Path) -> ClonkError:
    """Return our exception for an error of SQLite's, to be raised `from` it."""
    if isinstance(error, apsw.ConstraintError):
        return ConstraintViolation(str(error))
    if isinstance(error, apsw.FullError) or (
        isinstance(error, apsw.IOError | apsw.CantOpenError) and not _has_room(path)
    ):
        return StorageFull(f"no room left on the disk for {path.name}; free some and call again", database=path.stem)
    for kind, meaning in _MEANINGS:
        if isinstance(error, kind):
            return StorageError(f"{path} {meaning} ({error})")
    return StorageError(f"{path}: {error}")


def translate_os(error: OSError, path: Path) -> ClonkError:
    """Return our exception for an error of the file system's, to be raised `from` it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"no room left on the disk for {path.name}; free some and call again", database=path.stem)
    return StorageError(f"{path} cannot be opened: {error.strerror}")


def _has_room(path: Path) -> bool:
    try:
        usage = os.statvfs(path.parent)
    except OSError:
        return True
    return usage.f_bavail * usage.f_frsize >= _LEAST_FREE_BYTES
