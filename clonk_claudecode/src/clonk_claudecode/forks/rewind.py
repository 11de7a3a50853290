"""A session taken back, in place, to a message of its own; what it leaves stays reachable.

The order, so that a kill at any point leaves something that the next start can finish: what is wanted is noted; the
files as they are are recorded; the transcript that ends at the message is written; the files are put back; one commit
makes the history end there, has the session go on from the new transcript, and takes the note away.
"""

import uuid
from typing import Any, Final

import attrs
import trio

from clonk_claudecode.checkpoints.checkpoints import Restoring
from clonk_claudecode.checkpoints.messages import CheckpointKind, StoredCheckpoint
from clonk_claudecode.clock import now
from clonk_claudecode.errors import NoCheckpoint, NotRestorable, SessionArchived, SessionBusy, SessionNotFound
from clonk_claudecode.forks.fork import checkpoints_on_way, copy_conversation, find_point, keep_conversation
from clonk_claudecode.messages import Rewound, StoredSession
from clonk_claudecode.sessions import Sessions
from clonk_claudecode.sharing.messages import SessionChanged
from clonk_claudecode.store import branch_rows, checkpoint_rows, fork_rows, session_rows
from clonk_claudecode.store.branch_rows import Point
from clonk_claudecode.transcripts import delete_transcript
from clonk_core.plugin import Transaction

KIND: Final = "rewind"


@attrs.frozen(kw_only=True)
class Intent:
    """What a rewind is about to do, as it is noted.

    Attributes:
        session_id: Of which session.
        snapshot_id: Where it shall go back to.
        claude_session_id: The transcript that it gets.
        with_files: Whether the files are put back.
    """

    session_id: str
    snapshot_id: str
    claude_session_id: str
    with_files: bool

    @property
    def key(self) -> str:
        """Of the note; one rewind of a session at a time."""
        return f"rewind {self.session_id}"


@attrs.frozen(kw_only=True)
class Rewinder:
    """Takes sessions back.

    Attributes:
        sessions: Of which.
    """

    sessions: Sessions

    async def rewind(self, name: str, snapshot_id: str, files: bool | None) -> Rewound:
        """Take a session back to a message.

        Raises:
            SessionArchived: It was put aside.
            SessionBusy: It has a turn; or another one that works in the same folder has, when files are put back.
            SnapshotNotFound, SnapshotPartial: It cannot go on from there.
            NoCheckpoint, NotRestorable: The files cannot be put back; nothing was changed.
        """
        sessions = self.sessions
        session = await sessions.find(name)
        if session.archived_at is not None:
            raise SessionArchived(name)
        engine = sessions.running_engine()
        running = engine.running(session.id)
        if running is not None:
            raise SessionBusy(name, running.turn_id)
        async with engine.hold(session.id):
            session = await sessions.find(name)  # as it is now that nobody else can change it
            point = await find_point(sessions, session, snapshot_id)
            target = await self._target(session, point, files)
            if target is not None:
                await self._require_alone(session)
            intent = Intent(
                session_id=session.id,
                snapshot_id=snapshot_id,
                claude_session_id=str(uuid.uuid4()),
                with_files=target is not None,
            )
            await sessions.database.run(fork_rows.note_unfinished, intent.key, KIND, attrs.asdict(intent))
            before = await self._go(session, point, target, intent)
        sessions.watching.changed(session.id, SessionChanged(change="rewound", session=session.name))
        return Rewound(
            session=session.name,
            snapshot_id=snapshot_id,
            abandoned_snapshot_id=None if session.head_node_id == snapshot_id else session.head_node_id,
            message_count=point.seq,
            files="kept" if target is None else "restored",
            checkpoint=None if before is None else before.made,
        )

    async def finish(self, detail: dict[str, Any]) -> None:
        """Do what the server's end has kept a rewind from; when that cannot be done, the session stays as it was."""
        sessions, intent = self.sessions, Intent(**detail)
        session = await sessions.database.read(session_rows.session_by_id, intent.session_id)
        if session is None:
            await self._give_up(intent)
            return
        try:
            point = await find_point(sessions, session, intent.snapshot_id)
            target = await self._target(session, point, files=intent.with_files)
            await self._go(session, point, target, intent)
        except Exception:
            sessions.host.log.exception("a rewind that was cut off cannot be finished", session=session.name)
            await self._give_up(intent)

    async def _go(
        self, session: StoredSession, point: Point, target: StoredCheckpoint | None, intent: Intent
    ) -> StoredCheckpoint | None:
        sessions = self.sessions
        restoring: Restoring | None = None
        is_restored = False
        try:
            if target is not None:
                head = session.head_node_id or point.node_id
                kind = await self._kind_of_record(session, point, head)
                restoring = await sessions.checkpoints.prepare_restore(session, target, node_id=head, kind=kind)
            await copy_conversation(sessions, session, point, intent.claude_session_id)
            with trio.CancelScope(shield=True):
                if restoring is not None:
                    await restoring.restore()
                    is_restored = True
                await sessions.database.run(_store, session, point, intent)
        except BaseException:
            with trio.CancelScope(shield=True):
                if restoring is not None and is_restored:
                    await self._undo(session, restoring)
                await self._give_up(intent)
            raise
        await keep_conversation(sessions, attrs.evolve(session, claude_session_id=intent.claude_session_id))
        return None if restoring is None else restoring.before

    async def _kind_of_record(self, session: StoredSession, point: Point, head: str) -> CheckpointKind:
        """Return what the record of the files as they are is for: they belong to the message that is left."""
        if point.node_id == head:
            return "discarded"
        last = await self.sessions.database.read(checkpoint_rows.last_checkpoint, session.id)
        # A rewind that was cut off has recorded them already; now they are half put back.
        is_again = last is not None and last.kind == "rewind" and last.node_id == head
        return "discarded" if is_again else "rewind"

    async def _target(self, session: StoredSession, point: Point, files: bool | None) -> StoredCheckpoint | None:
        """Return what the files are put back to; None when they are not."""
        if files is False:
            return None
        known = await self.sessions.database.read(checkpoints_on_way, session.id, point)
        if known:
            return known[0]
        if files:
            raise NoCheckpoint("no recorded state of the files belongs to that message or to one before it")
        return None

    async def _require_alone(self, session: StoredSession) -> None:
        """See that no other session is changing the same files."""
        engine = self.sessions.running_engine()
        others = await self.sessions.database.read(fork_rows.overlapping_sessions, session.id, session.working_dir)
        for other_id, other_name in others:
            running = engine.running(other_id)
            if running is not None:
                raise SessionBusy(other_name, running.turn_id)

    async def _undo(self, session: StoredSession, restoring: Restoring) -> None:
        try:
            await restoring.undo()
        except NotRestorable as error:
            self.sessions.host.log.warning("files stay put back", session=session.name, reason=str(error))

    async def _give_up(self, intent: Intent) -> None:
        sessions = self.sessions
        await trio.to_thread.run_sync(delete_transcript, sessions.host.data_dir, intent.claude_session_id)
        await sessions.database.run(fork_rows.finish, intent.key)


def _store(transaction: Transaction, session: StoredSession, point: Point, intent: Intent) -> None:
    """Make the history end at a message."""
    fork_rows.finish(transaction, intent.key)
    if not branch_rows.rewind_to(transaction, session.id, point, intent.claude_session_id, now()):
        raise SessionNotFound(session.name)
