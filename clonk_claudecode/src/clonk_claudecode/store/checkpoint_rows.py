"""Checkpoints."""

import json
from datetime import datetime
from typing import Any, Final

from clonk_claudecode.checkpoints.messages import StoredCheckpoint
from clonk_claudecode.clock import clock_text
from clonk_core.plugin import Transaction

COLUMNS: Final = (
    "session_id, number, node_id, turn_id, kind, repository, prefix, commit_id, head_id, left_out, left_out_count, "
    "created_at"
)
INSERT: Final = f"""
    insert into checkpoints ({COLUMNS})
    select :session_id, :number, :node_id, :turn_id, :kind, :repository, :prefix, :commit_id, :head_id, :left_out,
           :left_out_count, :created_at
    where exists (select 1 from sessions where id = :session_id)"""
LAST_NUMBER: Final = "select max(number) from checkpoints where session_id = :session_id"
LAST: Final = f"""
    select {COLUMNS} from checkpoints where session_id = :session_id order by number desc limit 1"""
AFTER: Final = f"""
    select {COLUMNS} from checkpoints where session_id = :session_id and number > :after order by number limit :limit"""
OF_NODE: Final = f"""
    select {COLUMNS} from checkpoints where session_id = :session_id and node_id = :node_id
    order by number desc limit 1"""
REPOSITORIES: Final = "select distinct repository from checkpoints where session_id = :session_id"


def insert_checkpoint(transaction: Transaction, checkpoint: StoredCheckpoint) -> bool:
    """Store a checkpoint; False when its session was deleted meanwhile."""
    transaction.execute(
        INSERT,
        {
            "session_id": checkpoint.session_id,
            "number": checkpoint.number,
            "node_id": checkpoint.node_id,
            "turn_id": checkpoint.turn_id,
            "kind": checkpoint.kind,
            "repository": checkpoint.repository,
            "prefix": checkpoint.prefix,
            "commit_id": checkpoint.commit_id,
            "head_id": checkpoint.head_id,
            "left_out": json.dumps(checkpoint.left_out),
            "left_out_count": checkpoint.left_out_count,
            "created_at": clock_text(checkpoint.created_at),
        },
    )
    return transaction.changes() == 1


def last_checkpoint(transaction: Transaction, session_id: str) -> StoredCheckpoint | None:
    """Return a session's latest checkpoint."""
    row = transaction.one(LAST, {"session_id": session_id})
    return None if row is None else checkpoint_of(row)


def checkpoint_of_node(transaction: Transaction, session_id: str, node_id: str) -> StoredCheckpoint | None:
    """Return the latest checkpoint that belongs to a message."""
    row = transaction.one(OF_NODE, {"session_id": session_id, "node_id": node_id})
    return None if row is None else checkpoint_of(row)


def checkpoints_after(transaction: Transaction, session_id: str, after: int, limit: int) -> list[StoredCheckpoint]:
    """Return a session's checkpoints in order, those behind number `after`."""
    rows = transaction.all(AFTER, {"session_id": session_id, "after": after, "limit": limit})
    return [checkpoint_of(row) for row in rows]


def repositories(transaction: Transaction, session_id: str) -> list[str]:
    """Return the folders of the repositories that hold checkpoints of a session."""
    return [row[0] for row in transaction.all(REPOSITORIES, {"session_id": session_id})]


def checkpoint_of(row: tuple[Any, ...]) -> StoredCheckpoint:
    """Return the checkpoint that a row of `COLUMNS` holds."""
    return StoredCheckpoint(
        session_id=row[0],
        number=row[1],
        node_id=row[2],
        turn_id=row[3],
        kind=row[4],
        repository=row[5],
        prefix=row[6],
        commit_id=row[7],
        head_id=row[8],
        left_out=tuple(json.loads(row[9])),
        left_out_count=row[10],
        created_at=datetime.fromisoformat(row[11]),
    )
