"""Where branches are, read from a repository's files: to ask git costs a process.

Only what is plain is read. All else, such as names of other names, links, other ways to keep refs and ids of another
length, is left to git. Nothing here waits for git; all of it touches the disk, so it is for a thread.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from clonk_gitsync.git.plain_files import open_plain
from clonk_gitsync.git.repository import Repository

MAX_PACKED_BYTES: Final = 16 * 1024**2
"""Of `packed-refs`: some 200 000 refs. More is left to git, as are larger settings."""

_ID: Final = re.compile(rb"[0-9a-f]{40}")
_HEAD: Final = b"ref: refs/heads/"


class NotPlain(Exception):
    """The files do not tell; git does."""


def check_plain(common_dir: Path) -> None:
    """Pass a repository of the plainest format: SHA-1, refs in files, settings of all work trees in one file.

    Whatever is otherwise, a repository says under `extensions`; a git that finds one it does not know refuses to work.

    Raises:
        NotPlain: It is another.
    """
    if b"extensions" in (read_plain(common_dir / "config") or b"extensions").lower():
        raise NotPlain


def read_head(repository: Repository) -> str | None:
    """Return the commit that is checked out, None when there is none yet. Whether it exists is not looked at.

    Raises:
        NotPlain: The files do not tell.
    """
    check_plain(repository.common_dir)
    text = (read_plain(repository.git_dir / "HEAD") or b"").removesuffix(b"\n")
    if _ID.fullmatch(text):
        return text.decode()
    if not text.startswith(_HEAD):
        raise NotPlain
    return read_ref(repository.common_dir, os.fsdecode(text.removeprefix(b"ref: ")))


def read_ref(common_dir: Path, name: str) -> str | None:
    """Return where a ref is, None for nowhere.

    Args:
        common_dir: Of a repository that `check_plain` passes.
        name: In full, `refs/...`.

    Raises:
        NotPlain: The files do not tell.
    """
    if any(part in {"", ".", ".."} for part in name.split("/")) or name != name.strip() or "\0" in name:
        raise NotPlain
    loose = read_plain(common_dir / name)
    if loose is not None:
        return _id(loose)
    # What is packed meanwhile is in here before its own file goes.
    packed = read_plain(common_dir / "packed-refs") or b""
    end = packed.find(b" " + os.fsencode(name) + b"\n")
    return None if end < 0 else _id(packed[max(0, end - 40) : end])


def read_all(common_dir: Path) -> list[str]:
    """Return what the refs of a repository are at, each once.

    Raises:
        NotPlain: The files do not tell.
    """
    check_plain(common_dir)
    loose = [_id(read_plain(file) or b"") for file in _files(common_dir / "refs")]
    packed = re.findall(rb"^([0-9a-f]{40}) ", read_plain(common_dir / "packed-refs") or b"", re.MULTILINE)
    return list(dict.fromkeys([*loose, *(one.decode() for one in packed)]))


def write_ref(common_dir: Path, name: str, commit: str, who: str) -> None:
    """Put a ref of a plain repository of our own somewhere, as git itself does: a lock that becomes the file.

    It is not waited for the disk: what the ref remembers is learnt anew from the remote.

    Args:
        common_dir: Ours. Where refs are packed it is left to git, to which names could be in each other's way.
        name: In full.
        commit: Where to.
        who: Who does it, for the ref's log: `Name <address>`.

    Raises:
        NotPlain: Something is in the way; git can tell what.
    """
    file = common_dir / name
    log = common_dir / "logs" / name
    lock = file.with_name(f"{file.name}.lock")
    if (common_dir / "packed-refs").exists():
        raise NotPlain
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except OSError as error:
        raise NotPlain from error
    try:
        with os.fdopen(descriptor, "wb") as target:
            target.write(f"{commit}\n".encode())
        before = read_plain(file)
        old = "0" * len(commit) if before is None else _id(before)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as lines:
            lines.write(f"{old} {commit} {who} {int(time.time())} +0000\n")
        lock.replace(file)
    except (OSError, NotPlain) as error:
        lock.unlink(missing_ok=True)
        raise NotPlain from error


def _files(folder: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            elif not entry.name.endswith(".lock"):
                yield Path(entry.path)


def _id(text: bytes) -> str:
    text = text.removesuffix(b"\n")
    if not _ID.fullmatch(text):
        raise NotPlain
    return text.decode()


def read_plain(path: Path) -> bytes | None:
    """Return a file's contents, None when there is none. Not through a link: we may read more than its owner.

    Raises:
        NotPlain: It is no file, a link, or too large.
    """
    try:
        opened = open_plain(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise NotPlain from error
    with opened:
        size = os.fstat(opened.fileno()).st_size
        if size > MAX_PACKED_BYTES:
            raise NotPlain
        return opened.read(size)
