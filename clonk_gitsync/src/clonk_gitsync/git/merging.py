"""Merges and rebases as trees and commits alone: no file and no index is touched, and no program of a workspace runs.

Drivers that `.gitattributes` names are found in settings, and our folder beside a workspace's repository has none; git
then merges as it would without them.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from clonk_gitsync.git.plain_files import open_plain
from clonk_gitsync.git.process import GitFailed
from clonk_gitsync.git.shadow import Shadow

FIXED: Final = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "Clonk"), ("EMAIL", "clonk@localhost"), ("DATE", "@0 +0000"))
}
"""For commits that are never seen."""

EMPTY_TREES: Final = {40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
                      64: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321"}  # fmt: skip
"""Ids of the tree without files, by the length of a repository's ids."""

MAX_HASHED: Final = 256 * 1024**2
"""Bytes of a file that is compared with what shall be put in its place."""


class Conflicts(Exception):
    """Two sides change the same.

    Args:
        paths: The files.
        commit: The commit that could not be put on the others; None in a merge.
    """

    def __init__(self, paths: Sequence[bytes], commit: str | None = None) -> None:
        super().__init__(f"{len(paths)} files in conflict")
        self.paths = tuple(paths)
        self.commit = commit


async def merged_tree(shadow: Shadow, ours: str, theirs: str) -> str:
    """Return the tree that a merge of two commits has.

    Raises:
        Conflicts: Both change the same.
        GitFailed: They have no commit in common, or git failed.
    """
    done = await shadow.run(
        *("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs),
        env=shadow.with_throwaway_objects(),
        check=False,
    )
    words = [word for word in done.output.split(b"\0") if word]
    if done.code == 1 and words:
        raise Conflicts(words[1:])
    if done.code != 0 or not words:
        raise GitFailed("merge-tree", done.said.strip()[-500:])
    return words[0].decode()


async def replayed_tree(shadow: Shadow, commit: str, parent: str, onto: str) -> str:
    """Return the tree that comes of the change of one commit, made on another.

    A three-way merge whose base is `parent`: what `onto` holds is taken for another child of it.

    Raises:
        Conflicts: Both change the same.
        GitFailed: Git failed.
    """
    words = ("commit-tree", f"{onto}^{{tree}}", "-p", parent, "-m", "onto")
    side = (await shadow.run(*words, env=FIXED, throwaway=True)).text
    try:
        return await merged_tree(shadow, side, commit)
    except Conflicts as error:
        raise Conflicts(error.paths, commit) from error


@attrs.frozen
class Placed:
    """One file of a difference between two trees.

    Attributes:
        path: Where.
        mode: Its kind, octal; zeros when it goes.
        old_blob, blob: Contents before and after.
    """

    path: bytes
    mode: str
    old_blob: str
    blob: str


async def differences(shadow: Shadow, start: str | None, end: str) -> list[Placed]:
    """Return the files that differ between two commits; all of the second's when there is no first."""
    start = start or EMPTY_TREES[len(end)]
    done = await shadow.run("diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", start, end)
    words = done.output.split(b"\0")
    found: list[Placed] = []
    for line, path in zip(words[0::2], words[1::2], strict=False):
        _, mode, old_blob, blob, _ = line.decode().removeprefix(":").split(" ")
        found.append(Placed(path, mode, old_blob, blob))
    return found


async def in_the_way(shadow: Shadow, files: Iterable[Placed]) -> list[Placed]:
    """Return those of the files that differ from the index: changed, deleted or unknown to git."""
    listed = await shadow.run("ls-files", "-z", "-m", "-d", "-o")
    dirty = {path for path in listed.output.split(b"\0") if path}
    folders = {folder for path in dirty for folder in _above(path)}
    staged = await shadow.run("ls-files", "-z", "-s")
    index = {
        path: entry.split(b" ")[1].decode()
        for entry, _, path in (line.partition(b"\t") for line in staged.output.split(b"\0") if line)
    }
    return [
        one
        for one in files
        if one.path in dirty
        or one.path in folders
        or any(folder in dirty for folder in _above(one.path))
        or index.get(one.path, "0" * len(one.blob)) != one.old_blob
    ]


async def accept_what_is_done(shadow: Shadow, done: Sequence[Placed]) -> None:
    """Enter files into our index that are already as they shall be, so that they are in nobody's way."""
    lines = [
        f"{one.mode if one.blob.strip('0') else '0'} {one.blob}".encode() + b"\t" + one.path + b"\0" for one in done
    ]
    await shadow.run("update-index", "-z", "--index-info", stdin=b"".join(lines))


def is_done(top: Path, file: Placed) -> bool:
    """Tell whether a file of the work tree is already what shall be put there. Nothing is read through a link."""
    path = os.path.join(os.fsencode(top), file.path)  # noqa: PTH118 - bytes
    folder = os.path.dirname(path)  # noqa: PTH120 - bytes
    try:
        status = os.lstat(path)
    except OSError:
        return not file.blob.strip("0")
    if not file.blob.strip("0") or status.st_size > MAX_HASHED or os.path.realpath(folder) != folder:
        return False
    try:
        if stat.S_ISLNK(status.st_mode):
            return file.mode == "120000" and _blob(os.readlink(path), file.blob) == file.blob  # noqa: PTH115
        if not stat.S_ISREG(status.st_mode):
            return False
        mode = "100755" if status.st_mode & 0o100 else "100644"
        opened = open_plain(path)
    except OSError:
        return False
    with opened:
        return file.mode == mode and _blob(opened.read(MAX_HASHED + 1), file.blob) == file.blob


def _above(path: bytes) -> Iterator[bytes]:
    """Yield the folders that a path is in."""
    at = path.rfind(b"/")
    while at > 0:
        yield path[:at]
        at = path.rfind(b"/", 0, at)


def _blob(content: bytes, like: str) -> str:
    """Return the id of a content, in the hash of another id."""
    text = b"blob %d\0" % len(content) + content
    return hashlib.sha1(text).hexdigest() if len(like) == 40 else hashlib.sha256(text).hexdigest()  # noqa: S324 - git's
