"""Work trees of git for forked sessions: what was checked out at a checkpoint, with the files as they were then."""

import os
import shutil
from pathlib import Path
from typing import Final

import trio

from clonk_claudecode.checkpoints.checkpoints import Checkpoints
from clonk_claudecode.checkpoints.git import GitFailed, owner_of
from clonk_claudecode.checkpoints.messages import StoredCheckpoint
from clonk_claudecode.checkpoints.repository import NoRepository, Repository, find_repository
from clonk_claudecode.checkpoints.shadow import Shadow
from clonk_claudecode.store.fork_rows import StoredWorktree
from clonk_core.plugin import Log

CLEAN_UP_S: Final = 30.0
"""To remove a work tree; what is left then stays."""


async def add_worktree(
    checkpoints: Checkpoints, session_id: str, repository: Path, checkpoint: StoredCheckpoint, top: Path
) -> Path:
    """Make a work tree and return the folder in it that corresponds to the parent's working directory.

    HEAD is detached at what was checked out when the checkpoint was made, so that the recorded files show as changes;
    where there was no commit yet, at the checkpoint itself. Submodules are empty folders. No hook and no filter runs.

    Args:
        checkpoints: Gives our folder for the session.
        session_id: The new session.
        repository: The repository's folder.
        checkpoint: What the files shall be.
        top: Where; must not exist.

    Raises:
        GitFailed, NoRepository, OSError: It did not work; what was made is there still.
    """
    head = checkpoint.head_id or checkpoint.commit_id
    git = checkpoints.git
    await trio.to_thread.run_sync(_make_top, top, repository)
    await git.in_repository(repository, "worktree", "add", "--quiet", "--detach", "--no-checkout", top, head)
    made = await trio.to_thread.run_sync(find_repository, top, (top, repository))
    shadow = await checkpoints.shadow(session_id, made)
    await _fill(shadow, checkpoint, head)
    # The work tree's own index, as after a commit: what differs from HEAD is a change.
    await git.run("read-tree", head, cwd=top, env={"GIT_DIR": str(made.git_dir), "GIT_WORK_TREE": str(top)})
    await _make_submodule_folders(checkpoints, made)
    if checkpoint.prefix:
        # What our index holds beside the session's folder is not the session's.
        await shadow.forget_index()
    folder = top / checkpoint.prefix
    await trio.to_thread.run_sync(lambda: folder.mkdir(parents=True, exist_ok=True))
    return folder


def _make_top(top: Path, repository: Path) -> None:
    top.mkdir(parents=True, mode=0o700)
    owner = owner_of(repository)
    if owner is not None:
        os.chown(top, *owner)


async def _fill(shadow: Shadow, checkpoint: StoredCheckpoint, head: str) -> None:
    """Write the files: the checkpoint's, and for a session in a subfolder what was committed around it."""
    if not checkpoint.prefix:
        await shadow.run("read-tree", checkpoint.commit_id, at_top=True)
    else:
        await shadow.run("read-tree", head, at_top=True)
        inner = checkpoint.prefix.rstrip("/")
        await shadow.run("rm", "-r", "-q", "--cached", "--ignore-unmatch", "--", f":(top,literal){inner}", at_top=True)
        tree = f"{checkpoint.commit_id}:{inner}"
        found = await shadow.run("cat-file", "-e", tree, check=False, at_top=True)
        if found.returncode == 0:
            await shadow.run("read-tree", f"--prefix={checkpoint.prefix}", tree, at_top=True)
    await shadow.run("checkout-index", "--all", "--force", "--quiet", "-u", at_top=True)


async def _make_submodule_folders(checkpoints: Checkpoints, made: Repository) -> None:
    listed = await checkpoints.git.run(
        "ls-files", "-z", "-s", cwd=made.top, env={"GIT_DIR": str(made.git_dir), "GIT_WORK_TREE": str(made.top)}
    )
    names = [line.partition(b"\t")[2] for line in listed.stdout.split(b"\0") if line.startswith(b"160000 ")]

    def make() -> None:
        for name in names:
            folder = made.top / name.decode(errors="surrogateescape")
            if not folder.exists() and folder.parent.resolve().is_relative_to(made.top):
                folder.mkdir(parents=True, exist_ok=True)

    await trio.to_thread.run_sync(make)


async def remove_worktree(
    checkpoints: Checkpoints, worktree: StoredWorktree, session_id: str, *, force: bool, log: Log
) -> bool:
    """Remove a work tree and tell whether it is gone. Without `force` one that was worked in stays.

    Args:
        checkpoints: Runs git.
        worktree: Which.
        session_id: Whose.
        force: Also one with changes.
        log: For what did not work.
    """
    repository, top = Path(worktree.repository), Path(worktree.top)
    if not await trio.to_thread.run_sync(lambda: top.is_dir() and repository.is_dir()):
        return True
    try:
        with trio.fail_after(CLEAN_UP_S):
            if not force and not await _is_untouched(checkpoints, worktree, session_id):
                return False
            git = checkpoints.git
            # Twice: also one that is locked, as it is while it is being made.
            done = await git.in_repository(repository, "worktree", "remove", "--force", "--force", top, check=False)
            await trio.to_thread.run_sync(lambda: shutil.rmtree(top, ignore_errors=True))
            if done.returncode != 0:
                await git.in_repository(repository, "worktree", "prune")
    except (GitFailed, NoRepository, OSError, trio.TooSlowError) as error:
        log.warning("a work tree stays", session=session_id, reason=str(error))
        return False
    return True


async def _is_untouched(checkpoints: Checkpoints, worktree: StoredWorktree, session_id: str) -> bool:
    """Tell whether files and HEAD are as they were made. Ignored files do not count."""
    top = Path(worktree.top)
    try:
        made = await trio.to_thread.run_sync(find_repository, top, (top, Path(worktree.repository)))
    except NoRepository:
        return False
    git = checkpoints.git
    asked = f"HEAD\n{worktree.commit_id}^\n{worktree.commit_id}^{{tree}}\n".encode()
    known = await git.in_repository(made.git_dir, "cat-file", "--batch-check", stdin=asked)
    lines = [line.split() for line in known.stdout.decode().splitlines()]
    head, parent, tree = (words[0] if words[-1] != "missing" else None for words in lines)
    if head != (parent or worktree.commit_id):
        return False
    shadow = await checkpoints.shadow(session_id, made)
    changes = await shadow.take(checkpoints.limits)
    return not changes.left_out and await shadow.write_tree() == tree
