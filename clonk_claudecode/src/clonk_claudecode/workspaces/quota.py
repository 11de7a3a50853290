"""How much a folder holds, and whether that is within its limits."""

import os
import stat
from pathlib import Path
from typing import Final

import attrs
import trio

from clonk_claudecode.errors import WorkspaceFull
from clonk_claudecode.settings import WorkspaceSettings
from clonk_claudecode.working_dir import WorkingDirs

MAX_COUNTED: Final = 1_000_000
"""Files, folders and links of one folder that are looked at: some seconds."""

BLOCK_BYTES: Final = 512
"""The unit of `st_blocks` (stat(2))."""


@attrs.frozen(kw_only=True)
class Contents:
    """What a folder holds.

    Attributes:
        bytes: What its files take on the disk.
        files: How many files, folders and links.
        complete: Whether all was counted.
    """

    bytes: int
    files: int
    complete: bool


def measure(folder: Path, at_most: int = MAX_COUNTED) -> Contents:
    """Count what is in a folder; links are counted and not followed. Touches the disk: for a thread.

    What vanishes meanwhile, and what cannot be looked into, is left out.
    """
    taken = count = 0
    seen: set[tuple[int, int]] = set()
    folders = [os.fspath(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    count += 1
                    if count > at_most:
                        return Contents(bytes=taken, files=at_most, complete=False)
                    taken += _taken(entry, folders, seen)
        except OSError:
            continue
    return Contents(bytes=taken, files=count, complete=True)


def _taken(entry: os.DirEntry[str], folders: list[str], seen: set[tuple[int, int]]) -> int:
    """Return what one entry takes; a folder is noted, to be looked into."""
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    if stat.S_ISDIR(found.st_mode):
        folders.append(entry.path)
        return 0
    if not stat.S_ISREG(found.st_mode):
        return 0
    if found.st_nlink > 1:
        if (found.st_dev, found.st_ino) in seen:
            return 0
        seen.add((found.st_dev, found.st_ino))
    return found.st_blocks * BLOCK_BYTES


async def check_quota(working_dirs: WorkingDirs, folder: Path, limits: WorkspaceSettings) -> None:
    """See that a session's folder is within its limits. One that the session was given has none.

    Raises:
        WorkspaceFull: It is not.
    """
    if limits.max_bytes is None and limits.max_files is None:
        return
    if await trio.to_thread.run_sync(working_dirs.kind_of, folder) == "given":
        return
    found = await trio.to_thread.run_sync(measure, folder, abandon_on_cancel=True)
    too_large = limits.max_bytes is not None and found.bytes > limits.max_bytes
    too_many = limits.max_files is not None and found.files > limits.max_files
    if too_large or too_many or not found.complete:
        raise WorkspaceFull(
            bytes=found.bytes, files=found.files, max_bytes=limits.max_bytes, max_files=limits.max_files
        )
