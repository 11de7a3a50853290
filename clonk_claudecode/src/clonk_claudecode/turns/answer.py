"""A prompt and its answer, as a run: what the client sees of the turn, what is kept of it, what others are told."""

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import attrs
import trio

from clonk_claudecode.checkpoints.checkpoints import Checkpoints
from clonk_claudecode.checkpoints.messages import CheckpointMade
from clonk_claudecode.engine.engine import Engine
from clonk_claudecode.engine.spec import SessionSpec
from clonk_claudecode.engine.turn import Turn
from clonk_claudecode.errors import SessionNotFound
from clonk_claudecode.events import ChatEvent, PermissionResolved, ToolResult, ToolUse, TranscriptEntry
from clonk_claudecode.messages import ChatDone, Queued, Started, StoredSession, TurnEnded
from clonk_claudecode.metering.turns import note_usage, turn_usage
from clonk_claudecode.output.structured import SchemaChecks
from clonk_claudecode.permissions.desk import PermissionDesk
from clonk_claudecode.prompts.attachments import content_for_claude, content_for_history
from clonk_claudecode.store import session_rows
from clonk_claudecode.transcripts import delete_transcript
from clonk_claudecode.turns.agreement import Agreement
from clonk_claudecode.turns.options import TurnOptions
from clonk_claudecode.turns.recorder import Recorder, ShownText, begin_turn
from clonk_claudecode.turns.tool_audit import Denials, ToolAudit, note_unread, open_tool_audit
from clonk_core.plugin import Call, CallError, Database, Host, JsonValue

AnswerEvent: TypeAlias = Queued | Started | ChatEvent | ChatDone

END_S: Final = 5.0
"""To note the end of a turn that is being cancelled. A commit takes milliseconds; what could not be noted, the next
start notes."""

EXCERPT_CHARS: Final = 2000
"""Of the prompt, in what others are told."""


