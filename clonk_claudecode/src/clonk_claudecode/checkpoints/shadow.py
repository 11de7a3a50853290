"""A git folder of our own beside a session's repository: its settings and index are ours, the objects the repository's.

So the files can be recorded and put back without touching the repository's index, and without reading its settings,
where a workspace could have named programs to be run with our rights: filters above all. Contents are taken and given
back byte for byte: our attributes, which count more than any `.gitattributes`, switch off every conversion.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final

import attrs
import trio

from clonk_claudecode.checkpoints.git import Git, GitFailed, owner_of
from clonk_claudecode.checkpoints.messages import MAX_NAMED
from clonk_claudecode.checkpoints.repository import Repository

ATTRIBUTES: Final = "* -text -eol -crlf -ident -filter -working-tree-encoding\n"

BATCH_FILES: Final = 5000
BATCH_BYTES: Final = 64 * 1024 * 1024
"""Taken into the index at once. What is taken stays taken when the time is up, so that a large folder is recorded in
the end."""


class TooMuchToRecord(GitFailed):
    """More has changed than one checkpoint may hold."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__("update-index", f"{size} bytes have changed, more than checkpoints.max_bytes ({limit})")


@attrs.frozen(kw_only=True)
class Limits:
    """Bounds of what is recorded.

    Attributes:
        max_file_bytes: Larger files are left out.
        max_bytes: When more has changed, nothing is recorded.
    """

    max_file_bytes: int
    max_bytes: int


@attrs.frozen
class Changes:
    """What differs from the index, as paths relative to the top of the work tree.

    Attributes:
        present: To be taken in, with their sizes.
        gone: To be taken out.
        left_out: Neither; and taken out of the index.
    """

    present: list[tuple[bytes, int]]
    gone: list[bytes]
    left_out: list[bytes]

    def told(self) -> tuple[tuple[str, ...], int]:
        """Return the first names that were left out, and how many were."""
        return tuple(path.decode(errors="replace") for path in self.left_out[:MAX_NAMED]), len(self.left_out)


