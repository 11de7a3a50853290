"""A git folder of our own beside a workspace's repository: settings and index are ours, the objects its own.

So files are read, recorded and put in place without the workspace's own settings, in which it could have named programs
to be run with our rights: filters, drivers, monitors, hooks. A filter that no settings define does nothing; files that
want one are left alone, since without it they would be recorded as what they are not. The one exception is large files
(`lfs.py`), where the server has git-lfs.

The folder is made for one operation and goes with it. It belongs to the workspace's owner.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final

import attrs
import trio

from clonk_gitsync.git import lfs
from clonk_gitsync.git.process import Done, Git, GitFailed, Owner, owner_of
from clonk_gitsync.git.repository import Repository

WHO: Final = {"GIT_COMMITTER_NAME": "Clonk", "GIT_COMMITTER_EMAIL": "clonk@localhost"}
"""Who moves refs, for the workspace's reflog."""


@attrs.frozen
class Changes:
    """What differs from the index, as paths relative to the top of the work tree.

    Attributes:
        present: To be taken in.
        gone: To be taken out.
        left_out: Neither: too large, behind a filter, a repository of their own, or not readable.
    """

    present: list[bytes]
    gone: list[bytes]
    left_out: list[bytes]


class Shadow:
    """Our folder for one operation on a workspace. Made by `open_shadow`."""

    def __init__(self, git: Git, folder: Path, repository: Repository, owner: Owner, head: str | None) -> None:
        self._git = git
        self._repository = repository
        self._owner = owner
        self.folder = folder
        self.index = folder / "index"
        self.head = head
        program = git.lfs_program
        self._filters = () if program is None else lfs.filter_options(program, folder / "lfs")

    @property
    def repository(self) -> Repository:
        """The workspace's."""
        return self._repository

    @property
    def owner(self) -> Owner:
        """As whom git works there."""
        return self._owner

    def environment(self, *, throwaway: bool = False) -> dict[str, str]:
        """Return what makes git work on our folder. With `throwaway`, new objects go with the folder."""
        objects = str(self._repository.common_dir / "objects")
        variables = {
            "GIT_DIR": str(self.folder),
            "GIT_WORK_TREE": str(self._repository.top),
            "GIT_INDEX_FILE": str(self.index),
            "GIT_OBJECT_DIRECTORY": str(self.folder / "objects") if throwaway else objects,
        }
        if throwaway:
            variables["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = _quoted(objects)
        return variables

    def with_throwaway_objects(self) -> dict[str, str]:
        """Return what lets a command that keeps its objects see those that go with the folder, too."""
        return {"GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(str(self.folder / "objects"))}

    async def run(
        self,
        *arguments: str | bytes,
        stdin: bytes | int = b"",
        stdout: int | None = None,
        env: Mapping[str, str] | None = None,
        throwaway: bool = False,
        check: bool = True,
    ) -> Done:
        """Run a subcommand at the top of the work tree, on our index.

        Raises:
            GitFailed: It failed.
        """
        exclude = self._repository.common_dir / "info" / "exclude"
        return await self._git.run(
            *arguments,
            cwd=self._repository.top,
            env={**self.environment(throwaway=throwaway), **(env or {})},
            options=(f"core.excludesFile={exclude}", *self._filters),
            stdin=stdin,
            stdout=stdout,
            owner=self._owner,
            check=check,
        )

    async def run_real(self, *arguments: str, stdin: bytes = b"", check: bool = True) -> Done:
        """Run a plumbing subcommand about refs on the workspace's own folder. It reads its settings, and runs nothing.

        Raises:
            GitFailed: It failed.
        """
        return await self._git.run(
            *arguments,
            cwd=self._repository.top,
            env={"GIT_DIR": str(self._repository.git_dir), **WHO},
            stdin=stdin,
            owner=self._owner,
            check=check,
        )

    async def resolve(self, revision: str) -> str | None:
        """Return the commit that a name of the workspace means; None when it means none."""
        done = await self.run_real(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", check=False
        )
        return done.text if done.code == 0 else None

    async def branch(self, name: str) -> str | None:
        """Return where a branch of the workspace is, None for nowhere.

        By its full name alone: `rev-parse` would take a tag of that name for it.
        """
        done = await self.run_real("show-ref", "--verify", "--hash", f"refs/heads/{name}", check=False)
        return done.text if done.code == 0 else None

    # ── Taking in ─────────────────────────────────────────────────────────────

    async def take(self, max_file_bytes: int, *, throwaway: bool = False) -> Changes:
        """Bring the index to the state of the files, and return what was different.

        Raises:
            GitFailed: It failed, perhaps because the files are changing.
        """
        listed = await self.run("ls-files", "-z", "-o", "-m", "-d", "--exclude-standard")
        paths = {path for path in listed.output.split(b"\0") if path}
        changes = await trio.to_thread.run_sync(_sort, self._repository.top, paths, max_file_bytes)
        changes = await self._without_filtered(changes)
        if changes.gone:
            await self._update(changes.gone, "--force-remove")
        if changes.present:
            await self._update(changes.present, "--add", "--remove", "--replace", throwaway=throwaway)
        return changes

    async def _update(self, paths: Sequence[bytes], *options: str, throwaway: bool = False) -> None:
        await self.run("update-index", *options, "-z", "--stdin", stdin=_lines(paths), throwaway=throwaway)

    async def _without_filtered(self, changes: Changes) -> Changes:
        if not changes.present:
            return changes
        asked = await self.run("check-attr", "-z", "--stdin", "filter", stdin=_lines(changes.present))
        words = asked.output.split(b"\0")
        harmless = {b"unspecified", b"unset", b"", *((lfs.ATTRIBUTE,) if self._filters else ())}
        filtered = {path for path, value in zip(words[0::3], words[2::3], strict=False) if value not in harmless}
        if not filtered:
            return changes
        present = [path for path in changes.present if path not in filtered]
        return Changes(present, changes.gone, sorted([*changes.left_out, *filtered]))

    def put_contents(self) -> None:
        """Have large files put in place whole from now on, as far as their contents lie in our folder."""
        if self._git.lfs_program is not None:
            self._filters = lfs.filter_options(self._git.lfs_program, self.folder / "lfs", contents=True)

    async def keep_large(self) -> None:
        """Keep the contents of the large files that `take` has taken in, in the workspace's repository.

        Raises:
            OSError: It cannot be done.
        """
        await trio.to_thread.run_sync(lfs.keep, self.folder / "lfs", self._repository.common_dir, self._owner)

    async def write_tree(self, *, throwaway: bool = False) -> str:
        """Return the tree of the index.

        Raises:
            GitFailed: It failed, perhaps because files are in conflict.
        """
        return (await self.run("write-tree", throwaway=throwaway)).text

    async def keep_index(self) -> bool:
        """Make our index the workspace's own, and tell whether it could be done: not while another git is at work."""
        return await trio.to_thread.run_sync(self._keep_index)

    def _keep_index(self) -> bool:
        real = self._repository.git_dir / "index"
        lock = real.with_name("index.lock")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            descriptor = os.open(lock, flags, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(descriptor, "wb") as target, self.index.open("rb") as source:
                shutil.copyfileobj(source, target)
                _keep_time(source.fileno(), target)
                if self._owner is not None:
                    os.fchown(target.fileno(), *self._owner)
            lock.replace(real)
        except BaseException:
            lock.unlink(missing_ok=True)
            raise
        return True


@asynccontextmanager
async def open_shadow(git: Git, repository: Repository) -> AsyncIterator[Shadow]:
    """Make our folder for a workspace, and remove it afterwards.

    Raises:
        GitFailed: The repository's format or HEAD cannot be learnt.
        OSError: It cannot be made.
    """
    owner = await trio.to_thread.run_sync(owner_of, repository.top)
    asked = await git.run(
        *("rev-parse", "--show-object-format", "--verify", "--quiet", "HEAD^{commit}"),
        cwd=repository.top,
        env={"GIT_DIR": str(repository.git_dir)},
        owner=owner,
        check=False,
    )
    words = asked.text.split()
    if not words:
        raise GitFailed("rev-parse", asked.said.strip()[-200:] or "it says nothing of the repository")
    head = words[1] if len(words) > 1 else None
    folder = await trio.to_thread.run_sync(_make, repository, owner, words[0], head)
    try:
        yield Shadow(git, folder, repository, owner, head)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))


def _make(repository: Repository, owner: Owner, object_format: str, head: str | None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="clonk-git-"))
    try:
        for name in ("objects", "refs", "info"):
            (folder / name).mkdir()
        (folder / "HEAD").write_text(f"{head or 'ref: refs/heads/none'}\n")
        (folder / "config").write_text(
            "[core]\n\trepositoryformatversion = 1\n\tbare = false\n[extensions]\n"
            + (f"\tobjectFormat = {object_format}\n" if object_format != "sha1" else "")
        )
        for source, name in ((repository.git_dir / "index", "index"), (repository.common_dir / "shallow", "shallow")):
            _copy(source, folder / name)
        if owner is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, *owner, follow_symlinks=False)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _copy(source: Path, target: Path) -> None:
    """Copy a file of the workspace's. Not through a link: we may read more than its owner."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "rb") as opened, target.open("wb") as copy:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise OSError("it is no file")
        shutil.copyfileobj(opened, copy)
        _keep_time(opened.fileno(), copy)


def _keep_time(source: int, target: BinaryIO) -> None:
    """Give a copy of an index the original's time: git looks again at files that are as new as the index is."""
    status = os.fstat(source)
    target.flush()
    os.utime(target.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))


