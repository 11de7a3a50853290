"""A chat from its place in the session's queue to its `done`, as its caller wants to see it."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

import attrs

from clonk_claudecode.engine.outcome import stopped
from clonk_claudecode.errors import BudgetExhausted, SessionArchived, SessionNotFound
from clonk_claudecode.events import Restart, TextDelta, ThinkingDelta
from clonk_claudecode.messages import ChatDone, Queued, StoredSession
from clonk_claudecode.sessions import Sessions
from clonk_claudecode.setup import session_spec
from clonk_claudecode.store import session_rows
from clonk_claudecode.turns.agreement import Agreement
from clonk_claudecode.turns.answer import Answerer, AnswerEvent
from clonk_claudecode.turns.options import TurnOptions
from clonk_core.plugin import Call, StopReason

PARTS: Final = (TextDelta, ThinkingDelta, Restart)
"""The events of an answer that is still being written."""


async def partial_or_whole(
    events: AsyncGenerator[AnswerEvent, None], options: TurnOptions
) -> AsyncGenerator[AnswerEvent, None]:
    """Yield the events of an answer, without its parts when only whole messages are wanted."""
    async with aclosing(events):
        async for event in events:
            if options.partial or not isinstance(event, PARTS):
                yield event


@attrs.frozen(kw_only=True)
class ChatRun:
    """One prompt to one session.

    Attributes:
        sessions: What all share.
        session: As it was when the prompt came.
        prompt: What is said.
        options: How it is answered.
        queue: Whether it waits for the prompts before it.
    """

    sessions: Sessions
    session: StoredSession
    prompt: str
    options: TurnOptions
    queue: bool

    async def events(self, call: Call) -> AsyncIterator[AnswerEvent]:
        """Yield what the caller sees, to its `done`."""
        turn_id = call.run_id or call.id
        with self.sessions.queues.place(self.session.id, self.session.name, turn_id, queue=self.queue) as place:
            call.on_stop(place.stop)
            async for position in place.positions():
                yield Queued(position=position)
            if place.is_orphaned:
                raise SessionNotFound(self.session.name)
            if place.stop_reason is not None:
                yield self._taken_out(place.stop_reason)
                return
            try:  # what was there to spend may be gone by now
                await self.sessions.budgets.check(call.caller.id)
            except BudgetExhausted as error:
                yield ChatDone(outcome="limited", error=self.sessions.host.error_object(error))
                return
            async with aclosing(partial_or_whole(self._answer(call), self.options)) as events:
                async for event in events:
                    yield event

    async def _answer(self, call: Call) -> AsyncGenerator[AnswerEvent, None]:
        """Have the session answer, as it is now: it may have changed while the prompt waited."""
        session = await self.sessions.database.read(session_rows.session_by_id, self.session.id)
        if session is None:
            raise SessionNotFound(self.session.name)
        if session.archived_at is not None:
            raise SessionArchived(session.name)
        answerer = Answerer(
            host=self.sessions.host,
            database=self.sessions.database,
            engine=self.sessions.running_engine(),
            session=session,
            spec=session_spec(session, self.sessions.settings, self.options),
            denials=self.sessions.denials,
            turn_began=self.sessions.watching.turn_began,
            permissions=self.sessions.permissions,
            checkpoints=self.sessions.checkpoints,
            schema_checks=self.sessions.schema_checks,
            agreement=Agreement(database=self.sessions.database, keeper=self.sessions.keeper),
            options=self.options,
        )
        async with aclosing(answerer.answer(self.prompt, call)) as events:
            async for event in events:
                yield event

    def _taken_out(self, reason: StopReason) -> ChatDone:
        outcome, error = stopped(reason)
        return ChatDone(outcome=outcome, error=self.sessions.host.error_object(error))
