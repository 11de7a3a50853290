"""A bounded copy of a folder: files, folders and links, nothing else, and nothing through a link."""

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs

from clonk_claudecode.errors import CopyTooLarge, FolderNotCopyable

CHUNK_BYTES: Final = 4 * 1024 * 1024
POINTER_BYTES: Final = 8192

MAX_DEPTH: Final = 200
"""Two folders of each level are open at once; a process may open some thousand files."""

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FOLDER: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_DIRECTORY
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@attrs.define(kw_only=True)
class FolderCopy:
    """Copies one folder. For a thread.

    Attributes:
        source: What is copied; resolved.
        target: Where; must not exist.
        max_bytes: More is refused.
        max_files: More files, folders and links are refused.
        check: Called before each file; what it raises ends the copying.
    """

    source: Path
    target: Path
    max_bytes: int
    max_files: int
    check: Callable[[], None]
    _bytes: int = 0
    _files: int = 0

    def run(self) -> None:
        """Copy. What was made when it fails is there still.

        Raises:
            CopyTooLarge: Over a limit.
            FolderNotCopyable: It points to a git repository outside of itself.
            OSError: Something cannot be read or written.
        """
        self.target.mkdir(mode=0o700)
        source = os.open(self.source, _FOLDER)
        try:
            target = os.open(self.target, _FOLDER)
            try:
                self._folder(source, target, "")
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _folder(self, source: int, target: int, path: str) -> None:
        if path.count("/") > MAX_DEPTH:
            raise OSError(errno.ENAMETOOLONG, f"more than {MAX_DEPTH} levels of folders")
        with os.scandir(source) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            self.check()
            inner = f"{path}{name}"
            # The copy would believe that the further work trees of the original are its own.
            if f"/{inner}".endswith("/.git/worktrees"):
                continue
            try:
                status = os.stat(name, dir_fd=source, follow_symlinks=False)
            except FileNotFoundError:  # it has gone meanwhile
                continue
            self._count(status)
            if stat.S_ISLNK(status.st_mode):
                os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            elif stat.S_ISDIR(status.st_mode):
                self._inner_folder(source, target, name, inner, status)
            elif stat.S_ISREG(status.st_mode):
                self._file(source, target, name, inner)

    def _count(self, status: os.stat_result) -> None:
        self._files += 1
        if self._files > self.max_files:
            raise CopyTooLarge("files", self.max_files)
        if stat.S_ISREG(status.st_mode) and self._bytes + status.st_size > self.max_bytes:
            raise CopyTooLarge("bytes", self.max_bytes)

    def _inner_folder(self, source: int, target: int, name: str, path: str, status: os.stat_result) -> None:
        os.mkdir(name, mode=0o700, dir_fd=target)
        inner_source = os.open(name, _FOLDER, dir_fd=source)
        try:
            inner_target = os.open(name, _FOLDER, dir_fd=target)
            try:
                self._folder(inner_source, inner_target, f"{path}/")
                os.fchmod(inner_target, status.st_mode & 0o777)
            finally:
                os.close(inner_target)
        finally:
            os.close(inner_source)

    def _file(self, source: int, target: int, name: str, path: str) -> None:
        try:
            reading = os.open(name, _READ, dir_fd=source)
        except FileNotFoundError:  # it has gone meanwhile
            return
        try:
            status = os.fstat(reading)
            if not stat.S_ISREG(status.st_mode):
                return
            if name == ".git":
                self._check_pointer(reading, path)
            writing = os.open(name, _NEW, mode=0o600, dir_fd=target)
            try:
                self._contents(reading, writing)
                os.fchmod(writing, status.st_mode & 0o777)
                os.utime(writing, ns=(status.st_atime_ns, status.st_mtime_ns))
            finally:
                os.close(writing)
        finally:
            os.close(reading)

    def _contents(self, reading: int, writing: int) -> None:
        while chunk := os.read(reading, CHUNK_BYTES):
            self._bytes += len(chunk)
            if self._bytes > self.max_bytes:
                raise CopyTooLarge("bytes", self.max_bytes)
            self.check()
            view = memoryview(chunk)
            while view:
                view = view[os.write(writing, view) :]

    def _check_pointer(self, reading: int, path: str) -> None:
        text = os.fsdecode(os.pread(reading, POINTER_BYTES, 0))
        if not text.startswith("gitdir:"):
            return
        pointed = self.source / Path(path).parent / text.removeprefix("gitdir:").strip()
        if Path(text.removeprefix("gitdir:").strip()).is_absolute() or not pointed.resolve().is_relative_to(
            self.source
        ):
            raise FolderNotCopyable(path)


def remove_folder(folder: Path) -> None:
    """Remove what was copied; folders that may not be written are made so first."""
    if not folder.is_dir() or folder.is_symlink():
        return
    for place, folders, _names in os.walk(folder):
        for name in folders:
            path = Path(place) / name
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
