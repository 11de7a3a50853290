"""The server of a session's own tools, as the engine knows it: messages of the Model Context Protocol in and out."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import attrs
import orjson

SERVER: Final = "clonk"
"""The tools are `mcp__clonk__...` to Claude."""


@attrs.frozen(kw_only=True)
class ToolMessage:
    """A message of a session's process to the server of its tools.

    Attributes:
        session_id: Which session.
        process: Which of its processes: each counts its requests from the beginning.
        turn_id: The turn that runs; None between turns.
        message: JSON-RPC 2.0: a request, or a notification.
    """

    session_id: str
    process: str
    turn_id: str | None
    message: Mapping[str, Any]


AnswerTools: TypeAlias = Callable[[ToolMessage], Awaitable[dict[str, Any]]]
"""Answers a message. It may take its time, and raises nothing."""


async def no_tools(asked: ToolMessage) -> dict[str, Any]:
    """Answer that there are none."""
    error = {"code": -32601, "message": f"the session {asked.session_id} has no tools"}
    return {"jsonrpc": "2.0", "id": asked.message.get("id"), "error": error}


def arguments_for_tools() -> tuple[str, ...]:
    """Return the binary's arguments for a session with tools of ours.

    They need no permission, since whoever gave them has allowed them; a rule that disallows one still holds. Without
    `alwaysLoad` newer versions hide them behind a search for tools.
    """
    config = {"mcpServers": {SERVER: {"type": "sdk", "name": SERVER, "alwaysLoad": True}}}
    return (f"--mcp-config={orjson.dumps(config).decode()}", f"--allowedTools=mcp__{SERVER}")
