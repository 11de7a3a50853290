"""`claudecode`: Claude Code sessions. Thin: the store keeps, the engine runs, the recorder writes history."""

import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import trio

from clonk_claudecode import store
from clonk_claudecode.answer import Answerer, AnswerEvent, forget
from clonk_claudecode.credentials import Credentials
from clonk_claudecode.engine import Engine, open_engine
from clonk_claudecode.errors import (
    ApiError,
    BinaryBroken,
    BinaryMissing,
    BinaryTooOld,
    CapacityReached,
    CredentialMissing,
    ProcessBroken,
    ProcessDied,
    SecretUnavailable,
    SessionBusy,
    SessionNotFound,
    TurnStalled,
    WorkingDirLost,
)
from clonk_claudecode.messages import (
    CreatedSession,
    HistoryMessage,
    Interrupted,
    Prompt,
    Session,
    SessionName,
    SessionSummary,
    StoredSession,
    SystemPrompt,
)
from clonk_claudecode.metrics import CountedSessions
from clonk_claudecode.permissions import deny_all
from clonk_claudecode.recovery import close_cut_turns
from clonk_claudecode.settings import ClaudeCodeSettings, Model, PermissionMode
from clonk_claudecode.setup import engine_settings, session_spec
from clonk_claudecode.tool_audit import Denials
from clonk_claudecode.working_dir import WorkingDirs
from clonk_core.plugin import (
    Activation,
    Call,
    Conflict,
    Forbidden,
    Ge,
    Host,
    InvalidParams,
    Le,
    NotFound,
    Unavailable,
    method,
    new_id,
)

START_ERRORS: Final = (
    NotFound,
    SessionBusy,
    BinaryMissing,
    BinaryTooOld,
    BinaryBroken,
    CapacityReached,
    WorkingDirLost,
    SecretUnavailable,
)
TURN_ERRORS: Final = (ApiError, CredentialMissing, ProcessDied, ProcessBroken, TurnStalled)


