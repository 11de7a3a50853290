"""Takes in files that are being written: git reads a file twice, or maps it, and fails when it changes meanwhile.

What changes is read once, to its end, by a program that runs as the workspace's owner, and recorded as it was read.
"""

import os
import stat
from collections.abc import Sequence
from subprocess import DEVNULL
from typing import TYPE_CHECKING, Final

import trio

from clonk_gitsync.git.process import GitFailed, GitMissing, GitTooSlow

if TYPE_CHECKING:
    from clonk_gitsync.git.shadow import Shadow

ADD: Final = ("update-index", "--add", "--remove", "--replace", "-z", "--stdin")


async def take_in(shadow: "Shadow", paths: Sequence[bytes], max_file_bytes: int, *, throwaway: bool) -> None:
    """Bring files into our index, whoever writes them meanwhile.

    All at once; what fails is halved until the files that change stand alone.

    Raises:
        GitFailed: It failed for another reason.
    """
    try:
        await shadow.run(*ADD, stdin=b"".join(path + b"\0" for path in paths), throwaway=throwaway)
    except GitFailed as error:
        full = "no space left" in error.said.lower() or "disk quota" in error.said.lower()
        if full or isinstance(error, (GitMissing, GitTooSlow)):
            raise
        (shadow.folder / "index.lock").unlink(missing_ok=True)  # of a git that has crashed: a mapped file was cut
        if len(paths) == 1:
            await _take_one(shadow, paths[0], max_file_bytes, throwaway=throwaway, failure=error)
            return
        middle = len(paths) // 2
        for half in (paths[:middle], paths[middle:]):
            await take_in(shadow, half, max_file_bytes, throwaway=throwaway)


def _full(shadow: "Shadow", path: bytes) -> bytes:
    return os.path.join(os.fsencode(shadow.repository.top), path)  # noqa: PTH118 - bytes


async def _take_one(shadow: "Shadow", path: bytes, max_file_bytes: int, *, throwaway: bool, failure: GitFailed) -> None:
    try:
        mode = os.lstat(_full(shadow, path)).st_mode
    except OSError:
        await shadow.run("update-index", "--force-remove", "-z", "--stdin", stdin=path + b"\0")
        return
    if not stat.S_ISREG(mode):  # changed as a whole, so that git can read it; a folder's files are for the next time
        if not stat.S_ISDIR(mode):
            await shadow.run(*ADD, stdin=path + b"\0", throwaway=throwaway)
        return
    reading, writing = os.pipe()
    try:
        try:
            user, group = shadow.owner or (None, None)
            reader = await trio.lowlevel.open_process(
                ["head", "-c", str(max_file_bytes), "--", _full(shadow, path)],
                stdin=DEVNULL,
                stdout=writing,
                stderr=DEVNULL,
                env={"PATH": os.defpath},
                user=user,
                group=group,
                extra_groups=None if user is None else (),
            )
        finally:
            os.close(writing)
        try:
            name = b"--path=" + path
            done = await shadow.run("hash-object", "-w", "--stdin", name, stdin=reading, throwaway=throwaway)
            code = await reader.wait()
        except BaseException:
            reader.kill()
            with trio.CancelScope(shield=True):
                await reader.wait()
            raise
    finally:
        os.close(reading)
    if code != 0:
        try:
            os.lstat(_full(shadow, path))
        except OSError:
            await shadow.run("update-index", "--force-remove", "-z", "--stdin", stdin=path + b"\0")
            return
        raise failure  # it cannot be read
    line = f"{'100755' if mode & stat.S_IXUSR else '100644'} {done.text} 0\t".encode() + path + b"\0"
    await shadow.run("update-index", "-z", "--index-info", stdin=line, throwaway=throwaway)
