"""After a crash: what had been shown of an answer that was cut off goes into the history, marked as partial."""

import json
from typing import Any

from clonk_claudecode import store
from clonk_claudecode.recorder import Recorder
from clonk_core.plugin import Database, Host, JsonValue, NotFound


async def close_open_turns(host: Host, database: Database) -> None:
    """Close every turn that has no end. Called once, before the first call of a new start.

    Whole messages were stored before they were shown. Of the one that was being written, clients have seen the
    `text_delta`s: those are in the run's log and are read back from there.
    """
    for turn_id, session in await database.read(store.open_turns):
        recorder = Recorder(host, database, session, turn_id)
        text = await _unfinished_text(host, turn_id)
        if text:
            await recorder.partial(text)
        await recorder.end("failed")
        host.log.warning("turn was cut off by the server's end", session=session.name, subscription=turn_id)


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
