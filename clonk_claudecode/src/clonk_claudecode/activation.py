"""`claudecode`: Claude Code sessions. Thin: the store keeps, the engine runs, the recorder writes history."""

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import trio

from clonk_claudecode import store
from clonk_claudecode.engine import Engine, open_engine
from clonk_claudecode.errors import (
    ApiError,
    BinaryBroken,
    BinaryMissing,
    BinaryTooOld,
    CapacityReached,
    ProcessBroken,
    ProcessDied,
    SessionBusy,
    TurnStalled,
)
from clonk_claudecode.events import ChatEvent, ToolResult, ToolUse, TranscriptEntry
from clonk_claudecode.messages import (
    ChatDone,
    CreatedSession,
    HistoryMessage,
    Interrupted,
    Model,
    Prompt,
    Session,
    SessionName,
    SessionSummary,
    Started,
    StoredSession,
    SystemPrompt,
    TurnEnded,
)
from clonk_claudecode.permissions import deny_all
from clonk_claudecode.recorder import TREE_CREATE, Recorder
from clonk_claudecode.recovery import close_open_turns
from clonk_claudecode.settings import ClaudeCodeSettings, PermissionMode
from clonk_claudecode.setup import engine_settings
from clonk_claudecode.spec import SessionSpec
from clonk_claudecode.transcripts import delete_transcript
from clonk_claudecode.working_dir import resolve_working_dir
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

START_ERRORS: Final = (NotFound, SessionBusy, BinaryMissing, BinaryTooOld, BinaryBroken, CapacityReached)
TURN_ERRORS: Final = (ApiError, ProcessDied, ProcessBroken, TurnStalled)


