"""A git folder of our own beside a workspace's repository: settings and index are ours, the objects its own.

So files are read, recorded and put in place without the workspace's own settings, in which it could have named programs
to be run with our rights: filters, drivers, monitors, hooks. A filter that no settings define does nothing; files that
want one are left alone, since without it they would be recorded as what they are not. The one exception is large files
(`lfs.py`), where the server has git-lfs.

The folder belongs to the workspace's owner, and is for one operation at a time; `shadow_folder.py` says when it is
kept.
"""

import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import trio

from clonk_gitsync.git import lfs
from clonk_gitsync.git.changes import Changes, Listed, listed, may_have_attribute, sort
from clonk_gitsync.git.index_file import put_index
from clonk_gitsync.git.loose import Recorded
from clonk_gitsync.git.process import MAX_OUTPUT, SAID_CHARS, Done, Git, GitFailed, Owner
from clonk_gitsync.git.refs import NotPlain, check_plain, read_ref
from clonk_gitsync.git.repository import Repository
from clonk_gitsync.git.restless import take_in
from clonk_gitsync.git.shadow_folder import ShadowFolder

LOOKING: Final = frozenset(
    {
        "cat-file",
        "check-attr",
        "diff",
        "diff-tree",
        "hash-object",
        "log",
        "ls-files",
        "merge-base",
        "merge-tree",
        "pack-objects",
        "rev-list",
        "rev-parse",
        "status",
    }
)
"""Subcommands after which an index still says the same as before. After any other it is copied anew."""

LEARNING: Final = frozenset({"diff", "status"})
"""Subcommands that write down what they have learnt of files, when they may."""

NEW: Final = ("ls-files", "-z", "-o", "--exclude-standard")

CRASHES: Final = 10
"""Times that a command is tried which crashes because a file was cut."""

WHO: Final = {"GIT_COMMITTER_NAME": "Clonk", "GIT_COMMITTER_EMAIL": "clonk@localhost"}
"""Who moves refs, for the workspace's reflog."""


