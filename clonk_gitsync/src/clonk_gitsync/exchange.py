"""What goes from a workspace to its remote: status, push, sync. `pulling.py` brings it back."""

from collections.abc import Callable
from typing import Final

import attrs

from clonk_core.plugin import InvalidParams
from clonk_gitsync.committing import commit, is_ancestor
from clonk_gitsync.errors import (
    BranchProtected,
    PushRejected,
    RemoteFailed,
)
from clonk_gitsync.git import diffs
from clonk_gitsync.git.hub import Hub, RemoteRefs
from clonk_gitsync.git.process import OnLine
from clonk_gitsync.git.shadow import Shadow
from clonk_gitsync.git.transfers import upload_large
from clonk_gitsync.look_ahead import LookAhead
from clonk_gitsync.messages import (
    CommitResult,
    PushResult,
    SyncResult,
    SyncStatus,
    WorkspaceConfig,
    WorkspaceStatus,
)
from clonk_gitsync.policy import Remote
from clonk_gitsync.standing import status
from clonk_gitsync.workbench import Workbench, protected_of

FEW: Final = 50
"""Files changed by a commit that is small: with their folders that makes some 100 objects."""

SHORT: Final = 7
"""Characters of a commit's id that people are shown."""


class Exchange:
    """Brings work to remotes.

    Args:
        bench: Works on the workspaces.
    """

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench

    async def status(self, workspace: WorkspaceConfig) -> WorkspaceStatus:
        """Tell how a workspace is, by what is known of the remote; nobody is asked."""
        return await status(self._bench, workspace)

    # ── Push ──────────────────────────────────────────────────────────────────

    async def push(
        self, workspace: WorkspaceConfig, branch: str | None, *, force: bool, on_line: OnLine | None = None
    ) -> PushResult:
        """Push what is checked out to the work branch, or to another that is not protected."""
        async with self._bench.alone(workspace), self._bench.at(workspace) as shadow:
            current = shadow.repository.head_branch()
            work = self._bench.work_branch(workspace, current) if branch is None else branch
            return await self._push(workspace, shadow, shadow.head, work, force=force, on_line=on_line)

    async def push_branch(self, workspace: WorkspaceConfig, branch: str) -> PushResult:
        """Push a branch of the workspace, whatever is checked out, to the one of its name."""
        async with self._bench.alone(workspace), self._bench.at(workspace) as shadow:
            return await self._push(workspace, shadow, await shadow.branch(branch), branch)

    async def _push(
        self,
        workspace: WorkspaceConfig,
        shadow: Shadow,
        commit: str | None,
        branch: str,
        *,
        force: bool = False,
        on_line: OnLine | None = None,
        made: CommitResult | None = None,
        refs: Callable[[], RemoteRefs] | None = None,
    ) -> PushResult:
        """Push a commit.

        Args:
            workspace, shadow: Whose.
            commit: Which one; None when there is none yet.
            branch: To this branch.
            force: Overwrite what it has, when it has other commits.
            on_line: Told of the progress.
            made: When the commit was made just now, on what was checked out: some need not be asked then.
            refs: Returns what the remote has told, or raises; it is asked when left out.
        """
        made_on = None if made is None else shadow.head
        protected = protected_of(workspace)
        self._bench.policy.check_branch(branch, protected)
        remote = self._bench.policy.remote(workspace.remote)
        if force and not self._bench.policy.is_own(branch):
            raise InvalidParams("only branches of Clonk's own are pushed by force", path="$.force")
        if commit is None:
            return PushResult(pushed=False, commit=None, branch=branch)
        hub = self._bench.hub(workspace)
        told = await _looked(hub, remote, branch, shadow.object_format) if refs is None else refs()
        self._check_refs(told, branch, protected)
        if told.commit == commit:
            return PushResult(pushed=False, commit=commit, branch=branch)
        if made_on is None and told.commit is None and await _is_delivered(shadow, told, commit):
            return PushResult(pushed=False, commit=commit, branch=branch)
        forced = False
        if told.commit not in {None, made_on} and not await is_ancestor(shadow, told.commit, commit):
            if not force:
                raise PushRejected(branch, "it has commits that are lacking here")
            forced = True
        await hub.take(shadow, commit, made_on, is_small=made is not None and made.files_changed <= FEW)
        try:
            await upload_large(self._bench.git, hub, shadow, remote, commit, log=self._bench.log, on_line=on_line)
            pushed = await hub.push(remote, commit, branch, expect=told.commit, force=forced, on_line=on_line)
        except RemoteFailed:
            await hub.keep(commit)
            raise
        if not pushed.ok:
            await hub.keep(commit)
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
            remote = self._bench.policy.remote(workspace.remote)
            hub = self._bench.hub(workspace)
            ahead = LookAhead(lambda: _looked(hub, remote, work, shadow.object_format))
            made = await ahead.beside(lambda: commit(self._bench, shadow, work, message or DEFAULT_MESSAGE))
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
                fresh = made if made.made else None
                pushed = await self._push(workspace, shadow, made.commit, work, made=fresh, refs=ahead.answer)
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


async def _looked(hub: Hub, remote: Remote, branch: str, object_format: str) -> RemoteRefs:
    await hub.prepare(object_format)
    return await hub.look(remote, branch)


DEFAULT_MESSAGE: Final = "Work of a session"


async def _is_delivered(shadow: Shadow, refs: RemoteRefs, commit: str) -> bool:
    """Tell whether the remote's default branch has a commit already, so that no new branch is needed for it."""
    return refs.default_commit is not None and await is_ancestor(shadow, commit, refs.default_commit)


async def _counted(shadow: Shadow, commit: str, answer: SyncResult) -> SyncResult:
    """Count what an earlier commit changes, which was pushed only now."""
    words = ("diff-tree", "-r", "-z", "--root", "--no-commit-id", "--raw", "--numstat", *diffs.WORDS, commit)
    files, insertions, deletions = diffs.totals((await shadow.run(*words)).output)
    return attrs.evolve(answer, files_changed=files, insertions=insertions, deletions=deletions)
