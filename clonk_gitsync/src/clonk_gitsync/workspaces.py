"""The domain: which folders may be registered, and what is known of them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import trio

from clonk_core.plugin import Database, InvalidParams, Transaction
from clonk_gitsync import store
from clonk_gitsync.errors import AlreadyRegistered
from clonk_gitsync.git_names import problem_with_branch, problem_with_remote
from clonk_gitsync.messages import WorkspaceConfig


class Workspaces:
    """The registered folders of one realm. Every method is one transaction.

    Args:
        database: Where they are kept.
        roots: Folders, resolved, below which a workspace may lie; one of them may itself be one.
    """

    def __init__(self, database: Database, roots: Sequence[Path]) -> None:
        self._database = database
        self._roots = tuple(roots)

    async def register(self, path: Path, remote: str, branch: str) -> WorkspaceConfig:
        """Keep one folder with its remote and branch; once more with the same ones changes nothing."""
        for parameter, problem in (("remote", problem_with_remote(remote)), ("branch", problem_with_branch(branch))):
            if problem is not None:
                raise InvalidParams(problem, path=f"$.{parameter}")
        folder = await trio.to_thread.run_sync(self._allowed_folder, path)
        row = await self._database.run(_register, str(folder), remote, branch)
        return _config(row)

    async def unregister(self, path: Path) -> bool:
        """Forget one folder; tell whether it was known. The folder itself may be gone."""
        resolved = await trio.to_thread.run_sync(_resolve, path)
        return await self._database.run(_unregister, str(path), str(resolved))

    async def list(self, limit: int, after: Path | None) -> tuple[WorkspaceConfig, ...]:
        """Return the folders in the order of their paths."""
        rows = await self._database.read(store.workspaces_after, "" if after is None else str(after), limit)
        return tuple(_config(row) for row in rows)

    def _allowed_folder(self, path: Path) -> Path:
        """Return the folder that `path` leads to. Whether anything exists outside the roots is not told."""
        resolved = _resolve(path)
        if not any(resolved.is_relative_to(root) for root in self._roots):
            allowed = ", ".join(str(root) for root in self._roots)
            raise InvalidParams(
                f"leads outside the allowed folders; allowed is what lies below {allowed}", path="$.path"
            )
        if not _is_folder(resolved):
            raise InvalidParams("there is no such folder; create it first", path="$.path")
        return resolved


def _resolve(path: Path) -> Path:
    if not path.is_absolute():
        raise InvalidParams("must be absolute: it is a path on the server", path="$.path")
    try:
        resolved = path.resolve()
        # A link may lead to a name that no answer can carry.
        str(resolved).encode()
    except (OSError, ValueError, RuntimeError) as error:
        # Too long, a NUL, a loop of links (RuntimeError until Python 3.12), not UTF-8.
        raise InvalidParams("is no path that can be followed", path="$.path") from error
    return resolved


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        # A part is too long, or may not be looked into.
        return False


def _register(transaction: Transaction, path: str, remote: str, branch: str) -> store.WorkspaceRow:
    known = store.find_workspace(transaction, path)
    if known is None:
        store.insert_workspace(transaction, path, remote, branch, datetime.now(UTC).isoformat())
        return store.WorkspaceRow(path, remote, branch, auto_commit=0, auto_push=0)
    if (known.remote, known.branch) != (remote, branch):
        raise AlreadyRegistered(path, known.remote, known.branch)
    return known


def _unregister(transaction: Transaction, path: str, resolved: str) -> bool:
    """Remove by the path as given first: after a link was changed, that is the one the caller saw in the list."""
    return store.delete_workspace(transaction, path) or store.delete_workspace(transaction, resolved)


def _config(row: store.WorkspaceRow) -> WorkspaceConfig:
    return WorkspaceConfig(
        path=Path(row.path),
        remote=row.remote,
        branch=row.branch,
        auto_commit=bool(row.auto_commit),
        auto_push=bool(row.auto_push),
    )