def _sort(top: Path, paths: Iterable[bytes], max_file_bytes: int) -> Changes:
    """Look at every path that differs. A link is recorded as a link, and nothing is looked at through one."""
    root = os.fsencode(top)
    links: dict[bytes, bool] = {b"": False}
    changes = Changes([], [], [])
    for path in sorted(paths):
        if path.endswith(b"/"):  # a repository of its own
            changes.left_out.append(path)
            continue
        full = os.path.join(root, path)  # noqa: PTH118 - bytes
        try:
            status = os.lstat(full)
        except OSError:
            changes.gone.append(path)
            continue
        is_file, is_link = stat.S_ISREG(status.st_mode), stat.S_ISLNK(status.st_mode)
        if stat.S_ISDIR(status.st_mode) and os.path.lexists(os.path.join(full, b".git")):  # noqa: PTH118 - bytes
            changes.left_out.append(path)  # a submodule
        elif not (is_file or is_link) or _is_behind_link(root, os.path.dirname(path), links):  # noqa: PTH120
            changes.gone.append(path)
        elif is_file and (status.st_size > max_file_bytes or not os.access(full, os.R_OK)):
            changes.left_out.append(path)
        else:
            changes.present.append(path)
    return changes


def _is_behind_link(top: bytes, folder: bytes, known: dict[bytes, bool]) -> bool:
    if folder not in known:
        is_link = os.path.islink(os.path.join(top, folder))  # noqa: PTH114, PTH118 - bytes
        known[folder] = is_link or _is_behind_link(top, os.path.dirname(folder), known)  # noqa: PTH120
    return known[folder]


def _quoted(folder: str) -> str:
    return '"' + folder.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _lines(paths: Iterable[bytes]) -> bytes:
    return b"".join(path + b"\0" for path in paths)