@attrs.frozen(kw_only=True)
class Answerer:
    """Has a session answer prompts.

    Attributes:
        host: What the host gives.
        database: Holds the history.
        engine: Runs the session's process.
        session: As it was when the prompt came.
        spec: The same, for the engine.
        denials: What was decided about uses of tools.
        permissions: What waits for an answer.
        turn_began: Is told the session's id when a turn is in the store.
        options: What the prompt asks of its own turn.
        checkpoints: Records the files at the end.
        schema_checks: Check an answer against its schema.
        agreement: Mends the transcript of a session whose process has died.
    """

    host: Host
    database: Database
    engine: Engine
    session: StoredSession
    spec: SessionSpec
    denials: Denials
    turn_began: Callable[[str], None]
    permissions: PermissionDesk
    checkpoints: Checkpoints
    schema_checks: SchemaChecks
    agreement: Agreement
    options: TurnOptions = attrs.field(factory=TurnOptions)

    async def answer(self, prompt: str, call: Call) -> AsyncGenerator[AnswerEvent, None]:
        """Say `prompt` to the session and yield what clients see of the turn, to its `done`."""
        turn_id = call.run_id or call.id
        prompt_uuid = str(uuid.uuid4())
        checkpoint: CheckpointMade | None = None
        async with (
            open_tool_audit(self.host, self.session.name, turn_id, self.denials) as tools,
            self._turn(prompt, turn_id, prompt_uuid, tools, call.caller.id) as turn,
        ):
            call.on_stop(turn.request_stop)
            recorder = await begin_turn(self.host, self.database, self.session.id, turn_id, call.caller.id)
            if recorder is not None:
                self.turn_began(self.session.id)
                async with _noting_the_end(turn, recorder):
                    shown = ShownText()
                    await recorder.prompt(await self._shown(prompt), prompt_uuid)
                    yield self._started(recorder.snapshot_id)
                    async for item in turn:
                        if isinstance(item, TranscriptEntry):
                            await recorder.entry(item)
                            continue
                        if isinstance(item, ToolUse | ToolResult):
                            await tools.note(item)
                            await recorder.tool(item)
                        elif isinstance(item, PermissionResolved):
                            await self.permissions.note_end(item)
                        shown.note(item)
                        yield item
                    turn.amend(await self.schema_checks.checked(turn.result, self.options.output_schema))
                    if turn.result.is_cut:
                        await self._agree(turn_id, recorder, shown.text)
                    # Before the session is free for its next prompt, and before the store knows that the turn is over:
                    # the next start records the files of a turn that was cut off.
                    with trio.CancelScope() as recording:
                        turn.on_late_stop = recording.cancel
                        checkpoint = await self.checkpoints.after_turn(
                            self.session, turn_id, recorder.snapshot_id, is_hurried=turn.stop_reason is not None
                        )
        if recorder is None:  # it was deleted while this turn waited for its process
            await forget(self.host, self.engine, self.session)
            raise SessionNotFound(self.session.name)
        spent = turn_usage(turn.result, tools.count, turn.duration_s, self._model)
        await self._tell_others(turn, recorder.snapshot_id, prompt)
        yield ChatDone(
            outcome=turn.result.outcome,
            error=None if turn.result.error is None else self.host.error_object(turn.result.error),
            snapshot_id=recorder.snapshot_id,
            usage=spent,
            output=turn.result.output,
            checkpoint=checkpoint,
        )

    async def _agree(self, turn_id: str, recorder: Recorder, text: str) -> None:
        """See that history and transcript tell the same, now that the session's process is gone."""
        with trio.move_on_after(END_S, shield=True):
            try:
                await self.agreement.reach(self.spec, turn_id, recorder)
                if text:
                    await recorder.partial(text)
            except (OSError, CallError) as error:
                reason = str(error)
                self.host.log.warning("a transcript may lack what was shown", session=self.session.name, reason=reason)

    @asynccontextmanager
    async def _turn(
        self, prompt: str, turn_id: str, prompt_uuid: str, tools: ToolAudit, caller: str
    ) -> AsyncIterator[Turn]:
        """Run the turn; the tools used in it are known to `tools` when it is over, whether they were shown or not."""
        turn: Turn | None = None
        try:
            async with self.engine.turn(
                self.spec,
                content_for_claude(prompt, self.options.attachments),
                turn_id=turn_id,
                prompt_uuid=prompt_uuid,
                deadline_s=self.options.timeout_s,
                model=self.options.model,
                renew=self._renew,
                owner=caller,
            ) as turn:
                yield turn
        finally:
            if turn is not None:
                with trio.move_on_after(END_S, shield=True):
                    await note_unread(turn, tools)
                    await note_usage(self.database, turn, tools.count, self._model)

    @property
    def _model(self) -> str:
        """Who answers."""
        return self.options.model or self.session.model

    async def _shown(self, prompt: str) -> JsonValue:
        """Return the prompt as the history shows it; in a thread, since images are large."""
        attachments = self.options.attachments
        return await trio.to_thread.run_sync(content_for_history, prompt, attachments) if attachments else prompt

    async def _renew(self, spec: SessionSpec) -> SessionSpec:
        """Return the session with the transcript that it has now: it may have been rewound since it was looked up."""
        session = await self.database.read(session_rows.session_by_id, self.session.id)
        return spec if session is None else attrs.evolve(spec, claude_session_id=session.claude_session_id)

    def _started(self, snapshot_id: str | None) -> Started:
        return Started(
            session=self.session.name,
            session_id=self.session.id,
            model=self._model,
            snapshot_id=snapshot_id,
        )

    async def _tell_others(self, turn: Turn, snapshot_id: str | None, prompt: str) -> None:
        await self.host.emit(
            TurnEnded(
                session=self.session.name,
                session_id=self.session.id,
                working_dir=self.session.working_dir,
                subscription=turn.turn_id,
                outcome=turn.result.outcome,
                prompt=prompt[:EXCERPT_CHARS],
                snapshot_id=snapshot_id,
            )
        )


@asynccontextmanager
async def _noting_the_end(turn: Turn, recorder: Recorder) -> AsyncIterator[None]:
    """Note how the turn has ended when its events have been read, or when their reader gives up."""
    outcome = "failed"
    try:
        yield
        outcome = turn.result.outcome
    except trio.Cancelled:
        outcome = "cancelled"
        raise
    finally:
        with trio.move_on_after(END_S, shield=True):
            await recorder.end(outcome)


async def forget(host: Host, engine: Engine | None, session: StoredSession) -> None:
    """End the process of a session that is no longer in the store, and delete its transcript."""
    if engine is not None:
        await engine.park(session.id)
    await trio.to_thread.run_sync(delete_transcript, host.data_dir, session.claude_session_id)
