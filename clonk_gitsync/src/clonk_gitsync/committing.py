"""Records what has changed in a workspace, and moves its branches. Speaks with no remote."""

from collections.abc import Sequence

import trio

from clonk_gitsync.errors import BranchDiverged, WorkspaceBusy
from clonk_gitsync.git import diffs
from clonk_gitsync.git.changes import Changes
from clonk_gitsync.git.commits import CommitText, ident, message_text
from clonk_gitsync.git.index_file import remove_own_lock
from clonk_gitsync.git.loose import Recorded, tree_of
from clonk_gitsync.git.merging import EMPTY_TREES
from clonk_gitsync.git.process import GitFailed
from clonk_gitsync.git.repository import Repository
from clonk_gitsync.git.shadow import Shadow
from clonk_gitsync.git.side_by_side import both
from clonk_gitsync.messages import CommitResult
from clonk_gitsync.workbench import Workbench


async def commit(bench: Workbench, shadow: Shadow, branch: str, message: str) -> CommitResult:
    """Record what has changed on a branch, and check that branch out. No other branch is moved.

    Raises:
        WorkspaceBusy: The repository is in the middle of something, or another git is at work.
        BranchDiverged: The branch has what HEAD lacks.
        SigningFailed: It is to be signed and cannot be.
    """
    await trio.to_thread.run_sync(check_quiet, shadow.repository)
    changed = await shadow.changed()
    if changed.unmerged:
        raise WorkspaceBusy("conflict", "files are in conflict; resolve and commit them first")
    changes = await shadow.take_in(changed.paths, bench.settings.max_file_bytes)
    left_out = diffs.named(changes.left_out)
    current = shadow.repository.head_branch()
    tree = await shadow.write_tree()
    before = f"{shadow.head}^{{tree}}" if shadow.head else EMPTY_TREES[len(tree)]
    words = ("diff-tree", "-r", "-z", "--raw", "--numstat", *diffs.WORDS, before, tree)
    objects = shadow.repository.common_dir / "objects"
    known = await trio.to_thread.run_sync(tree_of, objects, shadow.head)
    early = None if known is not None else await shadow.run(*words)
    if known == tree or (early is not None and not early.output):
        return await _unchanged(shadow, changes, current, left_out)
    await shadow.keep_large()
    parents = (shadow.head,) if shadow.head else ()
    if early is None:  # it is known to be another tree: what differs can be listed meanwhile
        commit, stat = await both(lambda: record(bench, shadow, tree, parents, message), lambda: shadow.run(*words))
        if not stat.output:  # nothing that is taken note of
            return await _unchanged(shadow, changes, current, left_out)
    else:
        commit, stat = await record(bench, shadow, tree, parents, message), early
    shadow.recorded = Recorded(commit, tree, diffs.new_contents(stat.output))
    if current != branch:
        await _go_to(bench, shadow, branch)
    await _move(bench, shadow, branch, commit, shadow.head)
    if not await shadow.keep_index():
        bench.log.info("another git is at work; the index stays", workspace=str(shadow.repository.top))
    files, insertions, deletions = diffs.totals(stat.output)
    return CommitResult(
        commit=commit,
        branch=branch,
        made=True,
        files_changed=files,
        insertions=insertions,
        deletions=deletions,
        left_out=left_out,
    )


async def _unchanged(shadow: Shadow, changes: Changes, current: str | None, left_out: tuple[str, ...]) -> CommitResult:
    if changes.present or changes.gone:
        # The index that a sync which was cut off has left; other line ends; the content in place of a pointer.
        await shadow.keep_index()
    return CommitResult(commit=shadow.head, branch=current, made=False, left_out=left_out)


async def create_branch(bench: Workbench, shadow: Shadow, name: str) -> None:
    """Make a branch where HEAD is and check it out; files and index stay.

    Raises:
        WorkspaceBusy: The repository is in the middle of something.
        BranchDiverged: There is another of that name.
    """
    await trio.to_thread.run_sync(check_quiet, shadow.repository)
    if shadow.head is not None and await shadow.branch(name) not in {None, shadow.head}:
        raise BranchDiverged(name, f"there is a branch {name!r} already, which is elsewhere")
    if shadow.repository.head_branch() != name:
        await _go_to(bench, shadow, name)


