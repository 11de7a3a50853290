"""`claudecode`: Claude Code sessions. Puts the methods together and runs the engine."""

from collections.abc import Callable

import trio

from clonk_claudecode.credentials import Credentials
from clonk_claudecode.engine.engine import open_engine
from clonk_claudecode.forks.recovery import CutOff, find_what_was_cut, finish_what_was_cut
from clonk_claudecode.metering.cut_off import close_cut_usage
from clonk_claudecode.methods.changes import ChangeMethods
from clonk_claudecode.methods.chat import ChatMethods
from clonk_claudecode.methods.exchange import ExchangeMethods
from clonk_claudecode.methods.forks import ForkMethods
from clonk_claudecode.methods.history import HistoryMethods
from clonk_claudecode.methods.permissions import PermissionMethods
from clonk_claudecode.methods.search import SearchMethods
from clonk_claudecode.methods.sessions import SessionMethods
from clonk_claudecode.methods.sharing import SharingMethods
from clonk_claudecode.methods.usage import UsageMethods
from clonk_claudecode.methods.workspaces import WorkspaceMethods
from clonk_claudecode.sessions import Sessions
from clonk_claudecode.setup import engine_settings
from clonk_claudecode.store import session_rows
from clonk_claudecode.tools.callers import refuse_ungiven
from clonk_claudecode.turns.ephemeral import throw_away_leftovers
from clonk_claudecode.turns.recovery import close_cut_turns
from clonk_core.plugin import Call, Host


class ClaudeCode(
    SessionMethods,
    ChangeMethods,
    ChatMethods,
    HistoryMethods,
    ForkMethods,
    PermissionMethods,
    SharingMethods,
    UsageMethods,
    WorkspaceMethods,
    SearchMethods,
    ExchangeMethods,
):
    """Claude Code sessions: create one, send it prompts, read its history."""

    namespace = "claudecode"
    version = "1.0.0"

    def __init__(self, host: Host) -> None:
        super().__init__(Sessions(host))
        self._cut = CutOff()

    async def open(self) -> None:
        """Close the turns that a crash has cut off, and what they waited for."""
        sessions = self._sessions
        sessions.metrics.sessions_changed(await sessions.database.read(session_rows.count_sessions))
        await sessions.permissions.close_all()
        cut_turns = await close_cut_turns(sessions.host, sessions.database)
        await close_cut_usage(sessions.host, sessions.database)
        self._cut = await find_what_was_cut(sessions, cut_turns)

    def admit(self, call: Call) -> None:
        """Let sessions' own tools do what they were given of sessions, and nothing else."""
        refuse_ungiven(call)

    async def serve(self, started: Callable[[], None]) -> None:
        """Run the engine: it owns the sessions' processes."""
        sessions, host = self._sessions, self._sessions.host
        credentials = Credentials(sessions.settings, secret=host.secret, origin=host.setting_origin, log=host.log)
        async with (
            open_engine(
                engine_settings(sessions.settings, host.data_dir),
                decide=sessions.denials.noting(sessions.permissions.decide),
                complete=credentials.complete,
                log=host.log,
                metrics=sessions.metrics,
                keeper=sessions.keeper,
                answer_tools=sessions.tools.answer,
            ) as engine,
            trio.open_nursery() as background,
        ):
            # Not before: opening the engine has ended what a crash left running, which might still have written.
            await throw_away_leftovers(host, sessions.database)
            # Nothing that a crash left behind is at work any more.
            await finish_what_was_cut(sessions, self._cut)
            self._cut = CutOff()
            sessions.engine, sessions.background = engine, background
            started()
            try:
                await trio.sleep_forever()
            finally:
                sessions.engine = sessions.background = None
