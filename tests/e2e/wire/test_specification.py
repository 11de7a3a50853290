"""The specification's printed examples for claudecode, run as printed: without TLS, on our address, without a key."""

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from trio_websocket import open_websocket_url

from clonk_claudecode.testing.script import Reply, Rule, Text, ToolUse
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.testing.server_process import ServerProcess
from tests.e2e.printed import (
    check_created,
    events_of,
    needs_curl,
    on_our_address,
    run_node,
    run_shell,
    said,
    sse_messages,
)

StartServer = Callable[..., AbstractAsyncContextManager[ServerProcess]]

CREATE = """curl -X POST https://clonk.example.com/mcp \\
  -H "Content-Type: application/json" \\
  -d '{"jsonrpc":"2.0","method":"claudecode.create","params":{"name":"session1","working_dir":"/workspace"},"id":1}'
"""
CHAT = """curl -N https://clonk.example.com/mcp \\
  -H "Content-Type: application/json" \\
  -d '{"jsonrpc":"2.0","method":"claudecode.chat","params":{"name":"session1","prompt":"List files"},"id":2}'
"""
JAVASCRIPT = """
const ws = new WebSocket('wss://clonk.example.com/ws');

ws.onopen = () => {
  // Authenticate first
  ws.send(JSON.stringify({
    jsonrpc: "2.0",
    method: "auth.authenticate",
    params: { api_key: API_KEY },
    id: 0
  }));
  // Then use normally
  ws.send(JSON.stringify({
    jsonrpc: "2.0",
    method: "claudecode.chat",
    params: { name: "session1", prompt: "Hello" },
    id: 1
  }));
};
"""


@needs_curl
@pytest.mark.deadline(90)
async def test_the_curl_and_websocket_examples_work_as_printed(
    start_server: StartServer, model: ScriptedModel, workspace: Path
) -> None:
    listing = ToolUse("Read", {"file_path": str(workspace / "README")})
    (workspace / "README").write_text("the only file\n")
    model.add(
        Rule("List files", [Reply([Text("I look."), listing]), "There is a README."]),
        Rule("Hello", "Hello to you."),
    )
    async with start_server(workspaces={"roots": [str(workspace)]}) as server:
        created = await run_shell(on_our_address(CREATE, server, workspace))
        check_created(json.loads(created), workspace, "session1")

        text = await run_shell(on_our_address(CHAT, server, workspace))
        events = events_of(sse_messages(text), 2)
        assert said(events) == ["I look.", "There is a README."]
        used = next(event for event in events if event["type"] == "tool_use")
        assert (used["tool"], used["input"]) == ("Read", {"file_path": str(workspace / "README")})

        async with open_websocket_url(server.websocket_url.removesuffix("/ws") + "/ws") as socket:
            hello = {"jsonrpc": "2.0", "method": "claudecode.chat", "params": {"name": "session1", "prompt": "Hello"}}
            await socket.send_message(json.dumps({**hello, "id": 1}))
            messages: list[str | bytes] = []
            while not messages or '"done"' not in str(messages[-1]):
                messages.append(await socket.get_message())
        assert said(events_of([json.loads(message) for message in messages], 1)) == ["Hello to you."]

        if shutil.which("node") is not None:
            await _check_javascript(on_our_address(JAVASCRIPT, server, workspace))


async def _check_javascript(program: str) -> None:
    messages = await run_node(f"const API_KEY = 'worthless';\n{program}")
    authenticated = next(message for message in messages if message.get("id") == 0)
    messages.remove(authenticated)
    # Without authentication everyone is the local caller, whatever key they show.
    assert authenticated["result"]["caller"] == "local"
    events_of(messages, 1)
