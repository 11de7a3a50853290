"""Methods that have a session work, and stop it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

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
    ProcessBroken,
    ProcessDied,
    SecretUnavailable,
    SessionArchived,
    SessionBusy,
    TurnStalled,
    WorkingDirLost,
)
from clonk_claudecode.messages import Interrupted, Prompt, SessionName
from clonk_claudecode.methods.base import Methods
from clonk_claudecode.setup import session_spec
from clonk_claudecode.turns.answer import Answerer, AnswerEvent
from clonk_core.plugin import Call, InvalidParams, NotFound, method

START_ERRORS: Final = (
    NotFound,
    SessionBusy,
    SessionArchived,
    BudgetExhausted,
    BinaryMissing,
    BinaryTooOld,
    BinaryBroken,
    IsolationUnavailable,
    CapacityReached,
    WorkingDirLost,
    SecretUnavailable,
)
TURN_ERRORS: Final = (ApiError, CredentialMissing, ProcessDied, ProcessBroken, TurnStalled)


class ChatMethods(Methods):
    """Send prompts, stop turns."""

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
        session = await self._sessions.find(name)
        if session.archived_at is not None:
            raise SessionArchived(name)
        engine = self._sessions.running_engine()
        running = engine.running(session.id)
        if running is not None:
            raise SessionBusy(name, running.turn_id)
        await self._sessions.budgets.check(call.caller.id)
        await engine.binary()
        await trio.to_thread.run_sync(self._sessions.working_dirs.check, Path(session.working_dir))
        answerer = Answerer(
            host=self._sessions.host,
            database=self._sessions.database,
            engine=engine,
            session=session,
            spec=session_spec(session, self._sessions.settings),
            denials=self._sessions.denials,
            turn_began=self._sessions.watching.turn_began,
            permissions=self._sessions.permissions,
        )
        return answerer.answer(prompt, call)

    @method(scope="chat", target="name", idempotent=True, errors=[NotFound])
    async def interrupt(self, name: SessionName) -> Interrupted:
        """Stop what a session is doing and answer when it has stopped. The session can be used again at once.

        Args:
            name: The session.
        """
        session = await self._sessions.find(name)
        engine = self._sessions.running_engine()
        turn = engine.running(session.id)
        if turn is None:
            return Interrupted(interrupted=False, subscription=None)
        return Interrupted(interrupted=await engine.interrupt(session.id, "cancelled"), subscription=turn.turn_id)
