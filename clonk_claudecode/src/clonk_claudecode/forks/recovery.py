"""After a start: what the server's end has cut off of forks, rewinds and deletions is finished or undone."""

from collections.abc import Sequence
from typing import Any, Final

import attrs
import trio

from clonk_claudecode.forks import leftovers, rewind
from clonk_claudecode.forks.rewind import Rewinder
from clonk_claudecode.messages import StoredSession
from clonk_claudecode.sessions import Sessions
from clonk_claudecode.setup import session_spec
from clonk_claudecode.store import fork_rows, session_rows
from clonk_claudecode.turns.agreement import Agreement
from clonk_claudecode.turns.recorder import Recorder
from clonk_core.plugin import CallError

RECORD_S: Final = 30.0
"""For the files of all turns that were cut off; what is not recorded by then is part of the next turn's checkpoint."""


@attrs.frozen(kw_only=True)
class CutOff:
    """What the end of the server before has cut off.

    Attributes:
        turns: Ids of turns and of their sessions.
        unfinished: What was noted: its key, its kind, and what it says.
    """

    turns: Sequence[tuple[str, str]] = ()
    unfinished: Sequence[tuple[str, str, dict[str, Any]]] = ()


async def find_what_was_cut(sessions: Sessions, turns: Sequence[tuple[str, str]]) -> CutOff:
    """Return what is to be finished. Called before the first call: what is noted later is being done.

    Args:
        sessions: Whose.
        turns: Ids of the turns that were cut off, and of their sessions.
    """
    return CutOff(turns=turns, unfinished=await sessions.database.read(fork_rows.unfinished))


async def _agree(sessions: Sessions, session: StoredSession, turn_id: str) -> StoredSession:
    """Have a session's history and transcript tell the same of a turn that was cut off; return it as it is then."""
    recorder = Recorder(sessions.host, sessions.database, session, turn_id)
    agreement = Agreement(database=sessions.database, keeper=sessions.keeper)
    try:
        await agreement.reach(session_spec(session, sessions.settings), turn_id, recorder)
    except (OSError, CallError) as error:
        reason = str(error)
        sessions.host.log.warning("a transcript may lack what was shown", session=session.name, reason=reason)
    return await sessions.database.read(session_rows.session_by_id, session.id) or session


async def finish_what_was_cut(sessions: Sessions, cut: CutOff) -> None:
    """Finish or undo it all. Called before the first turn, when nothing that was cut off is at work any more.

    What cannot be finished now, because a disk is full or a folder is away, is left for the next start.
    """
    with trio.move_on_after(RECORD_S):
        for turn_id, session_id in cut.turns:
            session = await sessions.database.read(session_rows.session_by_id, session_id)
            if session is not None:
                session = await _agree(sessions, session, turn_id)
                await sessions.checkpoints.after_turn(session, turn_id, session.head_node_id)
    for key, kind, detail in cut.unfinished:
        try:
            if kind == rewind.KIND:
                await Rewinder(sessions=sessions).finish(detail)
            else:
                await leftovers.remove(sessions, leftovers.leftovers_of(detail))
        except Exception:
            sessions.host.log.exception("something stays unfinished", what=key)
