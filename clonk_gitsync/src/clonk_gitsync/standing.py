"""How a workspace stands: its files, and its commits beside what is known of the remote. Nobody is asked."""

from typing import Final

import attrs
import trio

from clonk_gitsync.errors import NotARepository
from clonk_gitsync.git.refs import NotPlain
from clonk_gitsync.git.shadow import Shadow
from clonk_gitsync.messages import StatusWord, WorkspaceConfig, WorkspaceStatus
from clonk_gitsync.workbench import Workbench

AHEAD_BEHIND: Final = b"# branch.ab "
"""What `git status` begins the line with that counts commits."""


@attrs.define
class _Seen:
    """What files tell before git is asked.

    Attributes:
        branch: What is checked out.
        is_busy: Whether something is in progress.
        tip: Where the remote's branch was; `is_known` tells whether that could be read.
        is_known: See there.
    """

    branch: str | None = None
    is_busy: bool = False
    tip: str | None = None
    is_known: bool = True


async def status(bench: Workbench, workspace: WorkspaceConfig) -> WorkspaceStatus:
    """Tell how a workspace is, by what is known of the remote; nobody is asked."""
    hub = bench.hub(workspace)
    seen = _Seen()

    def look(shadow: Shadow) -> None:
        seen.branch = shadow.repository.head_branch()
        seen.is_busy = shadow.repository.operation() is not None
        try:
            seen.tip = hub.tip_in_files(bench.work_branch(workspace, seen.branch))
        except NotPlain:
            seen.is_known = False
        else:
            shadow.follow(seen.tip)

    try:
        async with bench.at(workspace, look) as shadow:
            if not seen.is_known:
                seen.tip = await hub.known_tip(bench.work_branch(workspace, seen.branch))
                await trio.to_thread.run_sync(shadow.follow, seen.tip)
            return await _status(bench, workspace, shadow, seen)
    except NotARepository:
        return WorkspaceStatus(path=workspace.path, status="missing")


async def _status(bench: Workbench, workspace: WorkspaceConfig, shadow: Shadow, seen: _Seen) -> WorkspaceStatus:
    branch, tip = seen.branch, seen.tip
    done = await shadow.run(
        *("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all"),
        *("--ignore-submodules=all", "--no-renames"),
    )
    staged = unstaged = untracked = conflicted = 0
    ahead, behind = _known_counts(shadow, tip)
    for line in done.output.split(b"\0"):
        kind, marks = line[:1], line[2:4]
        if line.startswith(AHEAD_BEHIND):
            ahead, behind = (abs(int(word)) for word in line.removeprefix(AHEAD_BEHIND).split())
        conflicted += kind == b"u"
        untracked += kind == b"?"
        staged += kind == b"1" and marks[:1] != b"."
        unstaged += kind == b"1" and marks[1:2] != b"."
    dirty = bool(staged or unstaged or untracked or conflicted)
    word: StatusWord = "clean"
    for name, holds in (
        ("merging", seen.is_busy or conflicted > 0),
        ("detached", branch is None),
        ("dirty", dirty),
        ("diverged", ahead > 0 and behind > 0),
        ("ahead", ahead > 0),
        ("behind", behind > 0),
        ("no_remote", tip is None),
    ):
        if holds:
            word = name  # type: ignore[assignment]
            break
    return WorkspaceStatus(
        path=workspace.path,
        status=word,
        branch=branch,
        commit=shadow.head,
        work_branch=bench.work_branch(workspace, branch),
        ahead=ahead,
        behind=behind,
        staged=staged,
        unstaged=unstaged,
        untracked=untracked,
        conflicted=conflicted,
    )


def _known_counts(shadow: Shadow, tip: str | None) -> tuple[int, int]:
    """Return what is ahead and behind as long as git has not counted."""
    if shadow.head is None or tip is None or tip == shadow.head:
        return 0, 0
    # What was fetched and is not here any more was lost here: it is behind by at least that.
    return 0, 1
