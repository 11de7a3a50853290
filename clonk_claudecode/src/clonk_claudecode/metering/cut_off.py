"""After a crash: what the turns that were cut off had spent, as far as their runs tell."""

import json
from collections.abc import AsyncIterator
from typing import Any

from clonk_claudecode.clock import now
from clonk_claudecode.events import TokenCount
from clonk_claudecode.metering.turns import COUNTS, seen
from clonk_claudecode.store import usage_rows
from clonk_core.plugin import CallError, Database, Host, NotFound


async def close_cut_usage(host: Host, database: Database) -> None:
    """Note what was spent by every turn whose end is not noted. Called once, before the first call of a new start."""
    for turn_id in await database.read(usage_rows.open_usage):
        try:
            model, tokens, tool_calls = await _told(host, turn_id)
            used = seen(model, tokens)
            await database.run(
                usage_rows.end_usage,
                turn_id,
                models=(used,) if used.is_something else (),
                tool_calls=tool_calls,
                duration_ms=0,
                now=now(),
            )
        except CallError as error:
            host.log.warning("what a cut turn spent is not known", subscription=turn_id, reason=error.message)


async def _told(host: Host, turn_id: str) -> tuple[str, TokenCount, int]:
    """Return the model, the tokens and the number of tools that a run's events tell."""
    model, tools = "unknown", 0
    by_message: dict[str, dict[str, Any]] = {}
    async for event in _events(host, turn_id):
        match event.get("type"):
            case "started":
                model = str(event["model"])
            case "tool_use":
                tools += 1
            case "usage":
                by_message[str(event["message_id"])] = event
    counts = {name: sum(int(event.get(name, 0)) for event in by_message.values()) for name in COUNTS}
    return model, TokenCount(**counts), tools


async def _events(host: Host, turn_id: str) -> AsyncIterator[dict[str, Any]]:
    try:
        run = await host.hub.find_run(host.caller, turn_id)
    except NotFound:  # dropped by retention
        return
    async with run.follow() as batches:
        async for batch in batches:
            for event in batch:
                yield json.loads(event.payload)
