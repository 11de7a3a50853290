"""How a workspace stands: its files, and its commits beside what is known of the remote. Nobody is asked."""

from typing import Final

import attrs
import trio

from clonk_gitsync.errors import NotARepository
from clonk_gitsync.git.filling import follow
from clonk_gitsync.git.refs import NotPlain
from clonk_gitsync.git.repository import Repository
from clonk_gitsync.git.shadow import Shadow
from clonk_gitsync.git.shadow_folder import Relation, Seen, ShadowFolder
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

    def read(repository: Repository) -> _Standing:
        branch, tip, is_known = repository.head_branch(), None, True
        try:
            tip = bench.hub(workspace).tip_in_files(bench.work_branch(workspace, branch))
        except NotPlain:
            is_known = False
        return _Standing(branch=branch, is_busy=repository.operation() is not None, tip=tip, is_known=is_known)

    async def work(shadow: Shadow, seen: _Standing) -> WorkspaceStatus:
        if not seen.is_known:
            tip = await bench.hub(workspace).known_tip(bench.work_branch(workspace, seen.branch))
            seen = attrs.evolve(seen, tip=tip, is_known=True)
            await trio.to_thread.run_sync(seen.settle, shadow.folder_in_use)
        return await _status(bench, workspace, shadow, seen)

    try:
        return await bench.look(workspace, _Standing, read, work)
    except NotARepository:
        return WorkspaceStatus(path=workspace.path, status="missing")


@attrs.define
class _Counts:
    """What `git status` counts."""

    staged: int = 0
    unstaged: int = 0
    untracked: int = 0
    conflicted: int = 0
    ahead: int = 0
    behind: int = 0


async def _status(bench: Workbench, workspace: WorkspaceConfig, shadow: Shadow, seen: _Standing) -> WorkspaceStatus:
    branch, tip = seen.branch, seen.tip
    counts = await _glanced(bench, shadow, tip) or await _counted(shadow, tip)
    dirty = bool(counts.staged or counts.unstaged or counts.untracked or counts.conflicted)
    word: StatusWord = "clean"
    for name, holds in (
        ("merging", seen.is_busy or counts.conflicted > 0),
        ("detached", branch is None),
        ("dirty", dirty),
        ("diverged", counts.ahead > 0 and counts.behind > 0),
        ("ahead", counts.ahead > 0),
        ("behind", counts.behind > 0),
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
        **attrs.asdict(counts),
    )


async def _glanced(bench: Workbench, shadow: Shadow, tip: str | None) -> _Counts | None:
    """Return the counts without a git that starts; None when git has to tell."""
    folder = shadow.folder_in_use
    relation = folder.relation
    if tip is None or tip == shadow.head:
        ahead = behind = 0
    elif relation is not None and (relation.head, relation.tip) == (shadow.head, tip):
        ahead, behind = relation.ahead, relation.behind
    else:
        return None
    glance = None if folder.is_to_learn() else await bench.glances.ask(shadow)
    if glance is None:
        return None
    return _Counts(unstaged=glance.unstaged, untracked=glance.untracked, ahead=ahead, behind=behind)


async def _counted(shadow: Shadow, tip: str | None) -> _Counts:
    """Return the counts as git tells them."""
    done = await shadow.run(
        *("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all"),
        *("--ignore-submodules=all", "--no-renames"),
    )
    counts = _Counts()
    # What was fetched and is not here any more was lost here: it is behind by at least that.
    counts.behind = int(shadow.head is not None and tip is not None and tip != shadow.head)
    for line in done.output.split(b"\0"):
        kind, marks = line[:1], line[2:4]
        if line.startswith(AHEAD_BEHIND):
            ahead, behind = (abs(int(word)) for word in line.removeprefix(AHEAD_BEHIND).split())
            counts.ahead, counts.behind = ahead, behind
            if shadow.head is not None and tip is not None:
                relation = Relation(head=shadow.head, tip=tip, ahead=ahead, behind=behind)
                shadow.folder_in_use.relation = relation
        counts.conflicted += kind == b"u"
        counts.untracked += kind == b"?"
        counts.staged += kind == b"1" and marks[:1] != b"."
        counts.unstaged += kind == b"1" and marks[1:2] != b"."
    return counts
