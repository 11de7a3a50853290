"""How a workspace stands: its files, and its commits beside what is known of the remote. Nobody is asked."""

from typing import Final

import attrs
import trio

from clonk_gitsync.errors import NotARepository
from clonk_gitsync.git.refs import NotPlain
from clonk_gitsync.git.repository import Repository
from clonk_gitsync.git.shadow import Shadow
from clonk_gitsync.git.shadow_folder import Seen, ShadowFolder, follow
from clonk_gitsync.messages import StatusWord, WorkspaceConfig, WorkspaceStatus
from clonk_gitsync.workbench import Workbench

AHEAD_BEHIND: Final = b"# branch.ab "
"""What `git status` begins the line with that counts commits."""


@attrs.frozen(kw_only=True)
class _Standing(Seen):
    """What files tell of how a workspace stands.

    Attributes:
        branch: What is checked out.
        is_busy: Whether something is in progress.
        tip: Where the remote's branch was; `is_known` tells whether that could be read.
        is_known: See there.
    """

    branch: str | None
    is_busy: bool
    tip: str | None
    is_known: bool

    def settle(self, folder: ShadowFolder) -> None:
        """Have `status --branch` count what HEAD and the remote's branch have and the other lacks."""
        if self.is_known:
            follow(folder, self.tip)


async def status(bench: Workbench, workspace: WorkspaceConfig) -> WorkspaceStatus:
    """Tell how a workspace is, by what is known of the remote; nobody is asked."""
    hub = bench.hub(workspace)

    def read(repository: Repository) -> _Standing:
        branch, tip, is_known = repository.head_branch(), None, True
        try:
            tip = hub.tip_in_files(bench.work_branch(workspace, branch))
        except NotPlain:
            is_known = False
        return _Standing(branch=branch, is_busy=repository.operation() is not None, tip=tip, is_known=is_known)

    async def work(shadow: Shadow, seen: _Standing) -> WorkspaceStatus:
        if not seen.is_known:
            tip = await hub.known_tip(bench.work_branch(workspace, seen.branch))
            seen = attrs.evolve(seen, tip=tip, is_known=True)
            await trio.to_thread.run_sync(seen.settle, shadow.folder_in_use)
        return await _status(bench, workspace, shadow, seen)

    try:
        return await bench.look(workspace, _Standing, read, work)
    except NotARepository:
        return WorkspaceStatus(path=workspace.path, status="missing")


async def _status(bench: Workbench, workspace: WorkspaceConfig, shadow: Shadow, seen: _Standing) -> WorkspaceStatus:
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
