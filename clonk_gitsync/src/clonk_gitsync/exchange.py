"""What goes from a workspace to its remote: status, push, sync. `pulling.py` brings it back."""

from typing import Final

import attrs

from clonk_core.plugin import InvalidParams
from clonk_gitsync.errors import (
    BranchProtected,
    NotARepository,
    PushRejected,
    RemoteFailed,
)
from clonk_gitsync.git import diffs
from clonk_gitsync.git.hub import RemoteRefs
from clonk_gitsync.git.process import OnLine
from clonk_gitsync.git.shadow import Shadow
from clonk_gitsync.git.transfers import upload_large
from clonk_gitsync.messages import (
    PushResult,
    StatusWord,
    SyncResult,
    SyncStatus,
    WorkspaceConfig,
    WorkspaceStatus,
)
from clonk_gitsync.workbench import DIFF, Workbench, is_ancestor, protected_of

SHORT: Final = 7
"""Characters of a commit's id that people are shown."""


class Exchange:
    """Brings work to remotes.

    Args:
        bench: Works on the workspaces.
    """

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench

    # ── Status ────────────────────────────────────────────────────────────────

    async def status(self, workspace: WorkspaceConfig) -> WorkspaceStatus:
        """Tell how a workspace is, by what is known of the remote; nobody is asked."""
        try:
            async with self._bench.at(workspace) as shadow:
                return await self._status(workspace, shadow)
        except NotARepository:
            return WorkspaceStatus(path=workspace.path, status="missing")

    async def _status(self, workspace: WorkspaceConfig, shadow: Shadow) -> WorkspaceStatus:
        done = await shadow.run(
            "status", "--porcelain=v2", "-z", "--untracked-files=all", "--ignore-submodules=all", "--no-renames"
        )
        staged = unstaged = untracked = conflicted = 0
        for line in done.output.split(b"\0"):
            kind, marks = line[:1], line[2:4]
            conflicted += kind == b"u"
            untracked += kind == b"?"
            staged += kind == b"1" and marks[:1] != b"."
            unstaged += kind == b"1" and marks[1:2] != b"."
        branch = shadow.repository.head_branch()
        work = self._bench.work_branch(workspace, branch)
        tip = await self._bench.hub(workspace).known_tip(work)
        ahead, behind = await _counts(shadow, tip)
        dirty = bool(staged or unstaged or untracked or conflicted)
        word: StatusWord = "clean"
        for name, holds in (
            ("merging", shadow.repository.operation() is not None or conflicted > 0),
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
            work_branch=work,
            ahead=ahead,
            behind=behind,
            staged=staged,
            unstaged=unstaged,
            untracked=untracked,
            conflicted=conflicted,
        )

    # ── Push ──────────────────────────────────────────────────────────────────

    async def push(
        self, workspace: WorkspaceConfig, branch: str | None, *, force: bool, on_line: OnLine | None = None
    ) -> PushResult:
        """Push what is checked out to the work branch, or to another that is not protected."""
        async with self._bench.alone(workspace), self._bench.at(workspace) as shadow:
            work = branch or self._bench.work_branch(workspace, shadow.repository.head_branch())
            return await self._push(workspace, shadow, shadow.head, work, force=force, on_line=on_line)

    async def _push(
        self,
        workspace: WorkspaceConfig,
        shadow: Shadow,
        commit: str | None,
        branch: str,
        *,
        force: bool = False,
        on_line: OnLine | None = None,
    ) -> PushResult:
        protected = protected_of(workspace)
        self._bench.policy.check_branch(branch, protected)
        remote = self._bench.policy.remote(workspace.remote)
        if force and not self._bench.policy.is_own(branch):
            raise InvalidParams("only branches of Clonk's own are pushed by force", path="$.force")
        if commit is None:
            return PushResult(pushed=False, commit=None, branch=branch)
        hub = self._bench.hub(workspace)
        await hub.prepare("sha1" if len(commit) == 40 else "sha256")
        refs = await hub.look(remote, branch)
        self._check_refs(refs, branch, protected)
        if refs.commit == commit or (refs.commit is None and await _is_delivered(shadow, refs, commit)):
            return PushResult(pushed=False, commit=commit, branch=branch)
        forced = False
        if refs.commit is not None and not await is_ancestor(shadow, refs.commit, commit):
            if not force:
                raise PushRejected(branch, "it has commits that are lacking here")
            forced = True
        await hub.take(shadow, commit)
        await upload_large(self._bench.git, hub, shadow, remote, commit, log=self._bench.log, on_line=on_line)
        pushed = await hub.push(remote, commit, branch, expect=refs.commit, force=forced, on_line=on_line)
        if not pushed.ok:
            raise PushRejected(branch, pushed.reason or "the server refused")
        return PushResult(pushed=True, commit=commit, branch=branch, forced=forced)

    def _check_refs(self, refs: RemoteRefs, branch: str, protected: list[str]) -> None:
        """Refuse what the remote itself tells to be its default branch, or another name for one."""
        if refs.alias_of is not None:
            raise BranchProtected(branch)
        if refs.default_branch is not None:
            default = refs.default_branch.replace("[", "[[]")
            self._bench.policy.check_branch(branch, [*protected, default])

    # ── Sync ──────────────────────────────────────────────────────────────────

    async def sync(self, workspace: WorkspaceConfig, message: str | None) -> SyncResult:
        """Commit what has changed and push it to the work branch."""
        async with self._bench.alone(workspace), self._bench.at(workspace) as shadow:
            work = self._bench.work_branch(workspace, shadow.repository.head_branch())
            self._bench.check_branch(workspace, work)
            self._bench.policy.remote(workspace.remote)
            made = await self._bench.commit(shadow, work, message or DEFAULT_MESSAGE)
            answer = SyncResult(
                status="up_to_date",
                commit=None if made.commit is None else made.commit[:SHORT],
                branch=work,
                files_changed=made.files_changed,
                insertions=made.insertions,
                deletions=made.deletions,
            )
            status: SyncStatus = "up_to_date"
            try:
                pushed = await self._push(workspace, shadow, made.commit, work)
                if pushed.pushed:
                    status = "pushed"
                    if not made.made and made.commit is not None:
                        answer = await _counted(shadow, made.commit, answer)
            except PushRejected as error:
                self._bench.log.warning("a push was rejected", workspace=str(workspace.path), reason=error.message)
                status = "rejected"
            except RemoteFailed as error:
                if not made.made or error.data["reason"] not in {"unreachable", "too_slow"}:
                    raise
                status = "committed"
            return attrs.evolve(answer, status=status)


DEFAULT_MESSAGE: Final = "Work of a session"


async def _counts(shadow: Shadow, tip: str | None) -> tuple[int, int]:
    if shadow.head is None or tip is None:
        return 0, 0
    done = await shadow.run("rev-list", "--left-right", "--count", f"{shadow.head}...{tip}", check=False)
    words = done.text.split()
    # What was fetched and is not here any more was lost here: it is behind by at least that.
    return (int(words[0]), int(words[1])) if done.code == 0 and len(words) == 2 else (0, 1)


async def _is_delivered(shadow: Shadow, refs: RemoteRefs, commit: str) -> bool:
    """Tell whether the remote's default branch has a commit already, so that no new branch is needed for it."""
    return refs.default_commit is not None and await is_ancestor(shadow, commit, refs.default_commit)


async def _counted(shadow: Shadow, commit: str, answer: SyncResult) -> SyncResult:
    """Count what an earlier commit changes, which was pushed only now."""
    words = ("diff-tree", "-r", "-z", "--root", "--no-commit-id", "--raw", "--numstat", *DIFF, commit)
    files, insertions, deletions = diffs.totals((await shadow.run(*words)).output)
    return attrs.evolve(answer, files_changed=files, insertions=insertions, deletions=deletions)
