"""Puts files back that a change of the work tree has half replaced, because the disk had no room for the rest."""

import os
from pathlib import Path
from typing import Final

from clonk_gitsync.git.shadow import Shadow

BROKEN_OFF: Final = (
    "unable to write file",
    "unable to create file",
    "unable to create symlink",
    "cannot create directory",
)
"""What git says when it has begun to replace files. Before that it looks at all of them, and replaces none that was
changed here: so whatever differs afterwards is its own work."""

NO_ROOM_BYTES: Final = 64 * 1024
"""With less than this a disk is full: git does not say why a file cannot be written."""


def is_broken_off(said: str) -> bool:
    """Tell from git's complaint whether it has begun to replace files."""
    return any(sign in said for sign in BROKEN_OFF)


def is_full(folder: Path) -> bool:
    """Tell whether a folder's disk has no room."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize < NO_ROOM_BYTES


async def put_back(shadow: Shadow, before: str, after: str) -> None:
    """Bring the files that differ between two trees, and no others, back to how they are in the first.

    The index of the workspace stays as it is.

    Raises:
        GitFailed: Not all of them could be put back; what git had recorded of them is still there.
    """
    changed = await shadow.run("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", before, after)
    words = changed.output.split(b"\0")
    sides: tuple[list[bytes], list[bytes]] = ([], [])
    for told, path in zip(words[0::2], words[1::2], strict=False):
        old_mode, new_mode, old_blob, new_blob, _ = told[1:].split(b" ")
        for side, mode, blob in ((sides[0], old_mode, old_blob), (sides[1], new_mode, new_blob)):
            if mode not in {b"000000", b"160000"}:
                side.append(mode + b" " + blob + b"\t" + path)
    # Indexes of these files alone: as they were, from which a tree is made, and as they may be by now.
    trees: list[str] = []
    for name, side in zip(("before", "after"), sides, strict=True):
        index = {"GIT_INDEX_FILE": str(shadow.folder / name)}
        lines = b"".join(line + b"\0" for line in side)
        await shadow.run("update-index", "-z", "--index-info", stdin=lines, env=index)
        trees.append((await shadow.run("write-tree", throwaway=True, env=index)).text)
    index = {"GIT_INDEX_FILE": str(shadow.folder / "after")}
    await shadow.run("read-tree", "--reset", "-u", trees[0], throwaway=True, env=index)
