"""The methods that gitsync offers. Thin: `workbench.py`, `exchange.py` and `cloning.py` do the work."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Final, Literal

import attrs
import trio

from clonk_core.plugin import Activation, Call, CallError, Ge, Host, InvalidParams, Le, MaxLen, method
from clonk_gitsync import errors, messages
from clonk_gitsync.automatic import Pushes
from clonk_gitsync.cloning import clone
from clonk_gitsync.credentials import Credentials
from clonk_gitsync.discovery import register_configured
from clonk_gitsync.exchange import Exchange
from clonk_gitsync.git import Git, OnLine
from clonk_gitsync.git_names import problem_with_branch
from clonk_gitsync.messages import (
    Cloned,
    CommitResult,
    Diff,
    LogEntry,
    PullResult,
    PushResult,
    SyncResult,
    WorkspaceConfig,
    WorkspaceStatus,
    WorkspaceSynced,
)
from clonk_gitsync.policy import Policy
from clonk_gitsync.settings import GitSyncSettings
from clonk_gitsync.workbench import Workbench
from clonk_gitsync.workspaces import Workspaces

ON_DISK: Final = (errors.NotRegistered, errors.NotARepository, errors.GitUnusable)
COMMITTING: Final = (*ON_DISK, errors.WorkspaceBusy, errors.BranchDiverged, errors.BranchProtected)
WITH_REMOTE: Final = (errors.RemoteNotAllowed, errors.RemoteFailed, errors.BranchProtected)
LONG_S: Final = 900.0

_PROGRESS: Final = re.compile(r"(?:remote: )?(?P<what>[A-Z][a-z ]+): +\d+% \((?P<done>\d+)/(?P<total>\d+)\)")

Name = Annotated[str, MaxLen(500)]


class GitSync(Activation):
    """Work of sessions, brought to branches of repositories."""

    namespace = "gitsync"
    version = "1.1.0"

    def __init__(self, host: Host) -> None:
        database = host.database("gitsync", migrations="clonk_gitsync.migrations")
        home = host.data_dir / "home"
        repositories = host.data_dir / "repositories"
        tools = host.data_dir / "tools"
        for folder in (home, repositories, tools):
            folder.mkdir(exist_ok=True, mode=0o700)
        self._host = host
        # Hosted without the package's hooks, as in a test, there is no section.
        settings = host.settings if isinstance(host.settings, GitSyncSettings) else GitSyncSettings()
        self._settings = settings
        self._policy = Policy(settings, host.workspace_roots)
        self._git = Git(home)
        self._workspaces = Workspaces(database, host.workspace_roots, self._policy)
        credentials = Credentials(settings, host.secret, tools)
        self._bench = Workbench(
            settings, self._policy, self._git, host.workspace_roots, repositories, credentials, host.log
        )
        self._exchange = Exchange(self._bench)
        self._pushes = Pushes(self._exchange, host.log)

    async def serve(self, started: Callable[[], None]) -> None:
        await register_configured(self._host, self._workspaces, self._git)
        started()
        await self._pushes.serve()

    # ── Which folders ─────────────────────────────────────────────────────────

    @method(
        target="path",
        idempotent=True,
        errors=[errors.AlreadyRegistered, errors.RemoteNotAllowed, errors.NotARepository, errors.GitUnusable],
    )
    async def register(
        self,
        path: Path,
        remote: str,
        branch: str,
        auto_commit: bool = False,
        auto_push: bool = False,
        base: str | None = None,
        protect: Annotated[tuple[Name, ...], MaxLen(100)] = (),
    ) -> WorkspaceConfig:
        """Register a folder as the workspace of a branch. Nothing in it is touched, unless remotes are stripped.

        Once more with the same remote and branch sets the rest anew.

        Args:
            path: An existing folder on the server, absolute, below one of the allowed folders.
            remote: Its repository, no credentials: `https://host/path`, `ssh://user@host/path` or `user@host:path`.
            branch: Name of the branch that work goes to. When it is protected, work goes to a branch of Clonk's own,
                `claude/<session>`, and this one is never pushed to.
            auto_commit: Commit when a chat in the folder has ended.
            auto_push: Push when such a commit was made.
            base: Branch that the work is meant for; it is never pushed to.
            protect: Patterns of further branches that are never pushed to.

        Raises:
            AlreadyRegistered: The folder is registered with another remote or branch.
            InvalidParams: The path is no folder below an allowed one, or remote or branch may not be used.
            RemoteNotAllowed: The configuration does not allow the remote.
            NotARepository, GitUnusable: Remotes are to be stripped, and cannot be.
        """
        kept = await self._workspaces.register(
            WorkspaceConfig(
                path=path,
                remote=remote,
                branch=branch,
                auto_commit=auto_commit,
                auto_push=auto_push,
                base=base,
                protect=protect,
            )
        )
        if self._settings.strip_remotes:
            async with self._bench.alone(kept), self._bench.at(kept):
                pass
        return kept

    @method(target="path", destructive=True, idempotent=True)
    async def unregister(self, path: Path) -> bool:
        """Forget a registered folder and return whether it was registered. The folder stays as it is.

        Args:
            path: The folder, absolute; it need not exist any more.
        """
        return await self._workspaces.unregister(path)

    @method(scope="read", narrows=True, read_only=True, idempotent=True)
    async def list(
        self, call: Call, limit: Annotated[int, Ge(1), Le(1000)] = 200, after: Path | None = None
    ) -> tuple[WorkspaceConfig, ...]:
        """Return the registered folders in the order of their paths, a page at a time.

        Args:
            limit: At most this many; fewer come back only at the end.
            after: Path of the last folder of the page before; leave it out for the first page.
        """
        found: list[WorkspaceConfig] = []
        while len(found) < limit:
            page = await self._workspaces.list(limit, after)
            found += [workspace for workspace in page if call.may_reach(str(workspace.path))]
            if len(page) < limit or not call.is_narrowed:
                break
            after = page[-1].path
        return tuple(found[:limit])

    @method(scope="read", target="path", read_only=True, idempotent=True, errors=[errors.NotRegistered])
    async def get(self, path: Path) -> WorkspaceConfig:
        """Return what is known of one registered folder.

        Args:
            path: The folder, absolute.

        Raises:
            NotRegistered: It is not registered.
        """
        return await self._workspaces.get(path)

    @method(target="path", idempotent=True, errors=[errors.NotRegistered, errors.RemoteNotAllowed])
    async def update(
        self,
        path: Path,
        remote: str | None = None,
        branch: str | None = None,
        auto_commit: bool | None = None,
        auto_push: bool | None = None,
        base: str | None = None,
        protect: Annotated[tuple[Name, ...], MaxLen(100)] | None = None,
    ) -> WorkspaceConfig:
        """Change what is known of a registered folder. What is left out stays.

        Args:
            path: The folder, absolute.
            remote: Its repository.
            branch: Branch that work goes to.
            auto_commit: Whether to commit when a chat has ended.
            auto_push: Whether to push such a commit.
            base: Branch that the work is meant for; an empty text for none.
            protect: Patterns of further branches that are never pushed to; all of them.

        Raises:
            NotRegistered: It is not registered.
            InvalidParams: Remote or branch may not be used.
            RemoteNotAllowed: The configuration does not allow the remote.
        """
        known = await self._workspaces.get(path)
        changed = attrs.evolve(
            known,
            remote=known.remote if remote is None else remote,
            branch=known.branch if branch is None else branch,
            auto_commit=known.auto_commit if auto_commit is None else auto_commit,
            auto_push=known.auto_push if auto_push is None else auto_push,
            protect=known.protect if protect is None else protect,
        )
        if base is not None:
            changed = attrs.evolve(changed, base=base or None)
        return await self._workspaces.put(changed)

    @method(
        target="path",
        errors=[errors.AlreadyRegistered, errors.RemoteNotAllowed, errors.RemoteFailed, errors.GitUnusable],
    )
    async def clone(
        self,
        call: Call,
        remote: str,
        path: Path | None = None,
        branch: str | None = None,
        depth: Annotated[int, Ge(1), Le(1_000_000)] | None = None,
    ) -> AsyncIterator[Cloned]:
        """Make a workspace from a remote and register it. Its progress is told as it comes.

        Args:
            remote: The repository, as for `register`.
            path: Where, absolute: a folder that does not exist or is empty, below one of the allowed folders. In the
                data directory's `workspaces` and named after the repository when left out.
            branch: What to check out; the remote's default branch when left out.
            depth: How many commits back; all when left out.

        Raises:
            AlreadyRegistered: The folder is registered.
            InvalidParams: Path, remote or branch may not be used.
            RemoteNotAllowed: The configuration does not allow the remote.
            RemoteFailed, GitUnusable: It did not work; nothing is left.
        """
        name = re.split("[/:]", remote.rstrip("/"))[-1].removesuffix(".git") or "workspace"
        wanted = WorkspaceConfig(
            path=path or self._host.workspaces_dir / name, remote=remote, branch=branch or "main", source="cloned"
        )
        self._workspaces.check(wanted)
        wanted = attrs.evolve(wanted, path=await self._workspaces.allowed(wanted.path))
        try:
            known = await self._workspaces.get(wanted.path)
        except errors.NotRegistered:
            pass
        else:
            raise errors.AlreadyRegistered(str(known.path), known.remote, known.branch)
        if path is None:
            await trio.to_thread.run_sync(
                lambda: self._host.workspaces_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            )
        return self._cloned(call, wanted, branch, depth)

    async def _cloned(
        self, call: Call, wanted: WorkspaceConfig, branch: str | None, depth: int | None
    ) -> AsyncIterator[Cloned]:
        commit, chosen = await clone(self._bench, wanted, branch, depth, _progress(call))
        kept = await self._workspaces.register(attrs.evolve(wanted, branch=chosen))
        yield Cloned(workspace=kept, commit=commit)

    # ── Looking ───────────────────────────────────────────────────────────────

    @method(
        scope="read",
        target="path",
        read_only=True,
        idempotent=True,
        errors=[errors.NotRegistered, errors.GitUnusable],
    )
    async def status(self, path: Path) -> WorkspaceStatus:
        """Tell how a workspace is, in a word and in numbers. The remote is not asked: what was last seen of it counts.

        Args:
            path: The folder, absolute.

        Raises:
            NotRegistered: It is not registered.
            GitUnusable: Git is missing, or failed.
        """
        return await self._exchange.status(await self._workspaces.get(path))

    @method(scope="read", target="path", read_only=True, idempotent=True, errors=ON_DISK)
    async def diff(
        self,
        path: Path,
        staged: bool = False,
        against: Name | None = None,
        paths: Annotated[tuple[Annotated[str, MaxLen(4096)], ...], MaxLen(1000)] = (),
        context: Annotated[int, Ge(0), Le(1000)] = 3,
        format: Literal["unified", "files"] = "unified",
    ) -> str | Diff:
        """Return what a commit would change now, files that git does not know yet included.

        Args:
            path: The folder, absolute.
            staged: Only what is in the index.
            against: Compare with this commit, branch or tag; with HEAD when left out.
            paths: Only these files and folders, relative to the folder.
            context: Lines around each change.
            format: `unified` for a text, `files` for a list. Both are cut at `gitsync.max_diff_bytes`, and say so.

        Raises:
            NotRegistered: It is not registered.
            NotARepository: There is no repository that may be used.
            InvalidParams: `against` names nothing, or a path leads outside.
            GitUnusable: Git is missing, or failed.
        """
        for number, one in enumerate(paths):
            if one.startswith("/") or ".." in one.split("/") or not one or "\0" in one:
                raise InvalidParams("must be relative and stay inside the folder", path=f"$.paths[{number}]")
        async with self._bench.at(await self._workspaces.get(path)) as shadow:
            diff, text = await self._bench.diff(
                shadow, staged=staged, against=against, paths=paths, context=context, files=format == "files"
            )
        return diff if format == "files" else text

    @method(scope="read", target="path", read_only=True, idempotent=True, errors=ON_DISK)
    async def log(
        self, path: Path, limit: Annotated[int, Ge(1), Le(1000)] = 50, revision: Name | None = None
    ) -> tuple[LogEntry, ...]:
        """Return commits, newest first.

        Args:
            path: The folder, absolute.
            limit: At most this many.
            revision: From this commit, branch or tag on; from HEAD when left out.

        Raises:
            NotRegistered: It is not registered.
            NotARepository: There is no repository that may be used.
            InvalidParams: `revision` names nothing.
            GitUnusable: Git is missing, or failed.
        """
        async with self._bench.at(await self._workspaces.get(path)) as shadow:
            return await self._bench.log_of(shadow, limit, revision)

    # ── Committing, pushing, pulling ──────────────────────────────────────────

    @method(target="path", errors=COMMITTING)
    async def commit(
        self, path: Path, message: messages.Message, branch: Name | None = None, session: Name | None = None
    ) -> CommitResult:
        """Commit everything that has changed, new files included, on the work branch, which is then checked out.

        No hook, filter or signing program of the workspace runs. Where `auto_push` is set, the branch is pushed soon
        after.

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
        """
        if not message.strip():
            raise InvalidParams("must say something", path="$.message")
        workspace = await self._workspaces.get(path)
        async with self._bench.alone(workspace), self._bench.at(workspace) as shadow:
            work = branch or self._bench.work_branch(workspace, shadow.repository.head_branch(), session)
            self._bench.check_branch(workspace, work)
            result = await self._bench.commit(shadow, work, message)
        if workspace.auto_push and result.commit is not None:
            self._pushes.add(workspace, work)
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
        errors=[*ON_DISK, errors.WorkspaceBusy, errors.BranchDiverged, errors.RemoteNotAllowed, errors.RemoteFailed],
    )
    async def pull(self, path: Path, branch: Name | None = None) -> PullResult:
        """Fetch a branch and go on to it, when nothing was committed here that it lacks. Changed files stay.

        Args:
            path: The folder, absolute.
            branch: Of the remote; the one of the name that is checked out when left out.

        Raises:
            NotRegistered: It is not registered.
            NotARepository, GitUnusable: There is no repository that may be used, or git failed.
            WorkspaceBusy: Changed files are in the way, or something is in progress.
            BranchDiverged: Both sides have commits of their own.
            RemoteNotAllowed: The configuration does not allow the remote.
            RemoteFailed: The exchange failed.
        """
        if branch is not None and (problem := problem_with_branch(branch)) is not None:
            raise InvalidParams(problem, path="$.branch")
        return await self._exchange.pull(await self._workspaces.get(path), branch)

    @method(target="path", errors=COMMITTING)
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
                await self._bench.create_branch(shadow, name)
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


def _progress(call: Call) -> OnLine:
    """Return what tells git's own lines of progress on."""

    async def tell(line: str) -> None:
        found = _PROGRESS.match(line)
        if found is not None:
            await call.progress(int(found["done"]), int(found["total"]), found["what"])

    return tell
