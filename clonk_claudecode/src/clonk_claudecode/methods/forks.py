"""Methods that go back to an earlier message."""

from typing import Annotated

from clonk_claudecode.checkpoints.messages import Checkpoint
from clonk_claudecode.errors import (
    CopyTooLarge,
    FolderNotCopyable,
    NoCheckpoint,
    NotRestorable,
    SessionArchived,
    SessionBusy,
    WorkingDirLost,
)
from clonk_claudecode.forks.fork import Files, Forker
from clonk_claudecode.forks.rewind import Rewinder
from clonk_claudecode.messages import AfterNumber, Rewound, Session, SessionName, SnapshotId
from clonk_claudecode.methods.base import Methods
from clonk_claudecode.store import checkpoint_rows
from clonk_claudecode.wishes import check_fork_shows_nothing, check_inherited_mode
from clonk_core.plugin import Call, Conflict, Forbidden, Ge, Le, NotFound, method

FORK_S = 300.0
"""Copying 2 GiB takes a minute on a slow disk."""


class ForkMethods(Methods):
    """Fork sessions, take them back."""

    @method(
        target="name",
        deadline_s=FORK_S,
        errors=[NotFound, Conflict, Forbidden, NoCheckpoint, WorkingDirLost, FolderNotCopyable, CopyTooLarge],
    )
    async def fork(
        self,
        call: Call,
        name: SessionName,
        snapshot_id: SnapshotId,
        new_name: SessionName | None = None,
        files: Files = "shared",
    ) -> Session:
        """Make a new session that goes on from a message of another one, which stays as it is and may go on too.

        Any message will do, of the current conversation or of one that a rewind has left, also while the session
        answers. At a message of Claude's that uses a tool, the tool counts as interrupted; at a prompt, the prompt
        stays without an answer. The fork is yours, with the settings of its parent; one of a session that bypasses
        permissions needs the scope `claudecode:bypass`.

        Args:
            name: The session to fork.
            snapshot_id: The last message of the new session's conversation, as `claudecode.history` and `done` give it.
            new_name: Name of the new session; `<name>-fork`, `<name>-fork-2` and so on when left out. None that you
                may read while you may not read the one that you fork.
            files: What it works on: `shared`, the same folder; `copy`, a copy of the folder as it is now; `worktree`, a
                git worktree with the files as they were at the message, by the checkpoint at the end of the last turn
                that had ended then.
        """
        parent = await self._sessions.find(name)
        forker = Forker(sessions=self._sessions)
        chosen = new_name or await forker.free_name(name)
        if not call.may_reach(chosen):
            raise Forbidden(
                f"this key may not have a session {chosen!r}; give a `new_name` that it may reach", name=chosen
            )
        check_fork_shows_nothing(call.caller, name, chosen)
        configured = self._sessions.settings.session.permission_mode
        check_inherited_mode(call.caller, parent.permission_mode, configured)
        fork = await forker.fork(parent, snapshot_id, chosen, files, call.caller.id)
        return self._sessions.describe(fork)

    @method(
        target="name",
        deadline_s=FORK_S,
        destructive=True,
        errors=[NotFound, SessionArchived, SessionBusy, Conflict, NoCheckpoint, NotRestorable],
    )
    async def rewind(self, name: SessionName, snapshot_id: SnapshotId, files: bool | None = None) -> Rewound:
        """Take a session back to one of its messages, with its files; the next prompt goes on from there.

        What was said since is kept: its snapshots can be forked, and rewound to. The files as they are now are recorded
        first. Put back are the files that git would track or that are new; ignored files, files too large for
        checkpoints, submodules, HEAD, branches and the index stay as they are.

        Args:
            name: The session; no turn of it may run.
            snapshot_id: The message that shall be the last one.
            files: Whether the files go back too. When left out they do if there is a checkpoint for the message; true
                makes it an error if there is none; false leaves them alone.
        """
        return await Rewinder(sessions=self._sessions).rewind(name, snapshot_id, files)

    @method(scope=("read", "chat"), target="name", read_only=True, idempotent=True, errors=[NotFound])
    async def checkpoints(
        self,
        name: SessionName,
        limit: Annotated[int, Ge(1), Le(1000)] = 100,
        after: AfterNumber = 0,
    ) -> tuple[Checkpoint, ...]:
        """Return the recorded states of a session's files, oldest first.

        Args:
            name: The session.
            limit: At most this many, 1 to 1000.
            after: Number of the last checkpoint of the page before; 0 begins with the first.
        """
        session = await self._sessions.find(name)
        found = await self._sessions.database.read(checkpoint_rows.checkpoints_after, session.id, after, limit)
        return tuple(one.shown for one in found)
