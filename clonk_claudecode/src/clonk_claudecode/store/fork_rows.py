"""What forks have of their own, and what is being done outside of the database."""

import json
from typing import Any, Final

import attrs

from clonk_core.plugin import Transaction

INSERT: Final = """
    insert into worktrees (session_id, repository, top, commit_id)
    values (:session_id, :repository, :top, :commit_id)"""
OF_SESSION: Final = "select repository, top, commit_id from worktrees where session_id = :session_id"
NOTE_UNFINISHED: Final = """
    insert into unfinished (id, kind, detail) values (:id, :kind, :detail)
    on conflict (id) do update set kind = excluded.kind, detail = excluded.detail"""
FINISH: Final = "delete from unfinished where id = :id"
UNFINISHED: Final = "select id, kind, detail from unfinished order by id"
OVERLAPPING: Final = """
    select id, name from sessions
    where id <> :session_id and (working_dir = :folder or substr(working_dir, 1, length(:folder) + 1) = :folder || '/'
          or substr(:folder, 1, length(working_dir) + 1) = working_dir || '/')"""


@attrs.frozen(kw_only=True)
class StoredWorktree:
    """A work tree that was made for a fork.

    Attributes:
        repository: The folder of its repository.
        top: Its root.
        commit_id: The checkpoint that it began with.
    """

    repository: str
    top: str
    commit_id: str


def insert_worktree(transaction: Transaction, session_id: str, worktree: StoredWorktree) -> None:
    """Store that a session has a work tree."""
    transaction.execute(INSERT, {"session_id": session_id, **attrs.asdict(worktree)})


def worktree_of(transaction: Transaction, session_id: str) -> StoredWorktree | None:
    """Return the work tree that was made for a session; None when there was none."""
    row = transaction.one(OF_SESSION, {"session_id": session_id})
    return None if row is None else StoredWorktree(repository=row[0], top=row[1], commit_id=row[2])


def note_unfinished(transaction: Transaction, key: str, kind: str, detail: dict[str, Any]) -> None:
    """Note what is about to be done outside of the database."""
    transaction.execute(NOTE_UNFINISHED, {"id": key, "kind": kind, "detail": json.dumps(detail)})


def finish(transaction: Transaction, key: str) -> None:
    """Note that it is done, or undone."""
    transaction.execute(FINISH, {"id": key})


def unfinished(transaction: Transaction) -> list[tuple[str, str, dict[str, Any]]]:
    """Return what was not finished: its key, its kind, and what was noted."""
    return [(row[0], row[1], json.loads(row[2])) for row in transaction.all(UNFINISHED)]


def overlapping_sessions(transaction: Transaction, session_id: str, folder: str) -> list[tuple[str, str]]:
    """Return id and name of the other sessions that work in a folder, above it or below it."""
    return [(row[0], row[1]) for row in transaction.all(OVERLAPPING, {"session_id": session_id, "folder": folder})]
