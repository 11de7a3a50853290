"""Methods about the folders that sessions work in."""

from pathlib import Path

import attrs
import trio

from clonk_claudecode.messages import SessionName, Workspace
from clonk_claudecode.methods.base import Methods
from clonk_claudecode.workspaces.quota import measure
from clonk_core.plugin import NotFound, method


class WorkspaceMethods(Methods):
    """See what a session's folder holds."""

    @method(scope=("read", "chat"), target="name", read_only=True, idempotent=True, errors=[NotFound])
    async def workspace(self, name: SessionName) -> Workspace:
        """Return a session's working directory and how much is in it. A million files are counted at most.

        Args:
            name: The session.
        """
        session = await self._sessions.find(name)
        folder, limits = Path(session.working_dir), self._sessions.settings.workspaces
        kind = await trio.to_thread.run_sync(self._sessions.working_dirs.kind_of, folder)
        found = await trio.to_thread.run_sync(measure, folder, abandon_on_cancel=True)
        return Workspace(
            path=session.working_dir,
            kind=kind,
            max_bytes=None if kind == "given" else limits.max_bytes,
            max_files=None if kind == "given" else limits.max_files,
            **attrs.asdict(found),
        )
