"""The refs that keep the commits of checkpoints in their repositories."""

from collections.abc import Sequence
from pathlib import Path

import attrs
import trio

from clonk_claudecode.checkpoints.git import Git, GitFailed
from clonk_claudecode.checkpoints.messages import StoredCheckpoint, ref_name, refs_of
from clonk_claudecode.checkpoints.repository import Repository
from clonk_core.plugin import Log


class CheckpointRefs:
    """Makes and removes refs.

    Args:
        git: Runs git.
        log: For what did not work.
    """

    def __init__(self, git: Git, log: Log) -> None:
        self._git = git
        self._log = log

    async def inherit(
        self, session_id: str, repository: Repository, known: Sequence[StoredCheckpoint]
    ) -> list[StoredCheckpoint]:
        """Have another session keep checkpoints too, as far as its repository has them; return those.

        Args:
            session_id: The other session.
            repository: Of its folder.
            known: What there is.

        Raises:
            GitFailed: It did not work.
        """
        fitting = [one for one in known if one.prefix == repository.prefix]
        if not fitting:
            return []
        asked = "".join(f"{one.commit_id}\n" for one in fitting).encode()
        done = await self._git.in_repository(repository.common_dir, "cat-file", "--batch-check", stdin=asked)
        is_there = [not line.endswith(" missing") for line in done.stdout.decode().splitlines()]
        kept = [
            attrs.evolve(one, session_id=session_id, repository=str(repository.common_dir))
            for one, found in zip(fitting, is_there, strict=True)
            if found
        ]
        lines = "".join(f"update {ref_name(session_id, one.number)} {one.commit_id}\n" for one in kept)
        await self._git.in_repository(repository.common_dir, "update-ref", "--stdin", stdin=lines.encode())
        return kept

    async def forget(self, session_id: str, repositories: Sequence[str], *, but: str = "") -> None:
        """Remove the refs of a session. Repositories that are gone, or that git cannot work on, are passed over.

        Args:
            session_id: Whose; an empty one means every session's.
            repositories: Where.
            but: Leave the refs that begin so.
        """
        begin = refs_of(session_id) if session_id else refs_of("").rstrip("/")
        for folder in map(Path, repositories):
            if not await trio.to_thread.run_sync(folder.is_dir):
                continue
            try:
                listed = await self._git.in_repository(folder, "for-each-ref", "--format=%(refname)", begin)
                names = [name for name in listed.stdout.decode().split() if not but or not name.startswith(but)]
                lines = "".join(f"delete {name}\n" for name in names)
                await self._git.in_repository(folder, "update-ref", "--stdin", stdin=lines.encode())
            except GitFailed as error:
                self._log.warning("refs of a session stay in a repository", session=session_id, reason=str(error))