class ClaudeCode(Activation):
    """Claude Code sessions: create one, send it prompts, read its history."""

    namespace = "claudecode"
    version = "1.0.0"

    def __init__(self, host: Host) -> None:
        self._host = host
        self._settings: ClaudeCodeSettings = host.settings or ClaudeCodeSettings()
        self._database = host.database("claudecode", migrations="clonk_claudecode.migrations")
        self._engine: Engine | None = None
        self._engine_ready = trio.Event()

    async def open(self) -> None:
        """Close the turns that a crash has cut off."""
        await close_open_turns(self._host, self._database)

    async def serve(self, started: Callable[[], None]) -> None:
        """Run the engine: it owns the sessions' processes."""
        settings = engine_settings(self._settings, self._host.data_dir)
        async with open_engine(settings, decide=deny_all, log=self._host.log) as engine:
            self._engine = engine
            self._engine_ready.set()
            started()
            try:
                await trio.sleep_forever()
            finally:
                self._engine = None
                self._engine_ready = trio.Event()

    @method(errors=[Conflict, InvalidParams, Forbidden])
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
        session_id = new_id("sess")
        if await self._database.read(store.session_by_name, name) is not None:
            raise _name_taken(name)
        folder = await trio.to_thread.run_sync(self._choose_folder, working_dir, session_id)
        session = StoredSession(
            id=session_id,
            name=name,
            claude_session_id=str(uuid.uuid4()),
            working_dir=str(folder),
            model=model or self._settings.default_model,
            system_prompt=system_prompt,
            permission_mode=mode,
            tree_id=await self._new_tree(name),
            head_node_id=None,
            message_count=0,
            created_at=_now(),
            last_active_at=_now(),
        )
        if not await self._database.run(store.insert_session, session):
            raise _name_taken(name)
        return CreatedSession(
            name=session.name,
            id=session.id,
            created_at=session.created_at,
            working_dir=session.working_dir,
            model=session.model,
        )

    @method(durable=True, errors=[*START_ERRORS, *TURN_ERRORS])
    async def chat(
        self, call: Call, name: SessionName, prompt: Prompt
    ) -> AsyncIterator[Started | ChatEvent | ChatDone]:
        """Send a prompt to a session and stream what Claude answers and does.

        The turn goes on when the client goes away; `rpc.resume` reads on, `rpc.cancel` or `claudecode.interrupt` stops
        it. A session answers one prompt at a time.

        Args:
            name: The session.
            prompt: What to say to Claude, as it is: neither `/commands` nor `@files` are expanded.
        """
        session = await self._session(name)
        engine = self._running_engine()
        running = engine.running(session.id)
        if running is not None:
            raise SessionBusy(name, running.turn_id)
        await engine.binary()
        return self._turn(engine, session, prompt, call)

    async def _turn(
        self, engine: Engine, session: StoredSession, prompt: str, call: Call
    ) -> AsyncIterator[Started | ChatEvent | ChatDone]:
        turn_id = call.run_id or call.id
        prompt_uuid = str(uuid.uuid4())
        async with engine.turn(self._spec(session), prompt, turn_id=turn_id, prompt_uuid=prompt_uuid) as turn:
            call.on_stop(turn.request_stop)
            # What the store holds now: a turn that ended while this one waited has moved the head.
            session = await self._session(session.name)
            recorder = Recorder(self._host, self._database, session, turn_id)
            await recorder.start(prompt, prompt_uuid)
            outcome = "failed"
            try:
                yield Started(
                    session=session.name,
                    session_id=session.id,
                    model=session.model,
                    snapshot_id=recorder.snapshot_id,
                )
                async for event in turn:
                    if isinstance(event, TranscriptEntry):
                        await recorder.entry(event)
                        continue
                    if isinstance(event, ToolUse | ToolResult):
                        await recorder.tool(event)
                    yield event
                outcome = turn.result.outcome
            except trio.Cancelled:
                outcome = "cancelled"
                raise
            finally:
                with trio.move_on_after(5, shield=True):
                    await recorder.end(outcome)
        result = turn.result
        await self._host.emit(
            TurnEnded(
                session=session.name,
                session_id=session.id,
                working_dir=session.working_dir,
                subscription=turn_id,
                outcome=result.outcome,
                prompt=prompt[:2000],
                snapshot_id=recorder.snapshot_id,
            )
        )
        yield ChatDone(
            outcome=result.outcome,
            error=None if result.error is None else self._host.error_object(result.error),
            snapshot_id=recorder.snapshot_id,
            usage=result.tokens,
        )

    @method(scope="read", read_only=True, idempotent=True, errors=[NotFound])
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

    @method(scope="read", read_only=True, idempotent=True, errors=[NotFound])
    async def list(
        self, limit: Annotated[int, Ge(1), Le(1000)] = 100, after: SessionName | None = None
    ) -> tuple[SessionSummary, ...]:
        """List sessions, newest first.

        Args:
            limit: At most this many, 1 to 1000.
            after: Name or id of the last session of the page before; the list goes on behind it.
        """
        sessions = await self._database.read(store.list_sessions, limit, after)
        if sessions is None:
            raise NotFound(f"there is no session {after!r} to go on behind")
        return tuple(SessionSummary(**self._summary(session)) for session in sessions)

    @method(scope="read", read_only=True, idempotent=True, errors=[NotFound])
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

    @method(scope="chat", idempotent=True, errors=[NotFound])
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

    @method(destructive=True, errors=[NotFound])
    async def delete(self, name: SessionName) -> bool:
        """Delete a session, its history and its transcript; a running turn is stopped first. True when it is gone.

        The files in its working directory stay.

        Args:
            name: The session.
        """
        session = await self._session(name)
        if self._engine is not None:
            await self._engine.park(session.id)
        deleted = await self._database.run(store.delete_session, name)
        if not deleted:
            raise _not_found(name)
        await trio.to_thread.run_sync(delete_transcript, self._host.data_dir, session.claude_session_id)
        return True

    async def _session(self, name: str) -> StoredSession:
        session = await self._database.read(store.session_by_name, name)
        if session is None:
            raise _not_found(name)
        return session

    def _running_engine(self) -> Engine:
        if self._engine is None:
            raise Unavailable("the session engine is starting or has failed; `hub.plugins` says why")
        return self._engine

    def _choose_folder(self, given: str | None, session_id: str) -> Path:
        configured = self._settings.session.working_dir
        if given is not None:
            return resolve_working_dir(given, self._roots())
        if configured.is_dir():
            return configured.resolve()
        own = self._host.workspaces_dir / session_id
        own.mkdir(parents=True, mode=0o700)
        return own.resolve()

    def _roots(self) -> Sequence[Path]:
        configured = self._settings.session.working_dir.resolve()
        return tuple(dict.fromkeys((*self._host.workspace_roots, configured)))

    async def _new_tree(self, name: str) -> str | None:
        return str(await self._host.call(TREE_CREATE, name=name)) if self._host.has(TREE_CREATE) else None

    def _spec(self, session: StoredSession) -> SessionSpec:
        return SessionSpec(
            session_id=session.id,
            claude_session_id=session.claude_session_id,
            working_dir=Path(session.working_dir),
            model=session.model,
            system_prompt=session.system_prompt,
            permission_mode=session.permission_mode,
            setting_sources=self._settings.session.setting_sources,
        )

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


def _not_found(name: str) -> NotFound:
    return NotFound(f"there is no session {name!r}; `claudecode.list` shows all", name=name)
