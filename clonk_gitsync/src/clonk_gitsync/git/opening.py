"""Opens our folder beside a workspace's repository for one operation."""

import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from clonk_gitsync.git.process import Git, GitFailed, Owner, owner_of
from clonk_gitsync.git.repository import Repository
from clonk_gitsync.git.shadow import Shadow
from clonk_gitsync.git.shadow_folder import ShadowFolder, ShadowFolders, clear_objects, make
from clonk_gitsync.git.unfinished import remove_unfinished

CLOCK_TICK_NS: Final = 20_000_000
"""A file's time may be so much older than the clock's."""


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
    shadow, folder = opened, opened.folder_in_use
    since_ns = time.time_ns() - CLOCK_TICK_NS
    try:
        yield shadow
    except BaseException:
        folder.can_be_kept = False
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_remove_unfinished, repository, since_ns, folder.owner)
        raise
    finally:
        with trio.CancelScope(shield=True):
            if folder.can_be_kept and (shadow.made_objects or (folder.path / "lfs").exists()):
                await trio.to_thread.run_sync(clear_objects, folder)
            for path in kept.give_back(folder):
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
    )
    words = asked.text.split()
    if not words:
        raise GitFailed("rev-parse", asked.said.strip()[-200:] or "it says nothing of the repository")
    return (words[1] if len(words) > 1 else None), words[0]
