"""All SQL of gitsync: plain functions, each given the open transaction it works in."""

from typing import Final

import attrs

from clonk_core.plugin import Transaction

INSERT_WORKSPACE: Final = (
    "insert into workspaces (path, remote, branch, registered_at) values (:path, :remote, :branch, :registered_at)"
)
WORKSPACE: Final = "select path, remote, branch, auto_commit, auto_push from workspaces where path = :path"
WORKSPACES_AFTER: Final = (
    "select path, remote, branch, auto_commit, auto_push from workspaces where path > :after order by path limit :limit"
)
DELETE_WORKSPACE: Final = "delete from workspaces where path = :path returning path"


@attrs.frozen
class WorkspaceRow:
    """One row of `workspaces`, columns in the order they are selected."""

    path: str
    remote: str
    branch: str
    auto_commit: int
    auto_push: int


def insert_workspace(transaction: Transaction, path: str, remote: str, branch: str, registered_at: str) -> None:
    """Add one folder."""
    bindings = {"path": path, "remote": remote, "branch": branch, "registered_at": registered_at}
    transaction.execute(INSERT_WORKSPACE, bindings)


def find_workspace(transaction: Transaction, path: str) -> WorkspaceRow | None:
    """Return one folder, or None."""
    row = transaction.one(WORKSPACE, {"path": path})
    return None if row is None else WorkspaceRow(*row)


def workspaces_after(transaction: Transaction, after: str, limit: int) -> list[WorkspaceRow]:
    """Return the folders whose paths come after `after`, in the order of their paths."""
    return [WorkspaceRow(*row) for row in transaction.all(WORKSPACES_AFTER, {"after": after, "limit": limit})]


def delete_workspace(transaction: Transaction, path: str) -> bool:
    """Remove one folder; tell whether it was there."""
    return transaction.one(DELETE_WORKSPACE, {"path": path}) is not None
