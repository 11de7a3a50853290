"""What of a work tree is recorded and what is left out, decided by looking at the files alone."""

import errno
import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import attrs

from clonk_gitsync.git.child import Owner
from clonk_gitsync.git.plain_files import open_plain

MAX_ATTRIBUTES_BYTES: Final = 1024**2
"""Of one `.gitattributes`; a longer one is left to git."""


@attrs.frozen
class Changes:
    """What differs from the index, as paths relative to the top of the work tree.

    Attributes:
        present: To be taken in.
        gone: To be taken out.
        left_out: Neither: too large, behind a filter, a repository of their own, or not readable.
        hidden: Of `gone`, what git itself would see something of: behind a link, or no file.
    """

    present: list[bytes]
    gone: list[bytes]
    left_out: list[bytes]
    hidden: list[bytes]

    def without(self, filtered: Iterable[bytes]) -> "Changes":
        """Return the same with some that are left out."""
        out = set(filtered)
        present = [path for path in self.present if path not in out]
        return attrs.evolve(self, present=present, left_out=sorted([*self.left_out, *out]))


@attrs.frozen
class Listed:
    """What `git ls-files -t -z -o -m -d -u` says.

    Attributes:
        paths: All that differs, each once.
        unmerged: Whether files are in conflict.
    """

    paths: frozenset[bytes]
    unmerged: bool


def listed(output: bytes) -> Listed:
    """Read it: a letter and a blank, mode, id and stage with a tab behind them for what git knows, and the path."""
    paths: set[bytes] = set()
    unmerged = False
    for line in output.split(b"\0"):
        if not line:
            continue
        unmerged = unmerged or line.startswith(b"M ")
        paths.add(line[2:] if line.startswith(b"? ") else line[2:].partition(b"\t")[2])
    return Listed(frozenset(paths), unmerged)


def sort(top: Path, paths: Iterable[bytes], max_file_bytes: int, owner: Owner = None) -> Changes:
    """Look at every path that differs. A link is recorded as a link, and nothing is looked at through one.

    Args:
        top: Root of the work tree.
        paths: Relative to it.
        max_file_bytes: What is larger is left out.
        owner: Who reads the files, when not this process. What they cannot read or reach is left out.
    """
    root = os.fsencode(top)
    links: dict[bytes, bool] = {b"": False}
    closed: dict[bytes, bool] = {}
    changes = Changes([], [], [], [])
    for path in sorted(paths):
        if path.endswith(b"/"):  # a repository of its own
            changes.left_out.append(path)
            continue
        full = os.path.join(root, path)  # noqa: PTH118 - bytes
        folder = os.path.dirname(path)  # noqa: PTH120 - bytes
        is_behind_link = _is_behind_link(root, folder, links)
        try:
            status = os.lstat(full)
        except PermissionError:
            changes.left_out.append(path)
            continue
        except OSError:
            (changes.hidden if is_behind_link else changes.gone).append(path)
            continue
        is_file, is_link = stat.S_ISREG(status.st_mode), stat.S_ISLNK(status.st_mode)
        if stat.S_ISDIR(status.st_mode) and os.path.lexists(os.path.join(full, b".git")):  # noqa: PTH118 - bytes
            changes.left_out.append(path)  # a submodule
        elif not (is_file or is_link) or is_behind_link:
            changes.hidden.append(path)
        elif _is_closed(root, folder, owner, closed) or (
            is_file
            and (status.st_size > max_file_bytes or not os.access(full, os.R_OK) or not _may(owner, status, os.R_OK))
        ):
            changes.left_out.append(path)
        else:
            changes.present.append(path)
    return changes


def may_have_attribute(top: Path, index: Path, paths: Sequence[bytes], word: bytes) -> bool:
    """Tell whether an attribute could be meant for one of the paths. When not, git need not be asked.

    Attributes are in files named `.gitattributes` in the folders above a path. One that is not there git reads from the
    index: when that has it, or keeps names shortened, the answer is yes.

    Args:
        top: Root of the work tree.
        index: The index.
        paths: Relative to the root.
        word: A part of the attribute's name; empty for any attribute.
    """
    if not paths:
        return False
    root = os.fsencode(top)
    folders: set[bytes] = {b""}
    for path in paths:
        folder = os.path.dirname(path)  # noqa: PTH120 - bytes
        while folder not in folders:
            folders.add(folder)
            folder = os.path.dirname(folder)  # noqa: PTH120 - bytes
    without: list[bytes] = []
    for folder in folders:
        try:
            text = _attributes(os.path.join(root, folder, b".gitattributes"))  # noqa: PTH118 - bytes
        except OSError:
            return True
        if text is None:
            without.append(folder)
        elif word in text:
            return True
    return _index_has_attributes(index, without)


def _attributes(path: bytes) -> bytes | None:
    """Return a file of attributes, None for none.

    Raises:
        OSError: It cannot be read, or not as a whole.
    """
    try:
        opened = open_plain(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with opened:
        text = opened.read(MAX_ATTRIBUTES_BYTES + 1)
    if len(text) > MAX_ATTRIBUTES_BYTES:
        raise OSError(errno.EFBIG, "it is too long")
    return text


def _index_has_attributes(index: Path, folders: Iterable[bytes]) -> bool:
    try:
        contents = index.read_bytes()
    except FileNotFoundError:
        return False
    if int.from_bytes(contents[4:8], "big") not in {2, 3}:
        return True
    if b".gitattributes\0" not in contents:
        return False
    # What stands before a name is no slash; a longer name with the same end is taken for it, which only costs time.
    at_top = re.search(rb"(?<!/)\.gitattributes\0", contents) is not None
    return any(folder + b"/.gitattributes\0" in contents if folder else at_top for folder in folders)


def _may(owner: Owner, status: os.stat_result, way: int) -> bool:
    """Tell whether a user may read a file or go through a folder, by its mode."""
    if owner is None or owner[0] == 0:
        return True
    whose = 6 if status.st_uid == owner[0] else 3 if status.st_gid == owner[1] else 0
    return bool(status.st_mode >> whose & way)


def _is_closed(top: bytes, folder: bytes, owner: Owner, known: dict[bytes, bool]) -> bool:
    """Tell whether a user cannot reach what is in a folder."""
    if owner is None:
        return False
    if folder not in known:
        is_above = folder != b"" and _is_closed(top, os.path.dirname(folder), owner, known)  # noqa: PTH120 - bytes
        known[folder] = is_above or not _may(owner, os.lstat(os.path.join(top, folder)), os.X_OK)  # noqa: PTH118
    return known[folder]


def _is_behind_link(top: bytes, folder: bytes, known: dict[bytes, bool]) -> bool:
    if folder not in known:
        is_link = os.path.islink(os.path.join(top, folder))  # noqa: PTH114, PTH118 - bytes
        known[folder] = is_link or _is_behind_link(top, os.path.dirname(folder), known)  # noqa: PTH120
    return known[folder]
