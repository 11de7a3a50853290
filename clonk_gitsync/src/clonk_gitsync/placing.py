"""Brings a workspace's files from one commit to another, whole or not at all."""

from collections.abc import Sequence
from typing import Final

import trio

from clonk_gitsync.errors import BranchDiverged, WorkspaceBusy
from clonk_gitsync.git import diffs, merging
from clonk_gitsync.git.merging import EMPTY_TREES
from clonk_gitsync.git.process import GitFailed
from clonk_gitsync.git.shadow import Shadow
from clonk_gitsync.git.transfers import take_large_back
from clonk_gitsync.git.undoing import is_broken_off, is_full, put_back
from clonk_gitsync.workbench import Workbench

IN_THE_WAY: Final = ("would be overwritten", "would be removed", "not uptodate", "would lose", "would be lost")
"""What `read-tree` says of files that it would have to overwrite."""

INDEX_TRIALS: Final = 20
INDEX_PAUSE_S: Final = 0.1
"""Another git holds the index for as long as a command takes, mostly some milliseconds."""


async def put_in_place(bench: Workbench, shadow: Shadow, before: str | None, commit: str) -> None:
    """Change the files from one commit to another; what was changed here and would be lost stops it.

    What is already as it shall be is in nobody's way: a pull whose process was killed is finished by the next one.

    Raises:
        WorkspaceBusy: Files are in the way.
    """
    start = before or EMPTY_TREES[len(commit)]
    await shadow.run("update-index", "-q", "--refresh", check=False)
    done = await shadow.run("read-tree", "-m", "-u", start, commit, check=False)
    if done.code == 0:
        return
    bench.log.info("files are in the way", workspace=str(shadow.repository.top), reason=done.said[-500:])
    if is_broken_off(done.said):
        full = is_full(shadow.repository.top)
        await put_back(shadow, start, commit)
        raise GitFailed("read-tree", f"{done.said[-500:]}: {'no space left' if full else 'files cannot be written'}")
    if not any(words in done.said for words in IN_THE_WAY):
        raise GitFailed("read-tree", done.said[-500:])
    files = await merging.differences(shadow, start, commit)
    blocking = await merging.in_the_way(shadow, files)
    ready = await trio.to_thread.run_sync(_ready, shadow, blocking)
    if ready:
        await merging.accept_what_is_done(shadow, ready)
        await shadow.run("update-index", "-q", "--refresh", check=False)
        done = await shadow.run("read-tree", "-m", "-u", start, commit, check=False)
        if done.code == 0:
            return
    paths = diffs.named([one.path for one in blocking if one not in ready])
    raise WorkspaceBusy("dirty", "files that were changed here are in the way; commit or remove them first", paths)


def _ready(shadow: Shadow, files: Sequence[merging.Placed]) -> list[merging.Placed]:
    return [one for one in files if merging.is_done(shadow.repository.top, one)]


async def move_to(bench: Workbench, shadow: Shadow, branch: str, commit: str, reason: str) -> None:
    """Bring the checked out branch with its files to another commit. Once begun it is not cancelled.

    Raises:
        WorkspaceBusy: Files are in the way; nothing was changed.
        BranchDiverged: The branch was moved meanwhile; the files are put back.
    """
    before = shadow.head
    with trio.CancelScope(shield=True):
        # Files first: killed in between, a workspace has what looks like uncommitted changes, and the next pull goes
        # on. The other way round they would look as if the new commits had been undone.
        await put_in_place(bench, shadow, before, commit)
        moved = await shadow.run_real(
            *("update-ref", "--no-deref", "-m", f"clonk: {reason}", f"refs/heads/{branch}"),
            *(commit, before or "0" * len(commit)),
            check=False,
        )
        if moved.code != 0:
            await take_large_back(bench.git, shadow, await merging.differences(shadow, before, commit))
            await put_in_place(bench, shadow, commit, before or EMPTY_TREES[len(commit)])
            raise BranchDiverged(branch, f"{branch!r} was moved meanwhile, or its name is in the way")
        for _ in range(INDEX_TRIALS):  # nobody tells when another git is done
            if await shadow.keep_index():
                return
            await trio.sleep(INDEX_PAUSE_S)
        bench.log.warning("another git is at work; the index stays", workspace=str(shadow.repository.top))
