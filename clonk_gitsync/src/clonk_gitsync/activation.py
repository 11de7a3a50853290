"""The methods that gitsync offers. Thin: `workspaces.py` has the rules, `store.py` the SQL."""

from pathlib import Path
from typing import Annotated

from clonk_core.plugin import Activation, Call, Ge, Host, Le, method
from clonk_gitsync.errors import AlreadyRegistered
from clonk_gitsync.messages import WorkspaceConfig
from clonk_gitsync.workspaces import Workspaces


class GitSync(Activation):
    """Which folder belongs to which branch of which repository."""

    namespace = "gitsync"
    version = "1.0.0"

    def __init__(self, host: Host) -> None:
        database = host.database("gitsync", migrations="clonk_gitsync.migrations")
        self._workspaces = Workspaces(database, host.workspace_roots)

    @method(target="path", idempotent=True, errors=[AlreadyRegistered])
    async def register(self, path: Path, remote: str, branch: str) -> WorkspaceConfig:
        """Register a folder as the workspace of a branch. Nothing in the folder is touched.

        Args:
            path: An existing folder on the server, absolute, below one of the allowed folders.
            remote: Its repository, no credentials: `https://host/path`, `ssh://user@host/path` or `user@host:path`.
            branch: Name of the branch, by git's rules.

        Raises:
            AlreadyRegistered: The folder is registered with another remote or branch.
            InvalidParams: The path is no folder below an allowed one, or remote or branch may not be used.
        """
        return await self._workspaces.register(path, remote, branch)

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
