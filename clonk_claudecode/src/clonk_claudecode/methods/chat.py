"""Methods that have a session work, and stop it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Final

import trio

from clonk_claudecode.errors import (
    ApiError,
    BinaryBroken,
    BinaryMissing,
    BinaryTooOld,
    BudgetExhausted,
    CapacityReached,
    CredentialMissing,
    IsolationUnavailable,
    OutputMismatch,
    ProcessBroken,
    ProcessDied,
    QueueFull,
    SecretUnavailable,
    SessionArchived,
    SessionBusy,
    TurnLimitReached,
    TurnStalled,
    WorkingDirLost,
    WorkspaceFull,
)
from clonk_claudecode.messages import IdempotencyKey, Interrupted, Prompt, SessionName
from clonk_claudecode.methods.base import Methods
from clonk_claudecode.prompts.attachments import MAX_ATTACHMENTS, Attachment, check_attachments
from clonk_claudecode.settings import Model, TurnBudget, TurnCalls, TurnSeconds
from clonk_claudecode.turns.answer import AnswerEvent
from clonk_claudecode.turns.chat_run import ChatRun, partial_or_whole
from clonk_claudecode.turns.ephemeral import EphemeralAnswerer
from clonk_claudecode.turns.options import TurnOptions
from clonk_claudecode.workspaces.quota import check_quota
from clonk_core.plugin import Call, Conflict, InvalidParams, JsonValue, MaxLen, NotFound, method

START_ERRORS: Final = (
    NotFound,
    Conflict,
    SessionBusy,
    SessionArchived,
    BudgetExhausted,
    QueueFull,
    BinaryMissing,
    BinaryTooOld,
    BinaryBroken,
    IsolationUnavailable,
    CapacityReached,
    WorkingDirLost,
    WorkspaceFull,
    SecretUnavailable,
)
TURN_ERRORS: Final = (
    ApiError,
    OutputMismatch,
    CredentialMissing,
    ProcessDied,
    ProcessBroken,
    TurnLimitReached,
    TurnStalled,
)


class ChatMethods(Methods):
    """Send prompts, stop turns."""

    @method(target="name", durable=True, idempotency_key="idempotency_key", errors=[*START_ERRORS, *TURN_ERRORS])
    async def chat(
        self,
        call: Call,
        name: SessionName,
        prompt: Prompt,
        model: Model | None = None,
        max_turns: TurnCalls | None = None,
        max_budget_usd: TurnBudget | None = None,
        timeout_s: TurnSeconds | None = None,
        attachments: Annotated[tuple[Attachment, ...], MaxLen(MAX_ATTACHMENTS)] = (),
        output_schema: dict[str, JsonValue] | None = None,
        queue: bool = False,
        partial: bool = True,
        ephemeral: bool = False,
        idempotency_key: IdempotencyKey | None = None,
    ) -> AsyncIterator[AnswerEvent]:
        """Send a prompt to a session and stream what Claude answers and does.

        The turn goes on when the client goes away; `rpc.resume` reads on, `rpc.cancel` or `claudecode.interrupt` stops
        it. A session answers one prompt at a time.

        A turn that reaches one of its limits ends with the outcome `limited` and the error `claudecode.turn_limit`;
        what was done by then is kept, and the session can be used again.

        Args:
            name: The session.
            prompt: What to say to Claude, as it is: neither `/commands` nor `@files` are expanded (by Claude Code from
                2.1.248 on; older ones do).
            model: Who answers this prompt: `sonnet`, `opus`, `haiku`, or a model's full name. The session's own model
                when left out, and with the next prompt again.
            max_turns: Calls of the model's API in this turn at most, 1 to 10,000. Limits other than the configured ones
                have the session's process started anew for this turn, which takes about a second.
            max_budget_usd: What this turn may cost at most, in dollars, by Claude Code's own estimate. The call of the
                API that goes beyond it is the last one, so it may cost somewhat more.
            timeout_s: Seconds that the turn may take, up to a week. They count from when it is its turn.
            attachments: Images and text files that go along with the prompt, at most 20 and 20 MiB together (as the
                server's `max_message_bytes` allows). The history shows images without their bytes.
            output_schema: JSON Schema of the answer, an object; at most 64 KiB, with references only within itself.
                The object is in `done.output`, checked by the server; an answer that does not fit ends the turn with
                `failed` and `claudecode.output_mismatch`. Starts the session's process anew for this turn.
            queue: Wait while the session answers other prompts, in the order in which they came; `queued` events tell
                the place. `rpc.cancel` takes it out. Without it a busy session answers `claudecode.session_busy`.
            partial: False leaves out the answer's parts while they are written (`text_delta`, `thinking_delta`,
                `restart`), for clients that want whole messages only.
            ephemeral: Leave no trace: neither the prompt nor the answer is in the session's history, tree, transcripts
                or totals, and the session does not know of them afterwards. The answer knows the conversation up to
                the last finished message. It has a process of its own, which takes a place of
                `session.max_concurrent`, so it is answered also while the session is busy, and never waits in its
                queue; `claudecode.interrupt` does not stop it, `rpc.cancel` does. What its tools do is done and
                audited, and its events are kept for `rpc.resume` as those of every run.
            idempotency_key: Made up by the caller, 1 to 200 characters. The same key with the same other parameters
                gives the run that the first request has started, from its beginning, as long as it is kept: a request
                that is repeated because its answer was lost never runs twice. With other parameters it is a
                `conflict`.
        """
        if not prompt.strip():
            raise InvalidParams("must hold more than white space", path="$.prompt")
        options = TurnOptions.within(
            self._sessions.settings.turn,
            model=model,
            max_turns=max_turns,
            max_budget_usd=max_budget_usd,
            timeout_s=timeout_s,
            partial=partial,
            attachments=attachments,
            output_schema=output_schema,
        )
        await trio.to_thread.run_sync(check_attachments, attachments)
        if output_schema is not None:
            await self._sessions.schema_checks.check_schema(output_schema)
        session = await self._sessions.find(name)
        if session.archived_at is not None:
            raise SessionArchived(name)
        engine = self._sessions.running_engine()
        if not ephemeral:
            self._sessions.queues.check(session.id, name, queue=queue)
        await self._sessions.budgets.check(call.caller.id)
        await engine.binary()
        await trio.to_thread.run_sync(self._sessions.working_dirs.check, Path(session.working_dir))
        await check_quota(self._sessions.working_dirs, Path(session.working_dir), self._sessions.settings.workspaces)
        if ephemeral:
            return partial_or_whole(
                EphemeralAnswerer(sessions=self._sessions, session=session, options=options).answer(prompt, call),
                options,
            )
        run = ChatRun(sessions=self._sessions, session=session, prompt=prompt, options=options, queue=queue)
        return run.events(call)

    @method(scope="chat", target="name", idempotent=True, errors=[NotFound])
    async def interrupt(self, name: SessionName) -> Interrupted:
        """Stop what a session is doing and answer when it has stopped. The session can be used again at once.

        Everything that its tools have started and left running ends too, also in the background. Prompts that wait
        (`queue: true`) go on waiting, and the next one begins; `rpc.cancel` takes them out.

        Args:
            name: The session.
        """
        session = await self._sessions.find(name)
        engine = self._sessions.running_engine()
        turn = engine.running(session.id)
        if turn is None:
            return Interrupted(interrupted=False, subscription=None)
        interrupted = await engine.interrupt(session.id, "cancelled")
        await engine.wait_free(session.id, turn)
        return Interrupted(interrupted=interrupted, subscription=turn.turn_id)
