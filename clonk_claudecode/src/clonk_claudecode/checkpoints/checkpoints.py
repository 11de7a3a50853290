"""Checkpoints of sessions: made at the end of turns, looked up, put back, forgotten."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs
import trio

from clonk_claudecode.checkpoints.git import Git, GitFailed, GitMissing
from clonk_claudecode.checkpoints.messages import CheckpointKind, CheckpointMade, StoredCheckpoint, ref_name
from clonk_claudecode.checkpoints.refs import CheckpointRefs
from clonk_claudecode.checkpoints.repository import NoRepository, Repository, find_repository
from clonk_claudecode.checkpoints.restore import find_collisions, reason_not_to, switch
from clonk_claudecode.checkpoints.shadow import Changes, Limits, Shadow, TooMuchToRecord
from clonk_claudecode.errors import NoCheckpoint, NotRestorable
from clonk_claudecode.messages import StoredSession
from clonk_claudecode.settings import CheckpointSettings
from clonk_claudecode.store import checkpoint_rows
from clonk_core.plugin import CallError, Database, Log

HURRIED_S: Final = 0.5
"""For recording after a stop, whose end is to be told within a second."""

RESTORE_S: Final = 60.0
"""For what is done before files are put back; the putting back itself is not cut."""


@attrs.frozen(kw_only=True)
class _Taken:
    """The state of the files as it was just recorded, not yet kept by a ref."""

    tree: str
    commit: str
    head: str | None
    changes: Changes


@attrs.frozen(kw_only=True)
class Restoring:
    """Files that can be put back, recorded as they are.

    Attributes:
        before: How they are; None when the session was deleted meanwhile.
    """

    before: StoredCheckpoint | None
    shadow: Shadow
    tree: str
    target: str

    async def restore(self) -> None:
        """Put them back.

        Raises:
            NotRestorable: They have changed since, or something stands in the way; nothing was changed.
        """
        await switch(self.shadow, self.tree, self.target)

    async def undo(self) -> None:
        """Put them to what they were before.

        Raises:
            NotRestorable: They have changed since.
        """
        await switch(self.shadow, self.target, self.tree)


class Checkpoints:
    """Records and restores the files of sessions.

    Args:
        folder: Of our own git folders, one for each session.
        database: Holds what was recorded.
        settings: Limits.
        roots: Gives the allowed folders; a repository lies below one of them.
        log: For what did not work: a turn does not fail for it.

    Attributes:
        git: Runs git.
        refs: What keeps the commits.
    """

    def __init__(
        self,
        *,
        folder: Path,
        database: Database,
        settings: CheckpointSettings,
        roots: Callable[[], Sequence[Path]],
        log: Log,
    ) -> None:
        self.git = Git()
        self.refs = CheckpointRefs(self.git, log)
        self._folder = folder
        self._database = database
        self._settings = settings
        self._roots = roots
        self._log = log
        self._has_told_of_git = False

    # ── Recording ─────────────────────────────────────────────────────────────

    async def after_turn(
        self, session: StoredSession, turn_id: str, node_id: str | None, *, is_hurried: bool = False
    ) -> CheckpointMade | None:
        """Record the files at the end of a turn. None when there is nothing to record, or it did not work.

        Args:
            session: Whose files.
            turn_id: The turn's subscription.
            node_id: Its last message; None when that has no snapshot.
            is_hurried: Whether somebody waits for the end of a turn that was stopped.
        """
        if not self._settings.enabled or node_id is None:
            return None
        try:
            with trio.fail_after(min(self._settings.timeout_s, HURRIED_S if is_hurried else math.inf)):
                stored = await self.record(session, node_id=node_id, kind="turn", turn_id=turn_id)
        except NoRepository:
            return None
        except GitMissing:
            if not self._has_told_of_git:
                self._log.warning("no checkpoints: there is no git on PATH")
            self._has_told_of_git = True
        except trio.TooSlowError:
            self._log.warning("no checkpoint: it took too long", session=session.name, limit_s=self._settings.timeout_s)
        except (GitFailed, OSError, CallError) as error:
            self._log.warning("no checkpoint", session=session.name, reason=str(error))
        except Exception:  # noqa: BLE001 - the turn is done, and must be told so whatever this meets
            self._log.exception("no checkpoint", session=session.name)
        else:
            return None if stored is None else stored.made
        return None

    async def record(
        self, session: StoredSession, *, node_id: str, kind: CheckpointKind, turn_id: str | None = None
    ) -> StoredCheckpoint | None:
        """Record the files of a session; None when it was deleted meanwhile.

        Raises:
            NoRepository: Its folder is in none that can be used.
            GitFailed: It did not work.
        """
        repository = await self.repository(session.working_dir)
        shadow = await self.shadow(session.id, repository)
        taken = await self._take(session.id, shadow, repository, node_id)
        return await self._keep(session, repository, taken, node_id=node_id, kind=kind, turn_id=turn_id)

    async def repository(self, working_dir: str) -> Repository:
        """Return the repository that a folder is in.

        Raises:
            NoRepository: There is none that can be used.
        """
        return await trio.to_thread.run_sync(find_repository, Path(working_dir), self._roots())

    async def shadow(self, session_id: str, repository: Repository) -> Shadow:
        """Return our folder for a session.

        Raises:
            GitFailed: It cannot be made.
        """
        shadow = Shadow(self.git, self.folder_of(session_id), repository)
        await shadow.prepare()
        return shadow

    def folder_of(self, session_id: str) -> Path:
        """Return where our folder for a session is."""
        return self._folder / session_id

    @property
    def limits(self) -> Limits:
        """Bounds of what is recorded."""
        return Limits(max_file_bytes=self._settings.max_file_bytes, max_bytes=self._settings.max_bytes)

    async def _take(self, session_id: str, shadow: Shadow, repository: Repository, node_id: str) -> _Taken:
        last = await self._database.read(checkpoint_rows.last_checkpoint, session_id)
        head, commit, tree = await self._known(repository, last)
        if last is not None and tree is None:
            # Another repository than before, or it has lost what we kept in it: what our index knows is not there.
            await shadow.forget_index()
        try:
            changes = await shadow.take(self.limits)
        except TooMuchToRecord:
            raise
        except GitFailed:  # a file was changed while it was read, perhaps
            changes = await shadow.take(self.limits)
        now_tree = await self._tree(shadow)
        if now_tree == tree and commit is not None and last is not None and last.head_id == head:
            return _Taken(tree=now_tree, commit=commit, head=head, changes=changes)
        message = f"Files of a Clonk session\n\nsession: {session_id}\nsnapshot: {node_id}\n"
        commit = await shadow.commit(now_tree, head, message)
        return _Taken(tree=now_tree, commit=commit, head=head, changes=changes)

    async def _tree(self, shadow: Shadow) -> str:
        try:
            return await shadow.write_tree()
        except GitFailed:
            # An object was pruned that only our index knows.
            await shadow.forget_index()
            await shadow.take(self.limits)
            return await shadow.write_tree()

    async def _known(
        self, repository: Repository, last: StoredCheckpoint | None
    ) -> tuple[str | None, str | None, str | None]:
        """Return what is checked out, and the last checkpoint's commit and tree, each None where it is not there."""
        asked = ["HEAD", *((last.commit_id, f"{last.commit_id}^{{tree}}") if last is not None else ())]
        done = await self.git.in_repository(
            repository.git_dir, "cat-file", "--batch-check", stdin="\n".join([*asked, ""]).encode()
        )
        lines = [line.split() for line in done.stdout.decode().splitlines()]
        found = [None if words[-1] == "missing" else words[0] for words in lines]
        head, commit, tree = [*found, None, None][:3]
        return head, commit, tree

    async def _keep(
        self,
        session: StoredSession,
        repository: Repository,
        taken: _Taken,
        *,
        node_id: str,
        kind: CheckpointKind,
        turn_id: str | None,
    ) -> StoredCheckpoint | None:
        """Have a ref keep it, then the store know it: a ref that nobody knows is removed with the session."""
        last = await self._database.read(checkpoint_rows.last_checkpoint, session.id)
        number = 1 if last is None else last.number + 1
        await self.git.in_repository(repository.common_dir, "update-ref", ref_name(session.id, number), taken.commit)
        left_out, left_out_count = taken.changes.told()
        stored = StoredCheckpoint(
            session_id=session.id,
            number=number,
            node_id=node_id,
            turn_id=turn_id,
            kind=kind,
            repository=str(repository.common_dir),
            prefix=repository.prefix,
            commit_id=taken.commit,
            head_id=taken.head,
            left_out=left_out,
            left_out_count=left_out_count,
            created_at=datetime.now(UTC),
        )
        if not await self._database.run(checkpoint_rows.insert_checkpoint, stored):
            await self.refs.forget(session.id, [str(repository.common_dir)])
            return None
        return stored

    # ── Putting back ──────────────────────────────────────────────────────────

    async def prepare_restore(
        self, session: StoredSession, target: StoredCheckpoint, *, node_id: str, kind: CheckpointKind = "rewind"
    ) -> Restoring:
        """Record how a session's files are now, and see that they can be put back to a checkpoint.

        Files that are ignored and files that were left out stay as they are. HEAD, branches and the index stay.

        Args:
            session: Whose files; no turn of it may run.
            target: What to put back.
            node_id: The message that the files belong to now.
            kind: What the record of it is for.

        Raises:
            NotRestorable: It cannot be done as things are.
            NoCheckpoint: The repository does not have it any more.
        """
        try:
            with trio.fail_after(RESTORE_S):
                repository = await self.repository(session.working_dir)
                await self._require_restorable(repository, target)
                shadow = await self.shadow(session.id, repository)
                taken = await self._take(session.id, shadow, repository, node_id)
                in_the_way = await find_collisions(shadow, repository, self.limits, taken.tree, target.commit_id)
                if in_the_way:
                    await shadow.add(in_the_way)
                    tree = await shadow.write_tree()
                    commit = await shadow.commit(tree, taken.head, f"Files before a rewind\n\nsession: {session.id}\n")
                    taken = attrs.evolve(taken, tree=tree, commit=commit)
                before = await self._keep(session, repository, taken, node_id=node_id, kind=kind, turn_id=None)
        except NoRepository as error:
            raise NotRestorable(f"the working directory {error.reason}; go back without them") from error
        except trio.TooSlowError as error:
            raise NotRestorable(f"recording what is there took more than {RESTORE_S:g} s; try again") from error
        except GitFailed as error:
            self._log.warning("files cannot be put back", session=session.name, reason=str(error))
            raise NotRestorable("git failed, the log says how; mend that") from error
        return Restoring(shadow=shadow, tree=taken.tree, target=target.commit_id, before=before)

    async def _require_restorable(self, repository: Repository, target: StoredCheckpoint) -> None:
        reason = await trio.to_thread.run_sync(reason_not_to, repository)
        if reason is not None:
            raise NotRestorable(reason)
        if repository.prefix != target.prefix or not await self.has_commit(repository, target.commit_id):
            raise NoCheckpoint("the repository of the working directory does not hold the checkpoint")

    async def has_commit(self, repository: Repository, commit_id: str) -> bool:
        """Tell whether a repository holds a commit.

        Raises:
            GitFailed: It cannot be asked.
        """
        done = await self.git.in_repository(
            repository.common_dir, "cat-file", "-e", f"{commit_id}^{{tree}}", check=False
        )
        return done.returncode == 0
