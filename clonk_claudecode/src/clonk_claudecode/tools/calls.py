"""One call of a session's tool: in the owner's name, bounded in time and in what it gives back."""

from collections.abc import Sequence
from typing import Any

import attrs
import orjson
import trio

from clonk_claudecode.messages import StoredSession
from clonk_claudecode.settings import ToolSettings
from clonk_claudecode.tools.given import Tool, caller_of
from clonk_core.plugin import Caller, CallError, Host, JsonValue


@attrs.frozen(kw_only=True)
class ToolResult:
    """What Claude is told of a call.

    Attributes:
        text: The result as JSON, a string as it is; events one a line.
        is_error: Whether it failed.
    """

    text: str
    is_error: bool = False

    def as_mcp(self) -> dict[str, Any]:
        """Return it as the result of `tools/call`."""
        return {"content": [{"type": "text", "text": self.text}], "isError": self.is_error}


def failed(kind: str, message: str) -> ToolResult:
    """Return the result of a call that failed."""
    return ToolResult(text=f"{kind}: {message}", is_error=True)


async def call_tool(
    host: Host,
    settings: ToolSettings,
    session: StoredSession,
    tool: Tool,
    *,
    tools: Sequence[Tool],
    arguments: JsonValue,
    run_id: str | None,
) -> ToolResult:
    """Call a tool's method as the session's owner. Whatever goes wrong is told in the result.

    Args:
        host: What the host gives.
        settings: How much it may take.
        session: Whose tool it is.
        tool: Which.
        tools: All that the session has; what an activation calls in turn may need the scopes of those, and no others.
        arguments: As Claude gave them.
        run_id: The turn it belongs to.
    """
    caller = caller_of(host, session, tools)
    peer = f"session {session.name}"
    with trio.move_on_after(settings.deadline_s):
        try:
            if tool.streaming:
                return await _stream(host, settings, caller, tool.method, arguments, peer=peer, run_id=run_id)
            value = await host.call_as(caller, tool.method, arguments, peer=peer, run_id=run_id)
            text = value if isinstance(value, str) else orjson.dumps(value).decode()
            return ToolResult(text=_cut(text, settings.max_result_bytes))
        except CallError as error:
            return failed(error.kind, error.message)
    return failed("deadline_exceeded", f"{tool.method} took longer than {settings.deadline_s:g} s and was stopped")


async def _stream(
    host: Host,
    settings: ToolSettings,
    caller: Caller,
    method: str,
    arguments: JsonValue,
    *,
    peer: str,
    run_id: str | None,
) -> ToolResult:
    """Read a run to its end. Events beyond the limit are counted and left out; the last one, `done`, is always told."""
    lines: list[str] = []
    held_bytes = left_out = 0
    done: Any = None
    async with host.stream_as(caller, method, arguments, peer=peer, run_id=run_id) as events:
        async for event in events:
            if isinstance(event, dict) and event.get("type") == "done":
                done = event
                continue
            line = orjson.dumps(event)
            if left_out or held_bytes + len(line) > settings.max_result_bytes:
                left_out += 1
            else:
                held_bytes += len(line) + 1
                lines.append(line.decode())
    if left_out:
        lines.append(f"[{left_out} more events are left out: only {settings.max_result_bytes} bytes are shown]")
    lines.append(_cut(orjson.dumps(done).decode(), settings.max_result_bytes))
    return ToolResult(text="\n".join(lines), is_error=not isinstance(done, dict) or done.get("outcome") != "complete")


def _cut(text: str, max_bytes: int) -> str:
    """Return the beginning of a text that is too long, and say so."""
    encoded = text.encode()
    if len(encoded) <= max_bytes:
        return text
    shown = encoded[:max_bytes].decode(errors="ignore")
    return f"{shown}\n[cut: the first {max_bytes} of {len(encoded)} bytes]"