class Shadow:
    """Our folder for one operation on a workspace. Made by `opening.py`."""

    def __init__(self, git: Git, folder: ShadowFolder) -> None:
        self._git = git
        self._folder = folder
        self._repository = folder.repository
        self._owner = folder.owner
        self.folder = folder.path
        self.head = folder.head
        self.object_format = folder.object_format
        self.made_objects = False
        self.recorded: Recorded | None = None
        program = git.lfs_program
        self._filters = () if program is None else lfs.filter_options(program, f"{self.folder}/lfs")

    @property
    def index(self) -> Path:
        """Our index."""
        return self.folder / "index"

    @property
    def repository(self) -> Repository:
        """The workspace's."""
        return self._repository

    @property
    def folder_in_use(self) -> ShadowFolder:
        """Our folder and what is known of it."""
        return self._folder

    @property
    def owner(self) -> Owner:
        """As whom git works there."""
        return self._owner

    def environment(self, *, throwaway: bool = False) -> dict[str, str]:
        """Return what makes git work on our folder. With `throwaway`, new objects go with the folder."""
        objects = f"{self._repository.common_dir}/objects"
        variables = {
            "GIT_DIR": str(self.folder),
            "GIT_WORK_TREE": str(self._repository.top),
            "GIT_INDEX_FILE": f"{self.folder}/index",
            "GIT_OBJECT_DIRECTORY": f"{self.folder}/objects" if throwaway else objects,
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
        options: Sequence[str] = (),
        throwaway: bool = False,
        check: bool = True,
        cut_after: int | None = None,
    ) -> Done:
        """Run a subcommand at the top of the work tree, on our index.

        Raises:
            GitFailed: It failed.
        """
        if arguments[0] not in LOOKING:
            self._folder.copied = None
        self.made_objects = self.made_objects or throwaway
        variables = {**self.environment(throwaway=throwaway), **(env or {})}
        if arguments[0] in LEARNING and self._folder.is_to_learn():
            variables["GIT_OPTIONAL_LOCKS"] = "1"
            self._folder.note_lesson()
        left = CRASHES
        while True:
            left -= 1
            done = await self._git.run(
                *arguments,
                cwd=self._repository.top,
                env=variables,
                options=(*self._filters, *options),
                stdin=stdin,
                stdout=stdout,
                owner=self._owner,
                check=False,
                max_output=MAX_OUTPUT if cut_after is None else cut_after,
                cut_output=cut_after is not None,
                settings_are_ours=self._owner is None,
            )
            # Git maps files into its memory. One that somebody cuts meanwhile makes it crash; its lock is left.
            if done.code != -signal.SIGBUS or isinstance(stdin, int) or stdout is not None or left == 0:
                break
            self.index.with_name("index.lock").unlink(missing_ok=True)
        if check and done.code != 0:
            raise GitFailed(str(arguments[0]), done.said.strip()[-SAID_CHARS:] or f"exit code {done.code}")
        return done

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
        try:
            return await trio.to_thread.run_sync(self._branch, name)
        except NotPlain:
            pass
        done = await self.run_real("show-ref", "--verify", "--hash", f"refs/heads/{name}", check=False)
        return done.text if done.code == 0 else None

    def _branch(self, name: str) -> str | None:
        check_plain(self._repository.common_dir)
        return read_ref(self._repository.common_dir, f"refs/heads/{name}")

    # ── Taking in ─────────────────────────────────────────────────────────────

    async def take(self, max_file_bytes: int, *, throwaway: bool = False) -> Changes:
        """Bring the index to the state of the files, and return what was different. Conflicts count as resolved.

        Raises:
            GitFailed: It failed, perhaps because the files are changing.
        """
        return await self.take_in((await self.changed()).paths, max_file_bytes, throwaway=throwaway)

    async def new(self, *paths: str) -> list[bytes]:
        """Return the files that git does not know, of some paths or of all.

        Raises:
            GitFailed: It failed.
        """
        return [path for path in (await self.run(*NEW, *paths)).output.split(b"\0") if path]

    async def changed(self) -> Listed:
        """Return what differs from the index, new files and conflicts included.

        Raises:
            GitFailed: It failed.
        """
        return listed((await self.run("ls-files", "-t", "-z", "-o", "-m", "-d", "-u", "--exclude-standard")).output)

    async def take_in(self, paths: Iterable[bytes], max_file_bytes: int, *, throwaway: bool = False) -> Changes:
        """Bring the index to the state of some files, and return what was done.

        Raises:
            GitFailed: It failed, perhaps because the files are changing.
        """
        changes = await self.sorted(paths, max_file_bytes)
        if changes.hidden:
            await self._update(changes.hidden, "--force-remove")
        if changes.present or changes.gone:
            await take_in(self, [*changes.gone, *changes.present], max_file_bytes, throwaway=throwaway)
        return changes

    async def sorted(self, paths: Iterable[bytes], max_file_bytes: int) -> Changes:
        """Look at files and return what may be recorded of them.

        Raises:
            GitFailed: It failed.
        """

        def look() -> tuple[Changes, bool]:
            changes = sort(self._repository.top, paths, max_file_bytes, self._owner)
            return changes, may_have_attribute(self._repository.top, self.index, changes.present, b"filter")

        changes, may_be = await trio.to_thread.run_sync(look)
        return changes.without(await self._filtered(changes.present)) if may_be else changes

    async def _update(self, paths: Sequence[bytes], *options: str) -> None:
        await self.run("update-index", *options, "-z", "--stdin", stdin=_lines(paths))

    async def _filtered(self, paths: Sequence[bytes]) -> set[bytes]:
        asked = await self.run("check-attr", "-z", "--stdin", "filter", stdin=_lines(paths))
        words = asked.output.split(b"\0")
        harmless = {b"unspecified", b"unset", b"", *((lfs.ATTRIBUTE,) if self._filters else ())}
        return {path for path, value in zip(words[0::3], words[2::3], strict=False) if value not in harmless}

    def put_contents(self) -> None:
        """Have large files put in place whole from now on, as far as their contents lie in our folder."""
        if self._git.lfs_program is not None:
            self._filters = lfs.filter_options(self._git.lfs_program, f"{self.folder}/lfs", contents=True)

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
        return await trio.to_thread.run_sync(put_index, self.index, self._repository.git_dir, self._owner)


def _quoted(folder: str) -> str:
    return '"' + folder.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _lines(paths: Iterable[bytes]) -> bytes:
    return b"".join(path + b"\0" for path in paths)
