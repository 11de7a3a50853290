"""Methods about whole sessions: making, finding, deleting."""

import uuid
from typing import Annotated

import trio

from clonk_claudecode.clock import now
from clonk_claudecode.engine.permissions import joined
from clonk_claudecode.messages import (
    CreatedSession,
    Metadata,
    Session,
    SessionName,
    SessionSummary,
    StoredSession,
    SystemPrompt,
    ToolPatterns,
    WorkspaceName,
)
from clonk_claudecode.methods.base import Methods
from clonk_claudecode.permissions.callers import refuse_sessions
from clonk_claudecode.permissions.rules import ToolRules, check_rules
from clonk_claudecode.sessions import name_taken
from clonk_claudecode.settings import Model, PermissionMode
from clonk_claudecode.store import session_rows
from clonk_claudecode.tools.given import check_patterns
from clonk_claudecode.wishes import check_metadata, check_permission_mode
from clonk_core.plugin import Call, Conflict, Forbidden, Ge, InvalidParams, Le, NotFound, method, new_id


class SessionMethods(Methods):
    """Create sessions, look at them, delete them."""

    @method(target="name", errors=[Conflict, InvalidParams, Forbidden])
    async def create(
        self,
        call: Call,
        name: SessionName,
        working_dir: str | None = None,
        model: Model | None = None,
        system_prompt: SystemPrompt | None = None,
        permission_mode: PermissionMode | None = None,
        metadata: Metadata | None = None,
        workspace: WorkspaceName | None = None,
        allowed_tools: ToolRules = (),
        disallowed_tools: ToolRules = (),
        tools: ToolPatterns = (),
    ) -> CreatedSession:
        """Create a new Claude Code session.

        Args:
            name: Its name: 1 to 64 of letters, digits, `.`, `_` and `-`; unique.
            working_dir: Where Claude works: an existing folder under an allowed root, absolute; one that was made for
                another session only if you may read that. When left out, the configured one; when that does not exist,
                a new folder of the session's own.
            model: `sonnet`, `opus`, `haiku`, or a model's full name; the configured default when left out.
            system_prompt: Added to the end of Claude Code's own system prompt; at most 100,000 characters.
            permission_mode: What the session may do without asking; the configured default when left out.
                `bypassPermissions` needs the scope `claudecode:bypass`. What would ask becomes a permission request.
            metadata: What is to be kept with it: at most 50 names of at most 64 characters, each with a text of at most
                1,000.
            allowed_tools: Rules of tools that it uses without asking, in Claude Code's syntax: `Read`,
                `Bash(git status *)`, `mcp__server__tool`; beside those of the configuration.
            disallowed_tools: Rules of tools that it may never use; beside those of the configuration, which no session
                can lift. They win over what is allowed.
            workspace: Name of a folder that sessions share, instead of `working_dir`; made when there is none:
                `workspaces/shared/<name>` in the server's data directory.
            tools: Methods of this server that Claude may use as tools: `dice.roll`, or `dice.*` for all of a namespace;
                `dice.roll` is `mcp__clonk__dice_roll` to Claude. Each must be one that you may call, and that
                `claudecode.tools.allowed` in the configuration allows. They are called in your name, without asking,
                and count against your limits.
        """
        refuse_sessions(call.caller)
        check_metadata(metadata)
        check_rules(allowed_tools, "$.allowed_tools")
        check_rules(disallowed_tools, "$.disallowed_tools")
        mode = permission_mode or self._sessions.settings.session.permission_mode
        check_permission_mode(call.caller, permission_mode)
        check_patterns(self._sessions.host, self._sessions.settings.tools, call.caller, tools)
        if await self._sessions.database.read(session_rows.session_by_name, name) is not None:
            raise name_taken(name)
        session_id = new_id("sess")
        folder = await self._sessions.choose_folder(call.caller, working_dir, session_id, workspace)
        created_at = now()
        session = StoredSession(
            id=session_id,
            name=name,
            claude_session_id=str(uuid.uuid4()),
            working_dir=str(folder),
            model=model or self._sessions.settings.default_model,
            system_prompt=system_prompt,
            permission_mode=mode,
            allowed_tools=joined(allowed_tools, ()),
            disallowed_tools=joined(disallowed_tools, ()),
            tree_id=None,
            head_node_id=None,
            message_count=0,
            created_at=created_at,
            last_active_at=created_at,
            owner=call.caller.id,
            metadata=metadata or {},
            tools=joined(tools, ()),
            tools_owner=call.caller.id,
            tools_scopes=tuple(sorted(call.caller.scopes)),
        )
        if not await self._sessions.database.run(session_rows.insert_session, session):
            await trio.to_thread.run_sync(self._sessions.working_dirs.drop_empty, session_id)
            raise name_taken(name)
        self._sessions.metrics.sessions_changed(1)
        return CreatedSession(
            name=session.name,
            id=session.id,
            created_at=session.created_at,
            working_dir=session.working_dir,
            model=session.model,
        )

    @method(scope=("read", "chat"), target="name", read_only=True, idempotent=True, errors=[NotFound])
    async def get(self, name: SessionName) -> Session:
        """Return one session.

        Args:
            name: The session.
        """
        return self._sessions.describe(await self._sessions.find(name))

    @method(scope=("read", "chat"), narrows=True, read_only=True, idempotent=True, errors=[NotFound])
    async def list(
        self,
        call: Call,
        limit: Annotated[int, Ge(1), Le(1000)] = 100,
        after: SessionName | None = None,
        archived: bool = False,
    ) -> tuple[SessionSummary, ...]:
        """List sessions, newest first.

        Args:
            limit: At most this many, 1 to 1000.
            after: Name or id of the last session of the page before; the list goes on behind it.
            archived: Whether those that were put aside are listed too.
        """
        found: list[StoredSession] = []
        database = self._sessions.database
        # A session that the caller cannot reach is not there, also when its name is guessed here.
        hidden = False
        if after is not None and not call.may_reach(after):
            hidden = await database.read(session_rows.session_by_name, after) is not None
        while len(found) < limit:
            page = None if hidden else await database.read(session_rows.list_sessions, limit, after, archived)
            if page is None:
                raise NotFound(f"there is no session {after!r} to go on behind")
            found += [session for session in page if call.may_reach(session.name)]
            if len(page) < limit or not call.is_narrowed:
                break
            after = page[-1].id
        return tuple(SessionSummary(**self._sessions.summary(session)) for session in found[:limit])
