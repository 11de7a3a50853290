"""The MCP server `clonk` that each session speaks to over the binary's control channel. JSON-RPC in, JSON-RPC out."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import trio

from clonk_claudecode.engine.tools import SERVER, ToolMessage
from clonk_claudecode.settings import ToolSettings
from clonk_claudecode.store import session_rows
from clonk_claudecode.tools.calls import ToolResult, call_tool, failed
from clonk_claudecode.tools.given import Tool, callable_now, tools_of
from clonk_core.plugin import Database, Host

Answer: TypeAlias = dict[str, Any]

PROTOCOL_VERSION: Final = "2025-11-25"
"""What is answered to a client that names none."""

METHOD_NOT_FOUND: Final = -32601
INTERNAL: Final = -32603
MAX_DESCRIPTION: Final = 2000
"""Characters of a tool's description; the binary cuts longer ones at 2048."""


class ToolServer:
    """Answers for all sessions.

    Args:
        host: What the host gives.
        database: Where the sessions are.
        settings: What may be given, and how much a call may take.
    """

    def __init__(self, host: Host, database: Database, settings: ToolSettings) -> None:
        self._host = host
        self._database = database
        self._settings = settings
        self._calls: dict[tuple[str, object], trio.CancelScope] = {}

    async def answer(self, asked: ToolMessage) -> Answer:
        """Answer one message; a notification gets an empty result, which the binary wants to see.

        Raises nothing: a fault of ours is logged and told as an error.
        """
        request_id = asked.message.get("id")
        try:
            result = await self._result(asked)
        except Exception:
            self._host.log.exception("a session's tools do not work", session=asked.session_id)
            return _error(request_id, INTERNAL, "the tools of the server do not work now; its log says why")
        if result is None:
            return _error(request_id, METHOD_NOT_FOUND, f"{asked.message.get('method')} is not served here")
        return {"jsonrpc": "2.0", **({} if request_id is None else {"id": request_id}), "result": result}

    async def _result(self, asked: ToolMessage) -> Answer | None:
        params = asked.message.get("params")
        params = params if isinstance(params, Mapping) else {}
        match asked.message.get("method"):
            case "initialize":
                version = params.get("protocolVersion")
                return {
                    "protocolVersion": version if isinstance(version, str) else PROTOCOL_VERSION,
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": SERVER, "version": self._host.hub.version},
                }
            case "tools/list":
                return {"tools": [_listed(tool) for tool in await self._tools(asked.session_id)]}
            case "tools/call":
                return await self._call(asked, params)
            case "notifications/cancelled":
                scope = self._calls.get((asked.process, params.get("requestId")))
                if scope is not None:
                    scope.cancel()
                return {}
            case str(method) if method == "ping" or method.startswith("notifications/"):
                return {}
        return None

    async def _tools(self, session_id: str) -> list[Tool]:
        session = await self._database.read(session_rows.session_by_id, session_id)
        if session is None:
            return []
        return callable_now(self._host, session, list(tools_of(self._host, self._settings, session).values()))

    async def _call(self, asked: ToolMessage, params: Mapping[str, Any]) -> Answer:
        session = await self._database.read(session_rows.session_by_id, asked.session_id)
        if session is None:
            return failed("not_found", "the session was deleted").as_mcp()
        tools = tools_of(self._host, self._settings, session)
        tool = tools.get(str(params.get("name")))
        if tool is None:
            return failed("forbidden", f"the session has no tool {str(params.get('name'))[:200]!r} (any more)").as_mcp()
        key = (asked.process, asked.message.get("id"))
        result: ToolResult | None = None
        with trio.CancelScope() as scope:
            self._calls[key] = scope
            try:
                result = await call_tool(
                    self._host,
                    self._settings,
                    session,
                    tool,
                    tools=list(tools.values()),
                    arguments=params.get("arguments") or {},
                    run_id=asked.turn_id,
                )
            finally:
                if self._calls.get(key) is scope:  # a process that was started anew counts from the beginning
                    del self._calls[key]
        return (result or failed("cancelled", "the call was cancelled")).as_mcp()


def _listed(tool: Tool) -> Answer:
    return {
        "name": tool.name,
        "title": tool.method,
        "description": tool.description[:MAX_DESCRIPTION],
        "inputSchema": tool.input_schema,
        "annotations": {
            "readOnlyHint": tool.read_only,
            "destructiveHint": tool.destructive,
            "idempotentHint": tool.idempotent,
        },
    }


def _error(request_id: object, code: int, message: str) -> Answer:
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}}
