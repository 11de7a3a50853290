"""Large files (Git LFS): commits hold pointers, the contents go to the remote's store before the branch does.

The server's own `git-lfs` makes the pointers, with settings of ours alone; what a workspace says of LFS in `.lfsconfig`
or in its own settings (other stores, programs that transfer or change files) counts nowhere. Contents are kept where
every git-lfs looks for them, `lfs/objects` in the workspace's repository, and are read and written there through no
symbolic link, and only when they are what their names say.
"""

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import Final

import attrs

from clonk_gitsync.git.process import Owner

ATTRIBUTE: Final = b"lfs"
"""What `.gitattributes` says of large files: `filter=lfs`."""

POINTER: Final = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,18})\n"
)
POINTER_BYTES: Final = range(120, 1024)
"""Sizes that a pointer can have: git-lfs itself takes nothing longer for one."""

PER_COMMAND: Final = 500
"""Contents that one command uploads: each is named on its command line."""

CHUNK: Final = 1024**2


@attrs.frozen
class Pointer:
    """What a commit holds in the place of a large file.

    Attributes:
        oid: SHA-256 of the content, hexadecimal.
        size: Its bytes.
    """

    oid: str
    size: int

    @property
    def text(self) -> bytes:
        """It, as git-lfs writes it."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.oid}\nsize {self.size}\n".encode()


def filter_options(program: str, storage: str, *, contents: bool = False) -> tuple[str, ...]:
    """Return the settings by which git turns large files into pointers, and back where that is wanted.

    Args:
        program: The absolute git-lfs.
        storage: Where it puts the contents, and looks for them.
        contents: Whether pointers whose contents lie there are replaced by them; the others stay, and nobody is asked.
    """
    word, skip = quote(program), "" if contents else " --skip"
    return (
        f"filter.lfs.clean={word} clean -- %f",
        f"filter.lfs.smudge={word} smudge{skip} -- %f",
        f"filter.lfs.process={word} filter-process{skip}",
        "filter.lfs.required=true",
        f"lfs.storage={storage}",
        "lfs.url=file:///dev/null",
        "lfs.pushurl=file:///dev/null",
        "lfs.skipdownloaderrors=true",
    )


def transfer_options(url: str, protocol: str) -> tuple[str, ...]:
    """Return the settings for what is moved: to and from the remote's own store, by nothing but the plain way.

    Args:
        url: The remote.
        protocol: Its transport.
    """
    store = url
    if protocol in {"https", "http"}:
        store = f"{url.rstrip('/').removesuffix('.git')}.git/info/lfs"
    elif url.startswith("/"):
        store = f"file://{url}"
    return (
        f"lfs.url={store}",
        f"lfs.pushurl={store}",
        "lfs.sshtransfer=never",
        "lfs.locksverify=false",
        "lfs.transfer.maxretries=2",
        # Else a server could name another way, of those that git-lfs has a program for. Local stores need one.
        f"lfs.basictransfersonly={'false' if protocol == 'file' else 'true'}",
    )


def pointers(batch: bytes) -> Iterator[Pointer]:
    """Read what `cat-file --batch` says of blobs, and yield the pointers among them."""
    at = 0
    while at < len(batch):
        end = batch.index(b"\n", at)
        words = batch[at:end].split()
        size = int(words[2]) if len(words) == 3 else 0
        found = POINTER.fullmatch(batch, end + 1, end + 1 + size)
        if found is not None:
            yield Pointer(found[1].decode(), int(found[2]))
        at = end + 1 + (size + 1 if len(words) == 3 else 0)


def keep(made: Path, common_dir: Path, owner: Owner) -> None:
    """Keep the contents that git-lfs has put into a folder of ours in a workspace's repository. Touches the disk.

    Raises:
        OSError: It cannot be done, or there is a link in the way.
    """
    for path in sorted(made.glob("objects/??/??/*")):
        with _opened(made, "objects", path.name) as source:
            if source is None:
                continue
            with _opened(common_dir, "lfs/objects", path.name, os.fstat(source).st_size) as kept:
                if kept is None:
                    _store(source, common_dir, path.name, owner)


def take(source_dir: Path, folder: Path, wanted: Sequence[Pointer], owner: Owner = None) -> list[str]:
    """Bring contents from one folder's `lfs/objects` to another's; return the ids of those that are there then.

    Args:
        source_dir: A workspace's repository, or the hub's.
        folder: Where to.
        wanted: Which.
        owner: To whom they belong there.

    Raises:
        OSError: It cannot be done.
    """
    there: list[str] = []
    for pointer in wanted:
        if (folder / "lfs" / "objects" / _place(pointer.oid)).is_file():
            there.append(pointer.oid)
            continue
        with _opened(source_dir, "lfs/objects", pointer.oid, pointer.size) as source:
            if source is not None and _store(source, folder, pointer.oid, owner):
                there.append(pointer.oid)
    return there


def forget(folder: Path, oids: Sequence[str]) -> None:
    """Remove contents that have been uploaded from a folder that `take` has brought them to."""
    for oid in oids:
        (folder / "lfs" / "objects" / _place(oid)).unlink(missing_ok=True)


def _place(oid: str) -> str:
    return f"{oid[:2]}/{oid[2:4]}/{oid}"


@contextmanager
def _opened(base: Path, below: str, oid: str, size: int | None = None) -> Iterator[int | None]:
    """Open a content, through no link; None when it is not there, or has another size."""
    try:
        with _folder(base, (*below.split("/"), oid[:2], oid[2:4])) as folder:
            descriptor = os.open(oid, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        yield None
        return
    try:
        status = os.fstat(descriptor)
        yield descriptor if stat.S_ISREG(status.st_mode) and size in {None, status.st_size} else None
    finally:
        os.close(descriptor)


@contextmanager
def _folder(base: Path, names: Sequence[str], owner: Owner = None, *, make: bool = False) -> Iterator[int]:
    """Open a folder step by step, so that none of them is a link.

    Raises:
        OSError: It is not there, or one is.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    folder = os.open(base, flags)
    try:
        for name in names:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=folder)
                    if owner is not None:
                        os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)
            inner = os.open(name, flags, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _store(source: int, base: Path, oid: str, owner: Owner) -> bool:
    """Copy a content to where it belongs below `lfs/objects`; tell whether it is what its name says."""
    with _folder(base, ("lfs", "objects", oid[:2], oid[2:4]), owner, make=True) as folder:
        name = f"{oid}.{secrets.token_hex(4)}"
        target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder)
        try:
            digest = hashlib.sha256()
            with os.fdopen(target, "wb") as file:
                while chunk := os.read(source, CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
                if owner is not None:
                    os.fchown(file.fileno(), *owner)
            is_right = digest.hexdigest() == oid
            if is_right:
                os.rename(name, oid, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
    return is_right
