"""After a crash: what had been shown of an answer that was cut off goes into the history, marked as partial."""

import json
from typing import Any

from clonk_claudecode.messages import StoredSession
from clonk_claudecode.store import message_rows, tool_rows, turn_rows
from clonk_claudecode.turns.recorder import Recorder
from clonk_claudecode.turns.tool_audit import write_cut_off
from clonk_core.plugin import CallError, Database, Host, JsonValue, NotFound


async def close_cut_turns(host: Host, database: Database) -> list[tuple[str, str]]:
    """Close every turn that has no end. Called once, before the first call of a new start.

    Whole messages were stored before they were shown. Of the one that was being written, clients have seen the
    `text_delta`s: those are in the run's log and are read back from there. A turn that cannot be closed, because the
    disk is full, is left for the next start.

    Returns:
        The ids of those turns and of their sessions.
    """
    closed: list[tuple[str, str]] = []
    for turn_id, session in await database.read(turn_rows.open_turns):
        try:
            await _close(host, database, session, turn_id)
        except CallError as error:
            reason = error.message
            host.log.warning("a cut turn stays open", session=session.name, subscription=turn_id, reason=reason)
        else:
            host.log.warning("turn was cut off by the server's end", session=session.name, subscription=turn_id)
            closed.append((turn_id, session.id))
    return closed


async def _close(host: Host, database: Database, session: StoredSession, turn_id: str) -> None:
    text = await _unfinished_text(host, turn_id)
    stored = await database.read(message_rows.last_answer, session.id, turn_id)
    if stored.startswith(text):
        text = ""  # it was whole, and stored, when the crash kept its event from the log
    for tool_use_id, tool, tool_input in await database.read(tool_rows.open_tools, session.id, turn_id):
        await write_cut_off(host, session.name, turn_id, tool_use_id, tool, tool_input)
    await Recorder(host, database, session, turn_id).cut_off(text)


async def _unfinished_text(host: Host, turn_id: str) -> str:
    """Return the text shown after the last whole message."""
    try:
        run = await host.hub.find_run(host.caller, turn_id)
    except NotFound:  # dropped by retention
        return ""
    pieces: list[str] = []
    async with run.follow() as batches:
        async for batch in batches:
            for event in batch:
                _fold(json.loads(event.payload), pieces)
    return "".join(pieces)


def _fold(event: JsonValue, pieces: list[str]) -> None:
    members: dict[str, Any] = event
    match members.get("type"):
        case "text_delta":
            pieces.append(members["text"])
        case "assistant_message" | "restart":  # it is whole now, or begins anew
            pieces.clear()
