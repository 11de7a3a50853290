"""Methods about which folders are workspaces."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import attrs
import trio

from clonk_core.plugin import Call, Ge, Host, Le, MaxLen, method
from clonk_gitsync import errors
from clonk_gitsync.cloning import clone
from clonk_gitsync.messages import (
    Cloned,
    WorkspaceConfig,
)
from clonk_gitsync.methods.common import Name, progress
from clonk_gitsync.settings import GitSyncSettings
from clonk_gitsync.workbench import Workbench
from clonk_gitsync.workspaces import Workspaces


class WorkspaceMethods:
    """What `GitSync` offers about which folders are workspaces."""

    _host: Host
    _settings: GitSyncSettings
    _workspaces: Workspaces
    _bench: Workbench

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
        commit, chosen = await clone(self._bench, wanted, branch, depth, progress(call))
        kept = await self._workspaces.register(attrs.evolve(wanted, branch=chosen))
        yield Cloned(workspace=kept, commit=commit)
