"""Objects of a small commit, taken from the files that git has just written: two processes less than a pack.

What is read was written by the workspace's owner, so each object is unpacked and must be what its id says. Whatever is
not found in a file of its own is left to git. Only for repositories with SHA-1. All of it touches the disk.
"""

import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from clonk_gitsync.git.packs import write_pack
from clonk_gitsync.git.plain_files import open_plain

MAX_BYTES: Final = 16 * 1024**2
"""Of all the objects together, packed or unpacked; more is left to git."""

SHA1: Final = 40
"""Digits of an id."""

FOLDER: Final = b"40000"


class NotLoose(Exception):
    """Not all of it is in files of its own; git has to look."""


@attrs.frozen
class Recorded:
    """A commit that was made just now.

    Attributes:
        commit: Its id.
        tree: That of its tree.
        files: What it changes: paths, and ids of the new contents; None for a file that is gone.
    """

    commit: str
    tree: str
    files: Sequence[tuple[bytes, str | None]]


def copy_new(recorded: Recorded, source: Path, target: Path) -> None:
    """Copy what a commit has and its parent has not, from one folder of objects to another, as a pack.

    Raises:
        NotLoose: It could not be found; nothing was copied.
    """
    reader = _Reader(source)
    folders = {folder for path, _ in recorded.files for folder in _above(path)}
    trees: dict[bytes, str] = {b"": recorded.tree}
    found: dict[str, tuple[bytes, bytes]] = {recorded.commit: (b"commit", reader.read(recorded.commit, b"commit"))}
    for folder in sorted(folders, key=lambda one: one.count(b"/") if one else -1):
        oid = trees.get(folder)
        if oid is None:  # nothing is in it any more
            continue
        content = reader.read(oid, b"tree")
        found[oid] = (b"tree", content)
        prefix = folder + b"/" if folder else b""
        trees.update({prefix + name: one for name, one in _folders_in(content)})
    for blob in (blob for _, blob in recorded.files if blob is not None):
        found[blob] = (b"blob", reader.read(blob, b"blob"))
    write_pack(target / "pack", found)


def tree_of(source: Path, commit: str | None) -> str | None:
    """Return the tree of a commit, None when it has no file of its own."""
    if commit is None or len(commit) != SHA1:
        return None
    try:
        content = _Reader(source).read(commit, b"commit")
    except NotLoose:
        return None
    return content[5 : 5 + SHA1].decode(errors="replace")


@attrs.define
class _Reader:
    """Reads objects, as long as they are not too much together."""

    folder: Path
    left: int = MAX_BYTES

    def read(self, oid: str, kind: bytes) -> bytes:
        """Return an object's content.

        Raises:
            NotLoose: It is not there, or not what its id says.
        """
        packed = self._file(self.folder / oid[:2] / oid[2:])
        unpacking = zlib.decompressobj()
        try:
            whole = unpacking.decompress(packed, self.left + 1)
        except zlib.error as error:
            raise NotLoose from error
        self.left -= len(whole)
        head, _, content = whole.partition(b"\0")
        is_it = unpacking.eof and not unpacking.unused_data and head == b"%s %d" % (kind, len(content))
        if self.left < 0 or not is_it or hashlib.sha1(whole, usedforsecurity=False).hexdigest() != oid:
            raise NotLoose
        return content

    def _file(self, path: Path) -> bytes:
        try:
            opened = open_plain(path)
        except OSError as error:
            raise NotLoose from error
        with opened:
            size = os.fstat(opened.fileno()).st_size
            if size > self.left:
                raise NotLoose
            return opened.read(size)


def _above(path: bytes) -> Iterator[bytes]:
    while path:
        path = path.rpartition(b"/")[0]
        yield path


def _folders_in(tree: bytes) -> Iterable[tuple[bytes, str]]:
    at = 0
    while at < len(tree):
        end = tree.index(b"\0", at)
        mode, _, name = tree[at:end].partition(b" ")
        if mode == FOLDER:
            yield name, tree[end + 1 : end + 21].hex()
        at = end + 21