class Shadow:
    """Our folder for one session.

    Args:
        git: Runs git.
        folder: Ours; made when missing.
        repository: Whose files are recorded.
    """

    def __init__(self, git: Git, folder: Path, repository: Repository) -> None:
        self._git = git
        self._folder = folder
        self._repository = repository
        self._env = {
            "GIT_DIR": str(folder),
            "GIT_WORK_TREE": str(repository.top),
            "GIT_INDEX_FILE": str(folder / "index"),
            "GIT_OBJECT_DIRECTORY": str(repository.common_dir / "objects"),
        }

    async def prepare(self) -> None:
        """Make the folder if need be.

        Raises:
            GitFailed: The repository's format cannot be learnt.
        """
        if not await trio.to_thread.run_sync((self._folder / "config").is_file):
            said = await self._git.in_repository(self._repository.git_dir, "rev-parse", "--show-object-format")
            await trio.to_thread.run_sync(self._make, said.stdout.decode().strip())
        await trio.to_thread.run_sync(self._tidy)

    def _make(self, object_format: str) -> None:
        for name in ("objects", "refs", "info"):
            (self._folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._folder / "HEAD").write_text("ref: refs/heads/none\n")
        (self._folder / "info" / "attributes").write_text(ATTRIBUTES)
        (self._folder / "config").write_text(
            "[core]\n\trepositoryformatversion = 1\n\tbare = false\n[extensions]\n"
            + (f"\tobjectFormat = {object_format}\n" if object_format != "sha1" else "")
        )

    def _tidy(self) -> None:
        # A git that was killed has left it; nobody else works here.
        (self._folder / "index.lock").unlink(missing_ok=True)
        owner = owner_of(self._repository.folder)
        if owner is not None and self._folder.stat().st_uid != owner[0]:
            for path in (self._folder, *self._folder.rglob("*")):
                os.chown(path, *owner, follow_symlinks=False)

    async def forget_index(self) -> None:
        """Begin anew: everything is read again."""
        await trio.to_thread.run_sync(lambda: (self._folder / "index").unlink(missing_ok=True))

    async def run(
        self, *arguments: str, stdin: bytes = b"", index: Path | None = None, check: bool = True, at_top: bool = False
    ) -> CompletedProcess[bytes]:
        """Run a subcommand in the session's folder, on our index or another.

        Raises:
            GitFailed: It failed.
        """
        env = self._env if index is None else {**self._env, "GIT_INDEX_FILE": str(index)}
        return await self._git.run(
            *arguments,
            cwd=self._repository.top if at_top else self._repository.folder,
            env=env,
            options=(f"core.excludesFile={self._repository.common_dir / 'info' / 'exclude'}",),
            stdin=stdin,
            check=check,
        )

    # ── Taking in ─────────────────────────────────────────────────────────────

    async def take(self, limits: Limits) -> Changes:
        """Bring the index to the state of the files, and return what was different.

        Raises:
            TooMuchToRecord: Over the limit.
            GitFailed: It failed, perhaps because the files are changing.
        """
        listed: dict[str, list[bytes]] = {}
        failures: list[GitFailed] = []

        async def list_into(key: str, *arguments: str, index: Path | None = None, check: bool = True) -> None:
            try:
                done = await self.run("ls-files", "-z", "--full-name", *arguments, "--", ".", index=index, check=check)
            except GitFailed as error:
                failures.append(error)
                return
            listed[key] = [path for path in done.stdout.split(b"\0") if path] if done.returncode == 0 else []

        ignored = ("-c", "-i", "--exclude-standard")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(list_into, "changed", "-o", "-m", "-d", "--exclude-standard")
            nursery.start_soon(list_into, "ours", *ignored)
            # Ignored and added by force: those are not left alone. An index that we cannot read names none.
            nursery.start_soon(lambda: list_into("forced", *ignored, index=self._real_index, check=False))
        if failures:
            raise failures[0]
        forced = set(listed["forced"])
        changed = {*listed["changed"], *forced}
        no_longer = [path for path in listed["ours"] if path not in forced]
        changes = await trio.to_thread.run_sync(self._sort, changed - set(no_longer), limits)
        await self._apply(changes, no_longer)
        return changes

    @property
    def _real_index(self) -> Path:
        return self._repository.git_dir / "index"

    def _sort(self, paths: Iterable[bytes], limits: Limits) -> Changes:
        """Look at every path that differs. A link is recorded as a link, and nothing is looked at through one."""
        top = os.fsencode(self._repository.top)
        links: dict[bytes, bool] = {b"": False}
        changes = Changes([], [], [])
        for path in sorted(paths):
            if path.endswith(b"/"):  # a repository of its own
                changes.left_out.append(path)
                continue
            try:
                status = os.lstat(os.path.join(top, path))  # noqa: PTH118 - bytes
            except OSError:
                changes.gone.append(path)
                continue
            is_file, is_link = stat.S_ISREG(status.st_mode), stat.S_ISLNK(status.st_mode)
            if not (is_file or is_link) or _is_behind_link(top, os.path.dirname(path), links):  # noqa: PTH120
                changes.gone.append(path)
            elif is_file and (status.st_size > limits.max_file_bytes or not _readable(top, path)):
                changes.left_out.append(path)
            else:
                changes.present.append((path, status.st_size))
        size = sum(size for _path, size in changes.present)
        if size > limits.max_bytes:
            raise TooMuchToRecord(size, limits.max_bytes)
        return changes

    async def _apply(self, changes: Changes, no_longer: Sequence[bytes]) -> None:
        out = [*changes.gone, *no_longer, *(path for path in changes.left_out if not path.endswith(b"/"))]
        if out:
            await self.run("update-index", "--force-remove", "-z", "--stdin", stdin=_lines(out), at_top=True)
        for batch in _batches(changes.present):
            await self.add(batch)

    async def add(self, paths: Sequence[bytes]) -> None:
        """Take these files into the index, ignored or not.

        Raises:
            GitFailed: It failed.
        """
        words = ("update-index", "--add", "--remove", "--replace", "-z", "--stdin")
        await self.run(*words, stdin=_lines(paths), at_top=True)

    async def write_tree(self) -> str:
        """Return the tree of the index.

        Raises:
            GitFailed: It failed, perhaps because the repository has lost an object.
        """
        return (await self.run("write-tree")).stdout.decode().strip()

    async def commit(self, tree: str, head: str | None, message: str) -> str:
        """Make a commit and return it.

        Args:
            tree: What it holds.
            head: Its parent: what was checked out.
            message: What it says.

        Raises:
            GitFailed: It failed.
        """
        who = {
            f"GIT_{role}_{part}": value
            for role in ("AUTHOR", "COMMITTER")
            for part, value in (("NAME", "Clonk"), ("EMAIL", "clonk@localhost"))
        }
        done = await self._git.run(
            *("commit-tree", tree, *(("-p", head) if head else ())),
            cwd=self._repository.folder,
            env={**self._env, **who},
            stdin=message.encode(),
        )
        return done.stdout.decode().strip()


def _is_behind_link(top: bytes, folder: bytes, known: dict[bytes, bool]) -> bool:
    if folder not in known:
        is_link = os.path.islink(os.path.join(top, folder))  # noqa: PTH114, PTH118 - bytes
        known[folder] = is_link or _is_behind_link(top, os.path.dirname(folder), known)  # noqa: PTH120
    return known[folder]


def _readable(top: bytes, path: bytes) -> bool:
    return os.access(os.path.join(top, path), os.R_OK)  # noqa: PTH118 - bytes


def _batches(files: Sequence[tuple[bytes, int]]) -> Iterable[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for path, file_size in files:
        batch.append(path)
        size += file_size
        if len(batch) >= BATCH_FILES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _lines(paths: Iterable[bytes]) -> bytes:
    return b"".join(path + b"\0" for path in paths)
