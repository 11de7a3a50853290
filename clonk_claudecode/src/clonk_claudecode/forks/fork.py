"""A new session that goes on from any message of another one."""

import uuid
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs
import trio

from clonk_claudecode.checkpoints.git import GitFailed
from clonk_claudecode.checkpoints.messages import StoredCheckpoint
from clonk_claudecode.checkpoints.repository import NoRepository
from clonk_claudecode.checkpoints.worktrees import add_worktree
from clonk_claudecode.clock import now
from clonk_claudecode.errors import NoCheckpoint, SessionNotFound, SnapshotNotFound, SnapshotPartial, WorkingDirLost
from clonk_claudecode.forks import leftovers
from clonk_claudecode.forks.copy_folder import FolderCopy
from clonk_claudecode.forks.leftovers import Leftovers
from clonk_claudecode.messages import StoredSession
from clonk_claudecode.mirror.copies import copy_transcript, last_entry
from clonk_claudecode.sessions import Sessions, name_taken
from clonk_claudecode.setup import session_spec
from clonk_claudecode.store import branch_rows, checkpoint_rows, fork_rows, session_rows
from clonk_claudecode.store.branch_rows import Point
from clonk_claudecode.store.fork_rows import StoredWorktree
from clonk_core.plugin import CallError, Conflict, Transaction, new_id

Files: TypeAlias = Literal["shared", "copy", "worktree"]

FLUSH_S: Final = 2.0
"""The binary writes an entry into its transcript a moment after it has told of it: some 100 ms."""

FLUSH_POLL_S: Final = 0.02
"""Nothing tells when another process has written into a file."""

MAX_NAME: Final = 64
MAX_CHECKPOINTS: Final = 1_000_000


async def find_point(sessions: Sessions, session: StoredSession, snapshot_id: str) -> Point:
    """Return the message of a session that a conversation can go on from.

    Raises:
        SnapshotNotFound: The session has none of that snapshot.
        SnapshotPartial: It was cut off.
    """
    point = await sessions.database.read(branch_rows.find_point, session.id, snapshot_id)
    if point is None:
        raise SnapshotNotFound(session.name, snapshot_id)
    if point.partial:
        raise SnapshotPartial(snapshot_id)
    return point


async def copy_conversation(
    sessions: Sessions, session: StoredSession, point: Point, target_id: str, working_dir: Path | None = None
) -> None:
    """Write a transcript that holds a session's conversation up to a message."""
    data_dir = sessions.host.data_dir
    engine = sessions.engine
    spec = session_spec(attrs.evolve(session, claude_session_id=point.claude_session_id), sessions.settings)
    is_live = engine is not None and engine.state(session.id) != "parked"
    # The files may be gone, and the store alone have the conversation.
    await sessions.keeper.prepare(spec, in_use=is_live)
    with trio.move_on_after(FLUSH_S):
        while engine is not None and engine.state(session.id) != "parked" and point.entries:
            asked = (data_dir, point.claude_session_id, point.entries[:1])
            if await trio.to_thread.run_sync(last_entry, *asked) is not None:
                break
            await trio.sleep(FLUSH_POLL_S)

    def copy() -> None:
        copy_transcript(data_dir, point.claude_session_id, target_id, entries=point.entries, working_dir=working_dir)

    await trio.to_thread.run_sync(copy)


async def keep_conversation(sessions: Sessions, session: StoredSession) -> None:
    """Have the store hold a conversation whose files were just written. What is not kept now is at its next prompt."""
    try:
        await sessions.keeper.catch_up(session_spec(session, sessions.settings))
    except (CallError, OSError) as error:
        sessions.host.log.warning("a transcript is not in the store yet", session=session.name, reason=str(error))


def checkpoints_on_way(transaction: Transaction, session_id: str, point: Point) -> list[StoredCheckpoint]:
    """Return the checkpoints of the messages up to a point, the one that belongs to it first."""
    known = checkpoint_rows.checkpoints_after(transaction, session_id, 0, MAX_CHECKPOINTS)
    places = {node_id: place for place, node_id in enumerate(branch_rows.nodes_on_way(transaction, session_id, point))}
    on_way = [one for one in known if one.node_id in places and one.kind != "discarded"]
    return sorted(on_way, key=lambda one: (places[one.node_id], -one.number))


