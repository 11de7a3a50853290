"""Opens our folder beside a workspace's repository for one operation."""

import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import trio

from clonk_gitsync.git.filling import clear_objects, make
from clonk_gitsync.git.kept_folders import ShadowFolders
from clonk_gitsync.git.process import Git, GitFailed, Owner, owner_of
from clonk_gitsync.git.refs import NotPlain, read_head
from clonk_gitsync.git.repository import Repository
from clonk_gitsync.git.shadow import Shadow
from clonk_gitsync.git.shadow_folder import Seen, ShadowFolder
from clonk_gitsync.git.side_by_side import both
from clonk_gitsync.git.unfinished import remove_unfinished

CLOCK_TICK_NS: Final = 20_000_000
"""A file's time may be so much older than the clock's."""


ASK_S: Final = 10.0
"""Longest time for what git reads from one file or two: one that is a pipe holds it up for ever."""

S = TypeVar("S", bound=Seen)
T = TypeVar("T")


class _IsOtherwise(Exception):
    """A workspace is not what it was guessed to be."""


async def look(
    git: Git,
    folders: ShadowFolders,
    top: Path,
    find: Callable[[], Repository],
    kind: type[S],
    read: Callable[[Repository], S],
    work: Callable[[Shadow, S], Awaitable[T]],
) -> T:
    """Look at a workspace, and change nothing there.

    Where nothing has happened to its repository at the last two times, git is asked at once, and whether that is still
    so is found out meanwhile: the most of the time that a small repository takes. When it is not so, what git says is
    thrown away.

    Args:
        git: Runs git.
        folders: Where our folders are kept.
        top: The root of the workspace.
        find: Finds its repository, in a thread.
        kind: What is read before.
        read: Reads that, in a thread.
        work: Looks, with that.

    Raises:
        GitFailed: The repository's format or HEAD cannot be learnt.
        OSError: Our folder cannot be made.
    """
    guessed = folders.guess(top, kind)
    expected = None if guessed is None else guessed.recall(kind)
    if guessed is not None and expected is not None:
        with suppress(Exception):  # raised below once more, of what is there now
            async with _used(folders, Shadow(git, guessed)) as shadow:
                with suppress(_IsOtherwise):
                    return await _guess(shadow, find, read, expected, work)

    told: list[S] = []

    def first(shadow: Shadow) -> None:
        told.append(read(shadow.repository))
        shadow.folder_in_use.remember(told[0])

    async with open_shadow(git, find, folders, first) as shadow:
        return await work(shadow, told[0])


async def _guess(
    shadow: Shadow,
    find: Callable[[], Repository],
    read: Callable[[Repository], S],
    seen: S,
    work: Callable[[Shadow, S], Awaitable[T]],
) -> T:
    """Look at a workspace while it is found out whether it is what it was.

    Raises:
        _IsOtherwise: It is not.
    """
    folder = shadow.folder_in_use

    def check() -> None:
        repository = find()
        try:
            head = read_head(repository)
        except NotPlain as error:
            raise _IsOtherwise from error
        if not folder.is_still(repository, owner_of(repository.top), head) or read(repository) != seen:
            raise _IsOtherwise

    found, _ = await both(lambda: work(shadow, seen), lambda: trio.to_thread.run_sync(check))
    return found


@asynccontextmanager
async def open_shadow(
    git: Git,
    find: Repository | Callable[[], Repository],
    folders: ShadowFolders | None = None,
    first: Callable[[Shadow], None] | None = None,
) -> AsyncIterator[Shadow]:
    """Open our folder for a workspace; afterwards it is removed, or kept for the next time.

    Args:
        git: Runs git.
        find: The workspace's repository, or what finds it, in a thread.
        folders: Where folders are kept; None keeps none.
        first: What is to be looked at before, in the same thread: each change to a thread costs.

    Raises:
        GitFailed: The repository's format or HEAD cannot be learnt.
        OSError: It cannot be made.
    """
    kept = folders or ShadowFolders()

    def take() -> tuple[Repository, Shadow | None]:
        repository = find if isinstance(find, Repository) else find()
        folder = kept.take(repository)
        return repository, None if folder is None else begin(folder)

    def begin(folder: ShadowFolder) -> Shadow:
        try:
            shadow = Shadow(git, folder)
            if first is not None:
                first(shadow)
        except BaseException:
            shutil.rmtree(folder.path, ignore_errors=True)
            raise
        return shadow

    repository, opened = await trio.to_thread.run_sync(take)
    if opened is None:
        owner = await trio.to_thread.run_sync(owner_of, repository.top)
        head, object_format = await _ask(git, repository, owner)
        opened = await trio.to_thread.run_sync(lambda: begin(make(repository, owner, object_format, head)))
    async with _used(kept, opened):
        yield opened


@asynccontextmanager
async def _used(folders: ShadowFolders, shadow: Shadow) -> AsyncIterator[Shadow]:
    """Give our folder back after its use, or remove it."""
    folder = shadow.folder_in_use
    since_ns = time.time_ns() - CLOCK_TICK_NS
    try:
        yield shadow
    except BaseException:
        folder.can_be_kept = False
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_remove_unfinished, folder.repository, since_ns, folder.owner)
        raise
    finally:
        with trio.CancelScope(shield=True):
            if folder.can_be_kept and (shadow.made_objects or (folder.path / "lfs").exists()):
                await trio.to_thread.run_sync(clear_objects, folder)
            for path in folders.give_back(folder):
                await trio.to_thread.run_sync(partial(shutil.rmtree, path, ignore_errors=True))


def _remove_unfinished(repository: Repository, since_ns: int, owner: Owner) -> None:
    owner_id = None if owner is None else owner[0]
    remove_unfinished(repository.common_dir / "objects", since_ns=since_ns, owner_id=owner_id)


async def _ask(git: Git, repository: Repository, owner: Owner) -> tuple[str | None, str]:
    """Return what is checked out, and the format of objects."""
    asked = await git.run(
        *("rev-parse", "--show-object-format", "--verify", "--quiet", "HEAD^{commit}"),
        cwd=repository.top,
        env={"GIT_DIR": str(repository.git_dir)},
        owner=owner,
        check=False,
        limit_s=ASK_S,
    )
    words = asked.text.split()
    if not words:
        raise GitFailed("rev-parse", asked.said.strip()[-200:] or "it says nothing of the repository")
    return (words[1] if len(words) > 1 else None), words[0]
