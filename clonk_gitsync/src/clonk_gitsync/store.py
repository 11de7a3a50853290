"""All SQL of gitsync: plain functions, each given the open transaction it works in."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs

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
KEEP_PUSH: Final = (
    "insert into pushes (path, branch, ticket, attempts, due_at) values (:path, :branch, :ticket, 0, :due_at) "
    "on conflict (path, branch) do update set ticket = excluded.ticket, attempts = 0, due_at = excluded.due_at"
)
PUSHES: Final = "select path, branch, ticket, attempts, due_at from pushes order by due_at, path, branch limit :limit"
DELAY_PUSH: Final = (
    "update pushes set attempts = attempts + 1, due_at = :due_at "
    "where path = :path and branch = :branch and ticket = :ticket"
)
HASTEN_PUSHES: Final = "update pushes set due_at = :due_at"
DELETE_PUSH: Final = "delete from pushes where path = :path and branch = :branch and ticket = :ticket"
DELETE_PUSHES: Final = "delete from pushes where path = :path"
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
    """Remove one folder and what is to be pushed of it; tell whether it was there."""
    transaction.execute(DELETE_PUSHES, {"path": path})
    return transaction.one(DELETE_WORKSPACE, {"path": path}) is not None


@attrs.frozen(kw_only=True)
class WaitingPush:
    """A branch that is to be pushed.

    Attributes:
        path: The workspace.
        branch: Which one.
        ticket: Of this wish; a later one for the same branch has another.
        attempts: How often it was tried in vain.
        due_at: When it is to be tried next.
    """

    path: Path
    branch: str
    ticket: str
    attempts: int
    due_at: datetime


def keep_push(transaction: Transaction, path: str, branch: str, ticket: str, due_at: datetime) -> None:
    """Have a branch pushed; what was known of it is forgotten."""
    bindings = {"path": path, "branch": branch, "ticket": ticket, "due_at": _time(due_at)}
    transaction.execute(KEEP_PUSH, bindings)


def waiting_pushes(transaction: Transaction, limit: int) -> list[WaitingPush]:
    """Return what is to be pushed, what is due first at the beginning."""
    return [
        WaitingPush(
            path=Path(path), branch=branch, ticket=ticket, attempts=attempts, due_at=datetime.fromisoformat(due_at)
        )
        for path, branch, ticket, attempts, due_at in transaction.all(PUSHES, {"limit": limit})
    ]


def delay_push(transaction: Transaction, push: WaitingPush, due_at: datetime) -> None:
    """Have a push tried again later, unless there is a newer wish."""
    transaction.execute(DELAY_PUSH, {**_key(push), "due_at": _time(due_at)})


def hasten_pushes(transaction: Transaction, due_at: datetime) -> None:
    """Have all pushes tried at one time."""
    transaction.execute(HASTEN_PUSHES, {"due_at": _time(due_at)})


def delete_push(transaction: Transaction, push: WaitingPush) -> None:
    """Forget a push, unless there is a newer wish."""
    transaction.execute(DELETE_PUSH, _key(push))


def _key(push: WaitingPush) -> dict[str, Any]:
    return {"path": str(push.path), "branch": push.branch, "ticket": push.ticket}


def _time(time: datetime) -> str:
    # With all digits, so that texts sort as times do.
    return time.astimezone(UTC).isoformat(timespec="microseconds")


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