@attrs.frozen(kw_only=True)
class Forker:
    """Forks sessions.

    Attributes:
        sessions: What is forked.
    """

    sessions: Sessions

    async def fork(
        self, parent: StoredSession, snapshot_id: str, new_name: str, files: Files, owner: str
    ) -> StoredSession:
        """Fork a session and return the new one.

        Raises:
            SnapshotNotFound, SnapshotPartial: Nothing can go on from there.
            NoCheckpoint, WorkingDirLost, FolderNotCopyable, CopyTooLarge: It cannot get files of that kind.
            Conflict: The name is taken.
        """
        sessions = self.sessions
        if await sessions.database.read(session_rows.session_by_name, new_name) is not None:
            raise name_taken(new_name)
        point = await find_point(sessions, parent, snapshot_id)
        known = await sessions.database.read(checkpoints_on_way, parent.id, point)
        session_id, created_at = new_id("sess"), now()
        worktree = await self._plan(parent, session_id, files, known)
        origin = {"session": parent.name, "session_id": parent.id, "snapshot_id": snapshot_id, "files": files}
        session = attrs.evolve(
            parent,
            id=session_id,
            name=new_name,
            claude_session_id=str(uuid.uuid4()),
            head_node_id=snapshot_id,
            message_count=0,
            created_at=created_at,
            last_active_at=created_at,
            owner=owner,
            archived_at=None,
            # What was allowed for good was allowed to the parent.
            granted_tools=(),
            granted_dirs=(),
            forked_from=origin,
        )
        own = sessions.working_dirs.own_folder(session_id)
        left = Leftovers(
            session_id=session_id,
            transcripts=(session.claude_session_id,),
            repositories=tuple({one.repository for one in known}),
            worktree=worktree,
            folder=None if files == "shared" else str(own),
            unused=True,
        )
        await sessions.database.run(leftovers.note, left)
        try:
            folder = Path(parent.working_dir)
            if files == "copy":
                await self._copy(folder, own)
                folder = own
            elif worktree is not None:
                folder = await self._add_worktree(session, worktree, known[0])
            is_elsewhere = str(folder) != parent.working_dir
            await copy_conversation(
                sessions, parent, point, session.claude_session_id, folder if is_elsewhere else None
            )
            session = attrs.evolve(session, working_dir=str(folder))
            inherited = await self._inherit(session, known)
            with trio.CancelScope(shield=True):
                stored = await sessions.database.run(_store, session, parent, worktree, inherited)
        except BaseException:
            await leftovers.clean_up(sessions, session_id)
            raise
        sessions.metrics.sessions_changed(1)
        await keep_conversation(sessions, stored)
        return stored

    async def free_name(self, name: str) -> str:
        """Return a name for a fork that no session has."""
        for number in range(1, 1000):
            ending = "-fork" if number == 1 else f"-fork-{number}"
            free = name[: MAX_NAME - len(ending)] + ending
            if await self.sessions.database.read(session_rows.session_by_name, free) is None:
                return free
        raise Conflict(f"there are too many forks of {name!r}; give `new_name`", name=name)

    async def _plan(
        self, parent: StoredSession, session_id: str, files: Files, known: list[StoredCheckpoint]
    ) -> StoredWorktree | None:
        """See that there is something to work on, and return the work tree to be made."""
        if files != "worktree":
            await trio.to_thread.run_sync(self.sessions.working_dirs.check, Path(parent.working_dir))
            return None
        if not known:
            raise NoCheckpoint(await self._why_none(parent))
        top = str(self.sessions.working_dirs.own_folder(session_id))
        return StoredWorktree(repository=known[0].repository, top=top, commit_id=known[0].commit_id)

    async def _why_none(self, parent: StoredSession) -> str:
        try:
            await self.sessions.checkpoints.repository(parent.working_dir)
        except NoRepository as error:
            return f"the session's working directory {error.reason}, so its files are not recorded"
        return "no recorded state of the files belongs to that message or to one before it"

    async def _copy(self, source: Path, target: Path) -> None:
        limits = self.sessions.settings.forks
        copy = FolderCopy(
            source=source,
            target=target,
            max_bytes=limits.max_copy_bytes,
            max_files=limits.max_copy_files,
            check=trio.from_thread.check_cancelled,
        )
        try:
            await trio.to_thread.run_sync(copy.run)
        except OSError as error:
            raise WorkingDirLost(str(source), f"cannot be copied ({error.strerror})") from error
        if await trio.to_thread.run_sync((target / ".git").is_dir):
            await self.sessions.checkpoints.refs.forget("", [str(target / ".git")])

    async def _add_worktree(
        self, session: StoredSession, worktree: StoredWorktree, checkpoint: StoredCheckpoint
    ) -> Path:
        sessions = self.sessions
        repository = Path(worktree.repository)
        roots = sessions.working_dirs.roots()
        is_there = await trio.to_thread.run_sync(lambda: repository.is_dir() and repository.resolve() == repository)
        if not is_there or not any(repository.is_relative_to(root) for root in roots):
            raise NoCheckpoint("the repository that held the checkpoint is gone")
        try:
            return await add_worktree(sessions.checkpoints, session.id, repository, checkpoint, Path(worktree.top))
        except (GitFailed, NoRepository, OSError) as error:
            sessions.host.log.warning("no work tree", session=session.name, reason=str(error))
            raise NoCheckpoint("git could not make a work tree of the checkpoint, the log says why") from error

    async def _inherit(self, session: StoredSession, known: list[StoredCheckpoint]) -> list[StoredCheckpoint]:
        checkpoints = self.sessions.checkpoints
        try:
            repository = await checkpoints.repository(session.working_dir)
            return await checkpoints.refs.inherit(session.id, repository, known)
        except NoRepository:
            return []
        except GitFailed as error:
            self.sessions.host.log.warning("a fork without checkpoints", session=session.name, reason=str(error))
            return []


def _store(
    transaction: Transaction,
    session: StoredSession,
    parent: StoredSession,
    worktree: StoredWorktree | None,
    inherited: list[StoredCheckpoint],
) -> StoredSession:
    """Store a forked session whole."""
    point = branch_rows.find_point(transaction, parent.id, session.head_node_id or "")
    if point is None:
        raise SessionNotFound(parent.name)
    if not session_rows.insert_session(transaction, attrs.evolve(session, message_count=point.seq)):
        raise name_taken(session.name)
    branch_rows.copy_messages(transaction, parent.id, point.way, session.id)
    if worktree is not None:
        fork_rows.insert_worktree(transaction, session.id, worktree)
    for checkpoint in inherited:
        checkpoint_rows.insert_checkpoint(transaction, checkpoint)
    fork_rows.finish(transaction, session.id)
    return attrs.evolve(session, message_count=point.seq)
