"""What is told of checkpoints."""

from datetime import datetime
from typing import Final, Literal, TypeAlias

import attrs

MAX_NAMED: Final = 20
"""Files that are named as left out; the others are counted."""

CheckpointKind: TypeAlias = Literal["turn", "rewind", "discarded"]


@attrs.frozen(kw_only=True)
class CheckpointMade:
    """The state of the files at the end of a turn, as it was recorded.

    Attributes:
        commit: The commit in the repository of the working directory.
        left_out: Files that are not in it, relative to the repository's root: too large, unreadable, or the contents
            of a submodule or another nested repository (their names end with `/`). The first 20.
        left_out_count: How many were left out.
    """

    commit: str
    left_out: tuple[str, ...] = ()
    left_out_count: int = 0


@attrs.frozen(kw_only=True)
class Checkpoint(CheckpointMade):
    """A recorded state of a session's files.

    Attributes:
        number: Counts the session's checkpoints, from 1.
        snapshot_id: The message it belongs to: the files were so when that had been said.
        kind: `turn` at the end of a turn; `rewind` before a rewind left the message, with what was changed by hand
            since; `discarded` before the files were put back to what belongs to the message. The last kind is kept, and
            never put back by itself.
        ref: The name that keeps the commit in the repository.
        head: The commit that was checked out; null when there was none yet.
        subscription: The run of the turn; null for the others.
        created_at: When it was recorded.
    """

    number: int
    snapshot_id: str
    kind: CheckpointKind
    ref: str
    head: str | None
    subscription: str | None
    created_at: datetime


@attrs.frozen(kw_only=True)
class StoredCheckpoint:
    """One row of the store; not on the wire.

    Attributes:
        repository: The repository's folder, which holds the commit and its ref.
        prefix: The working directory in the work tree, ending with `/`; empty for its root.
    """

    session_id: str
    number: int
    node_id: str
    turn_id: str | None
    kind: CheckpointKind
    repository: str
    prefix: str
    commit_id: str
    head_id: str | None
    left_out: tuple[str, ...]
    left_out_count: int
    created_at: datetime

    @property
    def made(self) -> CheckpointMade:
        """What `done` tells of it."""
        return CheckpointMade(commit=self.commit_id, left_out=self.left_out, left_out_count=self.left_out_count)

    @property
    def shown(self) -> Checkpoint:
        """What `claudecode.checkpoints` tells of it."""
        return Checkpoint(
            commit=self.commit_id,
            left_out=self.left_out,
            left_out_count=self.left_out_count,
            number=self.number,
            snapshot_id=self.node_id,
            kind=self.kind,
            ref=ref_name(self.session_id, self.number),
            head=self.head_id,
            subscription=self.turn_id,
            created_at=self.created_at,
        )


def ref_name(session_id: str, number: int) -> str:
    """Return the name of the ref that keeps a checkpoint."""
    return f"{refs_of(session_id)}{number}"


def refs_of(session_id: str) -> str:
    """Return how the names of a session's refs begin."""
    return f"refs/clonk/checkpoints/{session_id}/"
