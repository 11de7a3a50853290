"""The data directory: made for its owner alone, and held by one server at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from clonk_core.errors import StorageError
from clonk_core.storage.errors_of_sqlite import translate_os

LOCK_FILE: Final = "clonk.lock"


@contextmanager
def hold_data_dir(path: Path) -> Iterator[Path]:
    """Make the directory (mode 0700) when it is not there, and hold it until the context is left.

    The lock is the operating system's (`flock` on `clonk.lock`), so that it goes away with the process however it ends;
    the file has the owner's process id. It stays, since removing it would race with the next owner.

    Yields:
        The directory, absolute.

    Raises:
        StorageFull: The disk is full.
        StorageError: It cannot be made or written, or another server holds it; that one's process id is named.
    """
    path = path.expanduser().absolute()
    make_folder(path)
    try:
        lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise translate_os(error, path) from error
    try:
        _lock(lock, path)
        yield path
    finally:
        os.close(lock)


def make_folder(path: Path, *, mode: int = 0o700) -> None:
    """Make a folder, with those above it, when it is not there.

    Args:
        path: Which.
        mode: Its permissions, less what the process's umask takes away; for its owner alone when left out.

    Raises:
        StorageFull: The disk is full.
        StorageError: It cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=mode, exist_ok=True)
    except OSError as error:
        raise translate_os(error, path) from error


def _lock(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise StorageError(
            f"{path} is in use by another Clonk server (process {owner}); stop that one, or give this one another "
            "directory (storage.data_dir)"
        ) from error
    except OSError as error:  # a file system that has no locks
        raise translate_os(error, path / LOCK_FILE) from error
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        raise translate_os(error, path) from error
