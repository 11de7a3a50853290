"""Methods that look at a workspace and change nothing."""

from pathlib import Path
from typing import Annotated, Literal

from clonk_core.plugin import Ge, InvalidParams, Le, MaxLen, method
from clonk_gitsync import errors, looking
from clonk_gitsync.exchange import Exchange
from clonk_gitsync.messages import (
    Diff,
    LogEntry,
    WorkspaceStatus,
)
from clonk_gitsync.methods.common import LONG_S, ON_DISK, Name
from clonk_gitsync.workbench import Workbench
from clonk_gitsync.workspaces import Workspaces


class LookingMethods:
    """What `GitSync` offers to look at a workspace."""

    _workspaces: Workspaces
    _bench: Workbench
    _exchange: Exchange

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

    @method(scope="read", target="path", read_only=True, idempotent=True, deadline_s=LONG_S, errors=ON_DISK)
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
        files = format == "files"
        diff, text = await looking.diff(
            self._bench,
            await self._workspaces.get(path),
            staged=staged,
            against=against,
            paths=paths,
            context=context,
            files=files,
        )
        return diff if files else text

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
        return await looking.log(self._bench, await self._workspaces.get(path), limit, revision)
