"""The sessions of one realm, as the methods share them: settings, store, folders, and the engine while it runs."""

from pathlib import Path
from typing import Any, cast

import trio

from clonk_claudecode.checkpoints.checkpoints import Checkpoints
from clonk_claudecode.clock import now
from clonk_claudecode.engine.engine import Engine
from clonk_claudecode.errors import SessionNotFound
from clonk_claudecode.messages import ForkedFrom, Session, StoredSession
from clonk_claudecode.metering.budgets import Budgets
from clonk_claudecode.metrics import CountedSessions
from clonk_claudecode.mirror.keeper import Keeper
from clonk_claudecode.output.structured import SchemaChecks
from clonk_claudecode.permissions.desk import PermissionDesk
from clonk_claudecode.settings import ClaudeCodeSettings
from clonk_claudecode.setup import CONFIG_FOLDER
from clonk_claudecode.sharing.watching import Watching
from clonk_claudecode.store import session_rows
from clonk_claudecode.tools.callers import refuse_unreached
from clonk_claudecode.tools.mcp_server import ToolServer
from clonk_claudecode.turns.queue import Queues
from clonk_claudecode.turns.tool_audit import Denials
from clonk_claudecode.wishes import may_read
from clonk_claudecode.working_dir import WorkingDirs
from clonk_core.plugin import Caller, Conflict, Database, Forbidden, Host, Unavailable


class Sessions:
    """What the groups of methods work on.

    Attributes:
        host: What the host gives.
        settings: The section `claudecode`.
        database: `claudecode.db`.
        working_dirs: The folders of sessions.
        metrics: Count sessions, processes and turns.
        checkpoints: The recorded states of their files.
        denials: What was decided about uses of tools.
        permissions: What waits for an answer.
        budgets: What may be spent.
        watching: Who watches which session.
        queues: Who waits for a session.
        keeper: Keeps the transcripts.
        schema_checks: Check the schemas of answers.
        tools: Answers for the sessions' own tools.
        engine: Runs the processes; None while it is starting and after it has failed.
        background: For tasks that outlive a call; None as the engine.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.settings: ClaudeCodeSettings = host.settings or ClaudeCodeSettings()
        self.database: Database = host.database("claudecode", migrations="clonk_claudecode.migrations")
        self.working_dirs = WorkingDirs(
            configured=self.settings.session.working_dir, own=host.workspaces_dir, roots=host.workspace_roots
        )
        self.checkpoints = Checkpoints(
            folder=host.data_dir / "checkpoints",
            database=self.database,
            settings=self.settings.checkpoints,
            roots=self.working_dirs.roots,
            log=host.log,
        )
        self.metrics = CountedSessions(host.metrics)
        self.denials = Denials()
        self.budgets = Budgets(self.settings.budgets, self.database)
        self.watching = Watching()
        self.permissions = PermissionDesk(self.database, self.settings.permissions, host.log, now=now)
        self.queues = Queues(self.settings.turn.queue_limit)
        self.keeper = Keeper(self.database, host.data_dir / CONFIG_FOLDER, host.log)
        self.schema_checks = SchemaChecks()
        self.tools = ToolServer(host, self.database, self.settings.tools)
        self.engine: Engine | None = None
        self.background: trio.Nursery | None = None

    async def find(self, name: str) -> StoredSession:
        """Return the session of that name.

        Raises:
            SessionNotFound: There is none.
            Forbidden: A session's own tool asks that was not given this one.
        """
        refuse_unreached(self.host.caller, name)
        session = await self.database.read(session_rows.session_by_name, name)
        if session is None:
            raise SessionNotFound(name)
        return session

    async def choose_folder(
        self, caller: Caller, given: str | None, session_id: str, workspace: str | None = None
    ) -> Path:
        """Return the folder of a new session; see `WorkingDirs.choose`.

        Raises:
            InvalidParams: It cannot be had.
            Forbidden: It was made for a session that the caller may not read.
        """
        folder = await trio.to_thread.run_sync(self.working_dirs.choose, given, session_id, workspace)
        owner = None if given is None else self.working_dirs.owner_of(folder)
        if owner is not None:
            session = await self.database.read(session_rows.session_by_id, owner)
            if session is not None and not may_read(caller, session.name):
                raise Forbidden("the folder was made for a session that you may not read", path="$.working_dir")
        return folder

    def running_engine(self) -> Engine:
        """Return the engine.

        Raises:
            Unavailable: It does not run.
        """
        if self.engine is None:
            raise Unavailable("the session engine is starting or has failed; `hub.plugins` says why")
        return self.engine

    def describe(self, session: StoredSession) -> Session:
        """Return a session as callers see it."""
        turn = self.engine.running(session.id) if self.engine else None
        return Session(
            **self.summary(session),
            system_prompt=session.system_prompt,
            permission_mode=session.permission_mode,
            allowed_tools=session.allowed_tools,
            disallowed_tools=session.disallowed_tools,
            granted_tools=session.granted_tools,
            granted_dirs=session.granted_dirs,
            waiting=self.permissions.waiting(session.id),
            tools=session.given_tools,
            claude_session_id=session.claude_session_id,
            tree_id=session.tree_id,
            snapshot_id=session.head_node_id,
            subscription=turn.turn_id if turn else None,
            watchers=self.watching.watchers(session.id),
            forked_from=None if session.forked_from is None else ForkedFrom(**cast(Any, session.forked_from)),
        )

    def is_busy(self, session_id: str) -> bool:
        """Tell whether a session answers a prompt, or prepares to."""
        is_running = self.engine is not None and self.engine.running(session_id) is not None
        return is_running or self.queues.is_taken(session_id)

    def summary(self, session: StoredSession) -> dict[str, Any]:
        """Return the members of a `SessionSummary`, which a `Session` has too."""
        return {
            "name": session.name,
            "id": session.id,
            "created_at": session.created_at,
            "last_active_at": session.last_active_at,
            "working_dir": session.working_dir,
            "model": session.model,
            "state": self.engine.state(session.id) if self.engine else "parked",
            "message_count": session.message_count,
            "owner": session.owner,
            "metadata": session.metadata,
            "archived_at": session.archived_at,
        }


def name_taken(name: str) -> Conflict:
    """Return the error for a name that another session has."""
    return Conflict(f"there is a session {name!r} already; choose another name or delete it", name=name)
