"""A prompt that leaves no trace: answered by a fork of the conversation, in a process of its own, and thrown away.

It is seen by nobody but its caller: not in the history, the tree, the transcripts, nor in what the session has spent;
its caller and the tenant have spent it all the same. What its tools did is done, and the audit log tells of them.
"""

import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from clonk_claudecode.clock import now
from clonk_claudecode.engine.spec import Ephemeral
from clonk_claudecode.engine.turn import Turn
from clonk_claudecode.events import PermissionResolved, ToolResult, ToolUse, TranscriptEntry
from clonk_claudecode.messages import ChatDone, Started, StoredSession
from clonk_claudecode.metering.turns import note_usage, turn_usage
from clonk_claudecode.prompts.attachments import content_for_claude
from clonk_claudecode.sessions import Sessions
from clonk_claudecode.setup import session_spec
from clonk_claudecode.store import ephemeral_rows, permission_rows
from clonk_claudecode.store.usage_rows import begin_usage
from clonk_claudecode.transcripts import delete_transcript
from clonk_claudecode.turns.answer import AnswerEvent
from clonk_claudecode.turns.options import TurnOptions
from clonk_claudecode.turns.tool_audit import ToolAudit, note_unread, open_tool_audit
from clonk_core.plugin import Call, Database, Host, StorageFull, Transaction

CLEAR_S: Final = 15.0
"""To end the process and delete what it wrote. Above the longest end of a process; what is left, the next start
deletes."""

AUDIT_S: Final = 5.0
"""To write down the tools of a turn that nobody reads any more."""


@attrs.frozen(kw_only=True)
class EphemeralAnswerer:
    """Answers one prompt without a trace.

    Attributes:
        sessions: What all share.
        session: Whose conversation it sees, to the last message that is finished.
        options: How it is answered.
    """

    sessions: Sessions
    session: StoredSession
    options: TurnOptions

    async def answer(self, prompt: str, call: Call) -> AsyncGenerator[AnswerEvent, None]:
        """Yield what the caller sees, to its `done`; when that is there, everything of it is gone."""
        turn_id = call.run_id or call.id
        async with (
            open_tool_audit(self.sessions.host, self.session.name, turn_id, self.sessions.denials) as tools,
            self._turn(prompt, call, turn_id, tools) as turn,
        ):
            call.on_stop(turn.request_stop)
            yield Started(
                session=self.session.name,
                session_id=self.session.id,
                model=self._model,
                snapshot_id=None,
            )
            async for item in turn:
                if isinstance(item, TranscriptEntry):
                    continue
                if isinstance(item, ToolUse | ToolResult):
                    await tools.note(item)
                elif isinstance(item, PermissionResolved):
                    await self.sessions.permissions.note_end(item)
                yield item
            turn.amend(await self.sessions.schema_checks.checked(turn.result, self.options.output_schema))
        error = turn.result.error
        yield ChatDone(
            outcome=turn.result.outcome,
            error=None if error is None else self.sessions.host.error_object(error),
            usage=turn_usage(turn.result, tools.count, turn.duration_s, self._model),
            output=turn.result.output,
        )

    @asynccontextmanager
    async def _turn(self, prompt: str, call: Call, turn_id: str, tools: ToolAudit) -> AsyncIterator[Turn]:
        engine, database = self.sessions.running_engine(), self.sessions.database
        fork = await self._fork()
        spec = attrs.evolve(session_spec(self.session, self.sessions.settings, self.options), ephemeral=fork)
        await database.run(_begin, fork.claude_session_id, turn_id, call.caller.id)
        turn: Turn | None = None
        try:
            async with engine.turn(
                spec,
                content_for_claude(prompt, self.options.attachments),
                turn_id=turn_id,
                prompt_uuid=str(uuid.uuid4()),
                deadline_s=self.options.timeout_s,
                model=self.options.model,
                owner=call.caller.id,
            ) as turn:
                yield turn
        finally:
            if turn is not None:
                with trio.move_on_after(AUDIT_S, shield=True):
                    await note_unread(turn, tools)
                    await note_usage(database, turn, tools.count, self._model)
                    await database.run(permission_rows.forget_turn, self.session.id, turn_id)
            with trio.move_on_after(CLEAR_S, shield=True):
                await engine.park(spec.key)
                await throw_away(self.sessions.host, database, fork.claude_session_id)

    @property
    def _model(self) -> str:
        """Who answers."""
        return self.options.model or self.session.model

    async def _fork(self) -> Ephemeral:
        """Choose where the conversation is forked: at its end, and before what is being said just now."""
        fork_id = str(uuid.uuid4())
        if not self.sessions.is_busy(self.session.id):
            return Ephemeral(claude_session_id=fork_id)
        entry = await self.sessions.database.read(ephemeral_rows.last_finished_entry, self.session.id)
        return Ephemeral(claude_session_id=fork_id, at_entry=entry, from_nothing=entry is None)


def _begin(transaction: Transaction, claude_session_id: str, turn_id: str, caller: str) -> None:
    """Note the fork, and that a turn begins to spend: in the caller's name and no session's."""
    ephemeral_rows.note_fork(transaction, claude_session_id, turn_id, now())
    begin_usage(transaction, turn_id, session_id="", session="", caller=caller, now=now())


async def throw_away(host: Host, database: Database, claude_session_id: str) -> None:
    """Delete what the binary keeps of a fork, and then the note of it."""
    await trio.to_thread.run_sync(delete_transcript, host.data_dir, claude_session_id)
    try:
        await database.run(ephemeral_rows.forget_fork, claude_session_id)
    except StorageFull:
        host.log.warning("an ephemeral conversation is gone, and could not be struck off: the disk is full")


async def throw_away_leftovers(host: Host, database: Database) -> None:
    """Delete what a crash has left of ephemeral conversations. Called when no process of theirs runs any more."""
    for claude_session_id in await database.read(ephemeral_rows.forks):
        await throw_away(host, database, claude_session_id)
