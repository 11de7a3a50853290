"""The hub's own repository for a workspace by itself: its files, its refs, its upkeep. Speaks with nobody."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from clonk_gitsync.git.process import Done, Git
from clonk_gitsync.git.refs import NotPlain, check_plain, read_all, read_ref, write_ref
from clonk_gitsync.git.shadow import WHO
from clonk_gitsync.git.unfinished import remove_unfinished

MAX_PACKS: Final = 40
"""Packs after which they are put together: each exchange adds one."""

MAX_REMEMBERED: Final = 100
"""Places of a remote's branch that are looked at, at least: each comes of a fetch or a push."""

LOG_LINE_BYTES: Final = 300
"""Of a reflog, more than ever: two ids, who, when and what."""


class HubRepository:
    """A bare repository of ours, which remembers where branches of a remote were.

    Args:
        git: Runs git.
        folder: Where it is; made by `prepare`.
    """

    def __init__(self, git: Git, folder: Path) -> None:
        self._git = git
        self.folder = folder

    async def prepare(self, object_format: str = "sha1") -> None:
        """Make the repository if need be, and put its packs together when they are many.

        Raises:
            GitFailed: It cannot be made.
        """

        def look() -> tuple[bool, int]:
            self._tidy()
            with suppress(FileNotFoundError), os.scandir(self.folder / "objects" / "pack") as entries:
                packs = sum(entry.name.endswith(".pack") for entry in entries)
                return (self.folder / "HEAD").is_file(), packs
            return False, 0

        is_there, packs = await trio.to_thread.run_sync(look)
        if not is_there:
            await trio.to_thread.run_sync(lambda: self.folder.mkdir(parents=True, exist_ok=True, mode=0o700))
            form = f"--object-format={object_format}"
            await self._git.run("init", "--quiet", "--bare", form, str(self.folder), cwd=self.folder)
        if packs > MAX_PACKS:
            await self.run("repack", "-a", "-d", "-q")

    def _tidy(self) -> None:
        """Remove what an exchange that was cut off has left. Nobody else works here meanwhile."""
        remove_unfinished(self.folder / "objects")
        for lock in (*self.folder.glob("*.lock"), *(self.folder / "refs").rglob("*.lock")):
            lock.unlink(missing_ok=True)

    async def run(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        stdin: bytes | int = b"",
        stdout: int | None = None,
        check: bool = True,
    ) -> Done:
        """Run a subcommand that speaks with nobody.

        Raises:
            GitFailed: It failed.
        """
        return await self._git.run(
            *arguments,
            cwd=self.folder,
            env={**self.environment, **(env or {})},
            stdin=stdin,
            stdout=stdout,
            check=check,
        )

    @property
    def environment(self) -> dict[str, str]:
        """What makes git work on it."""
        # Where branches of the remote have been is remembered: a rebase asks (see `former_tips`).
        return {
            "GIT_DIR": str(self.folder),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "core.logAllRefUpdates",
            "GIT_CONFIG_VALUE_0": "true",
            **WHO,
        }

    async def put_ref(self, ref: str, commit: str) -> None:
        """Put a ref somewhere.

        Raises:
            GitFailed: It did not work.
        """

        def put() -> None:
            check_plain(self.folder)
            write_ref(self.folder, ref, commit, "{GIT_COMMITTER_NAME} <{GIT_COMMITTER_EMAIL}>".format(**WHO))

        try:
            await trio.to_thread.run_sync(put)
        except NotPlain:
            await self.run("update-ref", ref, commit)

    async def known_tip(self, branch: str) -> str | None:
        """Return where a branch of the remote was at the last exchange; None when it is not known."""
        try:
            return await trio.to_thread.run_sync(self.tip_in_files, branch)
        except NotPlain:
            done = await self.run("rev-parse", "--verify", "--quiet", tracking(branch), check=False)
            return done.text if done.code == 0 else None

    def tip_in_files(self, branch: str) -> str | None:
        """Return the same as `known_tip`, without git. Touches the disk: for a thread.

        Raises:
            NotPlain: The files do not tell.
        """
        if not (self.folder / "HEAD").is_file():
            return None
        check_plain(self.folder)
        return read_ref(self.folder, tracking(branch))

    async def former_tips(self, branch: str) -> list[str]:
        """Return where a branch of the remote is known to have been, its last places and today's."""
        today = await self.known_tip(branch)
        lines = await trio.to_thread.run_sync(_last_lines, self.folder / "logs" / tracking(branch))
        places = [word for line in lines for word in line.split(" ", 2)[:2]]
        return list(dict.fromkeys(one for one in [*places, today or ""] if one.strip("0")))

    async def tips(self) -> list[str]:
        """Return what the refs are at, each once."""
        try:
            return await trio.to_thread.run_sync(read_all, self.folder)
        except NotPlain:
            done = await self.run("for-each-ref", "--format=%(objectname)")
        return list(dict.fromkeys(done.text.split()))


def tracking(branch: str) -> str:
    """Return the ref that remembers where a branch of the remote is."""
    return f"refs/remotes/origin/{branch}"


def _last_lines(log: Path) -> list[str]:
    """Return the last lines of a reflog, whole ones; none when there is no log."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_REMEMBERED * LOG_LINE_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return lines[1:] if size > MAX_REMEMBERED * LOG_LINE_BYTES else lines