class ClaudeCode(Activation):
    """Claude Code sessions: create one, send it prompts, read its history."""

    namespace = "claudecode"
    version = "1.0.0"

    def __init__(self, host: Host) -> None:
        self._host = host
        self._settings: ClaudeCodeSettings = host.settings or ClaudeCodeSettings()
        self._database = host.database("claudecode", migrations="clonk_claudecode.migrations")
        self._working_dirs = WorkingDirs(
            configured=self._settings.session.working_dir, own=host.workspaces_dir, roots=host.workspace_roots
        )
        self._metrics = CountedSessions(host.metrics)
        self._engine: Engine | None = None
        self._denials = Denials()

    async def open(self) -> None:
        """Close the turns that a crash has cut off."""
        self._metrics.sessions_changed(await self._database.read(store.count_sessions))
        await close_cut_turns(self._host, self._database)

    async def serve(self, started: Callable[[], None]) -> None:
        """Run the engine: it owns the sessions' processes."""
        host = self._host
        settings = engine_settings(self._settings, host.data_dir)
        credentials = Credentials(self._settings, secret=host.secret, origin=host.setting_origin, log=host.log)
        async with open_engine(
            settings,
            decide=self._denials.noting(deny_all),
            complete=credentials.complete,
            log=host.log,
            metrics=self._metrics,
        ) as engine:
            self._engine = engine
            started()
            try:
                await trio.sleep_forever()
            finally:
                self._engine = None

    @method(target="name", errors=[Conflict, InvalidParams, Forbidden])
    async def create(
        self,
        call: Call,
        name: SessionName,
        working_dir: str | None = None,
        model: Model | None = None,
        system_prompt: SystemPrompt | None = None,
        permission_mode: PermissionMode | None = None,
    ) -> CreatedSession:
        """Create a new Claude Code session.

        Args:
            name: Its name: 1 to 64 of letters, digits, `.`, `_` and `-`; unique.
            working_dir: Where Claude works: an existing folder under an allowed root, absolute. When left out, the
                configured one; when that does not exist, a new folder of the session's own.
            model: `sonnet`, `opus`, `haiku`, or a model's full name; the configured default when left out.
            system_prompt: Added to the end of Claude Code's own system prompt; at most 100,000 characters.
            permission_mode: What the session may do without asking; the configured default when left out.
                `bypassPermissions` needs the scope `claudecode:bypass`. A tool that would ask is refused in this
                version.
        """
        mode = permission_mode or self._settings.session.permission_mode
        if mode == "bypassPermissions" and permission_mode is not None and not call.caller.may("claudecode:bypass"):
            raise Forbidden("bypassPermissions needs the scope 'claudecode:bypass'", scope="claudecode:bypass")
        if await self._database.read(store.session_by_name, name) is not None:
            raise _name_taken(name)
        session_id = new_id("sess")
        folder = await trio.to_thread.run_sync(self._working_dirs.choose, working_dir, session_id)
        now = _now()
        session = StoredSession(
            id=session_id,
            name=name,
            claude_session_id=str(uuid.uuid4()),
            working_dir=str(folder),
            model=model or self._settings.default_model,
            system_prompt=system_prompt,
            permission_mode=mode,
            tree_id=None,
            head_node_id=None,
            message_count=0,
            created_at=now,
            last_active_at=now,
        )
        if not await self._database.run(store.insert_session, session):
            await trio.to_thread.run_sync(self._working_dirs.drop_empty, session_id)
            raise _name_taken(name)
        self._metrics.sessions_changed(1)
        return CreatedSession(
            name=session.name,
            id=session.id,
            created_at=session.created_at,
            working_dir=session.working_dir,
            model=session.model,
        )

    @method(target="name", durable=True, errors=[*START_ERRORS, *TURN_ERRORS])
    async def chat(self, call: Call, name: SessionName, prompt: Prompt) -> AsyncIterator[AnswerEvent]:
        """Send a prompt to a session and stream what Claude answers and does.

        The turn goes on when the client goes away; `rpc.resume` reads on, `rpc.cancel` or `claudecode.interrupt` stops
        it. A session answers one prompt at a time.

        Args:
            name: The session.
            prompt: What to say to Claude, as it is: neither `/commands` nor `@files` are expanded (by Claude Code from
                2.1.248 on; older ones do).
        """
        if not prompt.strip():
            raise InvalidParams("must hold more than white space", path="$.prompt")
        session = await self._session(name)
        engine = self._running_engine()
        running = engine.running(session.id)
        if running is not None:
            raise SessionBusy(name, running.turn_id)
        await engine.binary()
        await trio.to_thread.run_sync(self._working_dirs.check, Path(session.working_dir))
        answerer = Answerer(
            host=self._host,
            database=self._database,
            engine=engine,
            session=session,
            spec=session_spec(session, self._settings),
            denials=self._denials,
        )
        return answerer.answer(prompt, call)

    @method(scope=("read", "chat"), target="name", read_only=True, idempotent=True, errors=[NotFound])
    async def get(self, name: SessionName) -> Session:
        """Return one session.

        Args:
            name: The session.
        """
        session = await self._session(name)
        turn = self._engine.running(session.id) if self._engine else None
        return Session(
            **self._summary(session),
            system_prompt=session.system_prompt,
            permission_mode=session.permission_mode,
            claude_session_id=session.claude_session_id,
            tree_id=session.tree_id,
            snapshot_id=session.head_node_id,
            subscription=turn.turn_id if turn else None,
        )

    @method(scope=("read", "chat"), narrows=True, read_only=True, idempotent=True, errors=[NotFound])
    async def list(
        self, call: Call, limit: Annotated[int, Ge(1), Le(1000)] = 100, after: SessionName | None = None
    ) -> tuple[SessionSummary, ...]:
        """List sessions, newest first.

        Args:
            limit: At most this many, 1 to 1000.
            after: Name or id of the last session of the page before; the list goes on behind it.
        """
        found: list[StoredSession] = []
        while len(found) < limit:
            page = await self._database.read(store.list_sessions, limit, after)
            if page is None:
                raise NotFound(f"there is no session {after!r} to go on behind")
            found += [session for session in page if call.may_reach(session.name)]
            if len(page) < limit or not call.is_narrowed:
                break
            after = page[-1].id
        return tuple(SessionSummary(**self._summary(session)) for session in found[:limit])

    @method(scope=("read", "chat"), target="name", read_only=True, idempotent=True, errors=[NotFound])
    async def history(
        self,
        name: SessionName,
        limit: Annotated[int, Ge(1), Le(1000)] = 100,
        after: Annotated[int, Ge(0)] = 0,
    ) -> tuple[HistoryMessage, ...]:
        """Return the messages of a session, oldest first.

        Args:
            name: The session.
            limit: At most this many, 1 to 1000.
            after: Number (`seq`) of the last message of the page before; 0 begins with the first.
        """
        session = await self._session(name)
        return tuple(await self._database.read(store.history, session.id, limit, after))

    @method(scope="chat", target="name", idempotent=True, errors=[NotFound])
    async def interrupt(self, name: SessionName) -> Interrupted:
        """Stop what a session is doing and answer when it has stopped. The session can be used again at once.

        Args:
            name: The session.
        """
        session = await self._session(name)
        engine = self._running_engine()
        turn = engine.running(session.id)
        if turn is None:
            return Interrupted(interrupted=False, subscription=None)
        return Interrupted(interrupted=await engine.interrupt(session.id, "cancelled"), subscription=turn.turn_id)

    @method(target="name", destructive=True, errors=[NotFound])
    async def delete(self, name: SessionName) -> bool:
        """Delete a session, its history and its transcript; a running turn is stopped first. True when it is gone.

        The files in its working directory stay, and so does its tree in `arbor`.

        Args:
            name: The session.
        """
        session = await self._session(name)
        # Out of the store first: from then on no new turn finds it.
        if not await self._database.run(store.delete_session, session.id):
            raise SessionNotFound(name)
        try:
            await forget(self._host, self._engine, session)
        finally:
            self._metrics.sessions_changed(-1)
        await trio.to_thread.run_sync(self._working_dirs.drop_empty, session.id)
        return True

    async def _session(self, name: str) -> StoredSession:
        session = await self._database.read(store.session_by_name, name)
        if session is None:
            raise SessionNotFound(name)
        return session

    def _running_engine(self) -> Engine:
        if self._engine is None:
            raise Unavailable("the session engine is starting or has failed; `hub.plugins` says why")
        return self._engine

    def _summary(self, session: StoredSession) -> dict[str, Any]:
        """Return the members of a `SessionSummary`, which a `Session` has too."""
        return {
            "name": session.name,
            "id": session.id,
            "created_at": session.created_at,
            "last_active_at": session.last_active_at,
            "working_dir": session.working_dir,
            "model": session.model,
            "state": self._engine.state(session.id) if self._engine else "parked",
            "message_count": session.message_count,
        }


def _now() -> datetime:
    """Return the clock time in whole milliseconds, as the store keeps it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _name_taken(name: str) -> Conflict:
    return Conflict(f"there is a session {name!r} already; choose another name or delete it", name=name)
