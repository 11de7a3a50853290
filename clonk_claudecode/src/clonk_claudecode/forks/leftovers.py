"""What a session has outside of the database, and how it is removed: also when the server was killed meanwhile.

Before anything is made outside of the database, or a session is deleted that has such things, a row says what. It goes
away together with the last of them, or with the commit that makes them a session's.
"""

from pathlib import Path
from typing import Any, Final

import attrs
import trio

from clonk_claudecode.checkpoints.worktrees import remove_worktree
from clonk_claudecode.forks.copy_folder import remove_folder
from clonk_claudecode.messages import StoredSession
from clonk_claudecode.sessions import Sessions
from clonk_claudecode.store import branch_rows, checkpoint_rows, fork_rows, session_rows
from clonk_claudecode.store.fork_rows import StoredWorktree
from clonk_claudecode.transcripts import delete_transcript
from clonk_core.plugin import Transaction

CLEAN_UP_S: Final = 60.0
"""What is not removed by then is removed at the next start."""

KIND: Final = "remove"


@attrs.frozen(kw_only=True)
class Leftovers:
    """What is to be removed.

    Attributes:
        session_id: Whose.
        transcripts: Ids of conversations of the binary.
        repositories: Folders of repositories with refs of the session.
        worktree: One that was made for it.
        folder: A copy that nobody has used yet.
        unused: Whether the worktree has not been used yet: it goes as it is.
    """

    session_id: str
    transcripts: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    worktree: StoredWorktree | None = None
    folder: str | None = None
    unused: bool = False

    @property
    def detail(self) -> dict[str, Any]:
        """As it is stored."""
        return attrs.asdict(self)


def note(transaction: Transaction, left: Leftovers) -> None:
    """Note what is to be removed unless it becomes a session's."""
    fork_rows.note_unfinished(transaction, left.session_id, KIND, left.detail)


def delete_session(transaction: Transaction, session_id: str, keep_workspace: bool) -> bool:
    """Delete a session, and note what it leaves behind; False when there is none."""
    left = Leftovers(
        session_id=session_id,
        transcripts=tuple(branch_rows.transcripts(transaction, session_id)),
        repositories=tuple(checkpoint_rows.repositories(transaction, session_id)),
        worktree=None if keep_workspace else fork_rows.worktree_of(transaction, session_id),
    )
    if not session_rows.delete_session(transaction, session_id):
        return False
    note(transaction, left)
    return True


async def clean_up(sessions: Sessions, session_id: str) -> None:
    """Remove what was noted for a session. Shielded and bounded; what is left is removed at the next start."""
    with trio.move_on_after(CLEAN_UP_S, shield=True):
        for key, kind, detail in await sessions.database.read(fork_rows.unfinished):
            if key == session_id and kind == KIND:
                await remove(sessions, leftovers_of(detail))


def leftovers_of(detail: dict[str, Any]) -> Leftovers:
    """Return what a row says."""
    return Leftovers(
        session_id=detail["session_id"],
        transcripts=tuple(detail["transcripts"]),
        repositories=tuple(detail["repositories"]),
        worktree=None if detail["worktree"] is None else StoredWorktree(**detail["worktree"]),
        folder=detail["folder"],
        unused=detail["unused"],
    )


async def remove(sessions: Sessions, left: Leftovers) -> None:
    """Remove things, and the row that says so. What is gone already is passed over."""
    checkpoints = sessions.checkpoints
    for transcript in left.transcripts:
        await trio.to_thread.run_sync(delete_transcript, sessions.host.data_dir, transcript)
    if left.worktree is not None and not await _is_used(sessions, left.session_id, left.worktree.top):
        await remove_worktree(checkpoints, left.worktree, left.session_id, force=left.unused, log=sessions.host.log)
    if left.folder is not None:
        await trio.to_thread.run_sync(remove_folder, Path(left.folder))
    await checkpoints.refs.forget(left.session_id, left.repositories)
    await trio.to_thread.run_sync(remove_folder, checkpoints.folder_of(left.session_id))
    await sessions.database.run(fork_rows.finish, left.session_id)


async def drop_folder(sessions: Sessions, session: StoredSession, *, keep: bool) -> None:
    """Remove the folder that was made for a deleted session, or for the one that it was forked from.

    It stays while another session works there. A work tree of git that was worked in stays, too: what was committed
    there is nowhere else.

    Args:
        sessions: The others.
        session: As it was.
        keep: Remove it only if there is nothing in it.
    """
    working_dirs = sessions.working_dirs
    owner = working_dirs.owner_of(Path(session.working_dir))
    if owner is None:
        return
    folder = working_dirs.own_folder(owner)
    is_owned = owner != session.id and await sessions.database.read(session_rows.session_by_id, owner) is not None
    if is_owned or await _is_used(sessions, session.id, str(folder)):
        return
    if not await trio.to_thread.run_sync((folder / ".git").is_file):
        await trio.to_thread.run_sync(working_dirs.drop_empty if keep else working_dirs.drop, owner)


async def _is_used(sessions: Sessions, session_id: str, folder: str) -> bool:
    return bool(await sessions.database.read(fork_rows.overlapping_sessions, session_id, folder))
