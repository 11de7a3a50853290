"""Methods that commit, push and pull."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path

import trio

from clonk_core.plugin import Call, CallError, Host, InvalidParams, method
from clonk_gitsync import committing, errors, messages, pulling
from clonk_gitsync.exchange import Exchange
from clonk_gitsync.git.names import problem_with_branch
from clonk_gitsync.messages import (
    CommitResult,
    PullMode,
    PullResult,
    PushResult,
    SyncResult,
    WorkspaceConfig,
    WorkspaceStatus,
    WorkspaceSynced,
)
from clonk_gitsync.methods.common import COMMITTING, LONG_S, ON_DISK, WITH_REMOTE, Name
from clonk_gitsync.pushes import Pushes
from clonk_gitsync.settings import GitSyncSettings
from clonk_gitsync.workbench import Workbench
from clonk_gitsync.workspaces import Workspaces


class WorkMethods:
    """What `GitSync` offers to commit, push and pull."""

    _host: Host
    _settings: GitSyncSettings
    _workspaces: Workspaces
    _bench: Workbench
    _exchange: Exchange
    _pushes: Pushes

    @method(target="path", deadline_s=LONG_S, errors=COMMITTING)
    async def commit(
        self, path: Path, message: messages.Message, branch: Name | None = None, session: Name | None = None
    ) -> CommitResult:
        """Commit everything that has changed, new files included, on the work branch, which is then checked out.

        No hook, filter or signing program of the workspace runs. Where `auto_push` is set, the branch is pushed soon
        after; when the remote is away it is tried again, also after a restart.

        Args:
            path: The folder, absolute.
            message: The commit's message.
            branch: On another branch that is not protected.
            session: Whose work it is: a branch of Clonk's own is called after this session, and not after the folder.

        Raises:
            NotRegistered: It is not registered.
            NotARepository, GitUnusable: There is no repository that may be used, or git failed.
            WorkspaceBusy: A merge or the like is in progress, or another git is at work.
            BranchDiverged: The branch has commits that what is checked out lacks.
            BranchProtected: The branch is protected.
            SigningFailed: `gitsync.signing_key` is set, and the commit cannot be signed.
        """
        if not message.strip():
            raise InvalidParams("must say something", path="$.message")
        workspace = await self._workspaces.get(path)
        async with self._bench.alone(workspace), self._bench.at(workspace) as shadow:
            current = shadow.repository.head_branch()
            work = self._bench.work_branch(workspace, current, session) if branch is None else branch
            self._bench.check_branch(workspace, work)
            if workspace.auto_push:
                await self._pushes.add(workspace.path, work)
            result = await committing.commit(self._bench, shadow, work, message)
        self._pushes.wake()
        return result

    @method(target="path", idempotent=True, deadline_s=LONG_S, errors=[*ON_DISK, *WITH_REMOTE, errors.PushRejected])
    async def push(self, path: Path, branch: Name | None = None, force: bool = False) -> PushResult:
        """Push what is checked out to the work branch of the remote. Nothing else there is touched.

        Args:
            path: The folder, absolute.
            branch: To another branch that is not protected.
            force: Overwrite what the branch has now; only for branches of Clonk's own, and only if nobody moves it
                meanwhile.

        Raises:
            NotRegistered: It is not registered.
            NotARepository, GitUnusable: There is no repository that may be used, or git failed.
            BranchProtected: The branch is protected, here or by the remote.
            RemoteNotAllowed: The configuration does not allow the remote.
            RemoteFailed: The exchange failed.
            PushRejected: The branch has commits that are lacking here, or the server refused.
        """
        return await self._exchange.push(await self._workspaces.get(path), branch, force=force)

    @method(
        target="path",
        idempotent=True,
        deadline_s=LONG_S,
        errors=[*COMMITTING, errors.MergeConflict, errors.RemoteNotAllowed, errors.RemoteFailed],
    )
    async def pull(self, path: Path, branch: Name | None = None, mode: PullMode = "ff") -> PullResult:
        """Fetch a branch and go on to it. Files that are changed and not committed stay, or stop it.

        It works whole or not at all: on a conflict, and when files are in the way, everything stays as it was. No hook,
        filter or merge driver of the workspace runs.

        Args:
            path: The folder, absolute.
            branch: Of the remote; the one of the name that is checked out when left out.
            mode: What is done when commits were made here that the branch lacks. `ff` refuses; `merge` makes a commit
                that joins both; `rebase` puts the commits that are only here on the branch, by their authors, at most
                500 and no merges among them. What the remote's branch once had and was rewritten since is not taken
                along. A protected branch that is checked out only goes forward.

        Raises:
            NotRegistered: It is not registered.
            NotARepository, GitUnusable: There is no repository that may be used, or git failed.
            WorkspaceBusy: Changed files are in the way, `data.paths` names them; or something is in progress.
            BranchDiverged: Both sides have commits of their own, which `mode` does not join or cannot.
            MergeConflict: Both sides change the same; `data.paths` names the files.
            BranchProtected: Both would be joined on a protected branch.
            SigningFailed: `gitsync.signing_key` is set, and a commit cannot be signed.
            RemoteNotAllowed: The configuration does not allow the remote.
            RemoteFailed: The exchange failed.
        """
        if branch is not None and (problem := problem_with_branch(branch)) is not None:
            raise InvalidParams(problem, path="$.branch")
        return await pulling.pull(self._bench, await self._workspaces.get(path), branch, mode)

    @method(target="path", errors=[*ON_DISK, errors.WorkspaceBusy, errors.BranchDiverged, errors.BranchProtected])
    async def create_branch(self, path: Path, name: Name) -> WorkspaceStatus:
        """Make a branch where HEAD is and check it out. Files stay as they are.

        Args:
            path: The folder, absolute.
            name: Its name; when a branch of that name is there, it must be where HEAD is.

        Raises:
            NotRegistered: It is not registered.
            NotARepository, GitUnusable: There is no repository that may be used, or git failed.
            WorkspaceBusy: A merge or the like is in progress, or another git is at work.
            BranchDiverged: There is another branch of that name.
            BranchProtected: The name is protected.
        """
        workspace = await self._workspaces.get(path)
        async with self._bench.alone(workspace):
            async with self._bench.at(workspace) as shadow:
                self._bench.check_branch(workspace, name)
                await committing.create_branch(self._bench, shadow, name)
            return await self._exchange.status(workspace)

    @method(
        target="path",
        idempotent=True,
        deadline_s=LONG_S,
        errors=[*COMMITTING, errors.RemoteNotAllowed, errors.RemoteFailed],
    )
    async def sync(self, path: Path, message: messages.Message | None = None) -> SyncResult:
        """Commit what has changed and push it to the work branch. Repeated after a failure, it finishes what was begun.

        Args:
            path: The folder, absolute.
            message: The commit's message.

        Raises:
            NotRegistered: It is not registered.
            NotARepository, GitUnusable: There is no repository that may be used, or git failed.
            WorkspaceBusy: A merge or the like is in progress, or another git is at work.
            BranchDiverged: The branch has commits that what is checked out lacks.
            BranchProtected: The branch is protected, here or by the remote.
            RemoteNotAllowed: The configuration does not allow the remote.
            RemoteFailed: The exchange failed; the commit is made, and the next sync pushes it.
            SigningFailed: `gitsync.signing_key` is set, and the commit cannot be signed.
        """
        return await self._exchange.sync(await self._workspaces.get(path), message)

    @method(narrows=True, idempotent=True)
    async def sync_all(self, call: Call, message: messages.Message | None = None) -> AsyncIterator[WorkspaceSynced]:
        """Sync every registered workspace, several at the same time; one event for each. One that fails stops no other.

        Args:
            message: Message of the commits.
        """
        wanted: list[WorkspaceConfig] = []
        after: Path | None = None
        while page := await self._workspaces.list(1000, after):
            wanted += [one for one in page if call.may_reach(str(one.path))]
            after = page[-1].path
        async with self._each(wanted, message) as results:
            done = 0
            async for synced in results:
                done += 1
                await call.progress(done, len(wanted), str(synced.path))
                yield synced

    @trio.as_safe_channel
    async def _each(
        self, wanted: Sequence[WorkspaceConfig], message: str | None
    ) -> AsyncGenerator[WorkspaceSynced, None]:
        send, receive = trio.open_memory_channel[WorkspaceSynced](0)
        limiter = trio.CapacityLimiter(self._settings.concurrency)

        async def work(one: WorkspaceConfig, results: trio.MemorySendChannel[WorkspaceSynced]) -> None:
            async with results, limiter:
                try:
                    synced = WorkspaceSynced(path=one.path, result=await self._exchange.sync(one, message))
                except CallError as error:
                    synced = WorkspaceSynced(path=one.path, error=self._host.error_object(error))
                await results.send(synced)

        async with trio.open_nursery() as nursery:
            async with send:
                for one in wanted:
                    nursery.start_soon(work, one, send.clone())
            async with aclosing(receive):
                async for synced in receive:
                    yield synced
