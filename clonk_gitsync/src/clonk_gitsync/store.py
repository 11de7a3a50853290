"""All SQL of gitsync: plain functions, each given the open transaction it works in."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from clonk_core.plugin import Transaction
from clonk_gitsync.messages import WorkspaceConfig

_COLUMNS: Final = "path, remote, branch, auto_commit, auto_push, base, protect, source"
INSERT_WORKSPACE: Final = (
    f"insert into workspaces ({_COLUMNS}, registered_at) "
    "values (:path, :remote, :branch, :auto_commit, :auto_push, :base, :protect, :source, :registered_at)"
)
UPDATE_WORKSPACE: Final = (
    "update workspaces set remote = :remote, branch = :branch, auto_commit = :auto_commit, auto_push = :auto_push, "
    "base = :base, protect = :protect, source = :source where path = :path"
)
WORKSPACE: Final = f"select {_COLUMNS} from workspaces where path = :path"
WORKSPACES_AFTER: Final = f"select {_COLUMNS} from workspaces where path > :after order by path limit :limit"
DELETE_WORKSPACE: Final = "delete from workspaces where path = :path returning path"


def insert_workspace(transaction: Transaction, workspace: WorkspaceConfig) -> None:
    """Add one folder."""
    now = datetime.now(UTC).isoformat()
    transaction.execute(INSERT_WORKSPACE, {**_bindings(workspace), "registered_at": now})


def update_workspace(transaction: Transaction, workspace: WorkspaceConfig) -> None:
    """Replace what is known of one folder."""
    transaction.execute(UPDATE_WORKSPACE, _bindings(workspace))


def find_workspace(transaction: Transaction, path: str) -> WorkspaceConfig | None:
    """Return one folder, or None."""
    row = transaction.one(WORKSPACE, {"path": path})
    return None if row is None else _workspace(row)


def workspaces_after(transaction: Transaction, after: str, limit: int) -> list[WorkspaceConfig]:
    """Return the folders whose paths come after `after`, in the order of their paths."""
    return [_workspace(row) for row in transaction.all(WORKSPACES_AFTER, {"after": after, "limit": limit})]


def delete_workspace(transaction: Transaction, path: str) -> bool:
    """Remove one folder; tell whether it was there."""
    return transaction.one(DELETE_WORKSPACE, {"path": path}) is not None


def _bindings(workspace: WorkspaceConfig) -> dict[str, Any]:
    return {
        "path": str(workspace.path),
        "remote": workspace.remote,
        "branch": workspace.branch,
        "auto_commit": int(workspace.auto_commit),
        "auto_push": int(workspace.auto_push),
        "base": workspace.base,
        "protect": json.dumps(workspace.protect),
        "source": workspace.source,
    }


def _workspace(row: tuple[Any, ...]) -> WorkspaceConfig:
    path, remote, branch, auto_commit, auto_push, base, protect, source = row
    return WorkspaceConfig(
        path=Path(path),
        remote=remote,
        branch=branch,
        auto_commit=bool(auto_commit),
        auto_push=bool(auto_push),
        base=base,
        protect=tuple(json.loads(protect)),
        source=source,
    )