async def record(bench: Workbench, shadow: Shadow, tree: str, parents: Sequence[str], message: str) -> str:
    """Make a commit by the configured author, and return its id. No branch is moved.

    Raises:
        SigningFailed: It is to be signed and cannot be.
    """
    author = who(bench)
    text = CommitText(tree=tree, parents=parents, author=author, committer=author, message=message_text(message))
    return await write(bench, shadow, text)


async def write(bench: Workbench, shadow: Shadow, text: CommitText) -> str:
    """Write a commit, signed where a key is configured, and return its id.

    Raises:
        SigningFailed: It is to be signed and cannot be.
    """
    written = text.unsigned()
    if bench.signer is not None:
        written = text.signed(await bench.signer.sign(written))
    return (await shadow.run("hash-object", "-t", "commit", "-w", "--stdin", stdin=written)).text


def who(bench: Workbench) -> bytes:
    """Return author and committer of a commit that is made now, as git writes them."""
    return ident(bench.settings.author_name, bench.settings.author_email)


async def _go_to(bench: Workbench, shadow: Shadow, branch: str) -> None:
    """Bring a branch to where HEAD is, and check it out. Cut off after any step, it can be done once more."""
    elsewhere = await trio.to_thread.run_sync(shadow.repository.is_checked_out_elsewhere, branch)
    if elsewhere:
        raise WorkspaceBusy("checked_out_elsewhere", f"{branch!r} is checked out in another work tree")
    old = await shadow.branch(branch)
    if old != shadow.head:
        if old is not None and (shadow.head is None or not await is_ancestor(shadow, old, shadow.head)):
            raise BranchDiverged(branch, f"{branch!r} has commits that what is checked out lacks; check it out first")
        assert shadow.head is not None  # noqa: S101 - else both are None
        await _move(bench, shadow, branch, shadow.head, old)
    await shadow.run_real("symbolic-ref", "-m", "clonk: work on it", "HEAD", f"refs/heads/{branch}")


async def _move(bench: Workbench, shadow: Shadow, branch: str, commit: str, old: str | None) -> None:
    """Move a branch from where it was found, and from nowhere else."""
    zeros = "0" * len(commit)
    done = await shadow.run_real(
        "update-ref", "--no-deref", "-m", "clonk", f"refs/heads/{branch}", commit, old or zeros, check=False
    )
    if done.code != 0:
        bench.log.warning("a branch cannot be moved", workspace=str(shadow.repository.top), reason=done.said[-500:])
        if ".lock': File exists" in done.said:
            raise WorkspaceBusy(
                "branch_locked", "another git is at work on the branch, or has left its lock behind in .git/refs"
            )
        if "no space left" in done.said.lower():
            raise GitFailed("update-ref", done.said[-500:])
        raise BranchDiverged(branch, f"{branch!r} cannot be moved: it was moved meanwhile, or its name is in the way")


async def is_ancestor(shadow: Shadow, older: str, newer: str) -> bool:
    """Tell whether `newer` has all that `older` has. What is not there is no ancestor."""
    return (await shadow.run("merge-base", "--is-ancestor", older, newer, check=False)).code == 0


def check_quiet(repository: Repository) -> None:
    """Refuse a repository that is in the middle of something, or that another git works on. Touches the disk.

    A lock that a Clonk which was killed has left is taken away.

    Raises:
        WorkspaceBusy: It is.
    """
    operation = repository.operation()
    if operation is not None:
        raise WorkspaceBusy(operation, f"the repository is in the middle of a {operation}; finish or abort it first")
    remove_own_lock(repository)
    if (repository.git_dir / "index.lock").exists():
        raise WorkspaceBusy(
            "index_locked", "another git is at work here, or has left .git/index.lock behind; remove it when none runs"
        )
