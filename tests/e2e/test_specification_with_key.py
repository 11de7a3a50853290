"""The specification's printed examples with a key: without TLS, on our address, otherwise as printed."""

import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import attrs
import pytest
from trio_websocket import open_websocket_url

from clonk_claudecode.testing.script import Reply, Rule, Text, ToolUse
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.testing.server_process import ServerProcess
from tests.e2e.printed import (
    check_created,
    events_of,
    needs_curl,
    needs_node,
    on_our_address,
    run_node,
    run_shell,
    said,
    sse_messages,
)

StartServer = Callable[..., AbstractAsyncContextManager[ServerProcess]]

KEY = "clonk_ci_of-the-test-and-worth-nothing"
CHAT_ONLY = "clonk_chat_of-the-test-and-worth-nothing"

CREATE = """curl -X POST https://clonk.example.com/mcp \\
  -H "Authorization: Bearer $API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{"jsonrpc":"2.0","method":"claudecode.create","params":{"name":"session1","working_dir":"/workspace"},"id":1}'
"""
CHAT = """curl -N https://clonk.example.com/mcp \\
  -H "Authorization: Bearer $API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{"jsonrpc":"2.0","method":"claudecode.chat","params":{"name":"session1","prompt":"List files"},"id":2}'
"""
CONNECT = """
const ws = new WebSocket('wss://clonk.example.com/ws');

ws.onopen = () => {
  // Authenticate first
  ws.send(JSON.stringify({
    jsonrpc: "2.0",
    method: "auth.authenticate",
    params: { api_key: API_KEY },
    id: 0
  }));
};
"""
THEN = """
// Then use normally
ws.send(JSON.stringify({
  jsonrpc: "2.0",
  method: "claudecode.chat",
  params: { name: "session1", prompt: "Hello" },
  id: 1
}));
"""
CREATE_MESSAGE = """{
  "jsonrpc": "2.0",
  "method": "claudecode.create",
  "params": {
    "name": "feature-auth",
    "working_dir": "/workspace",
    "model": "sonnet",
    "system_prompt": "You are helping implement authentication."
  },
  "id": 1
}"""
CHAT_MESSAGE = """{
  "jsonrpc": "2.0",
  "method": "claudecode.chat",
  "params": {
    "name": "feature-auth",
    "prompt": "Add JWT validation middleware"
  },
  "id": 2
}"""
AUTHENTICATE_MESSAGE = '{"jsonrpc":"2.0","method":"auth.authenticate","params":{"api_key":"%s"},"id":0}'


def entry(key_id: str, secret: str, *scopes: str) -> dict[str, Any]:
    return {"id": key_id, "secret_hash": f"sha256:{hashlib.sha256(secret.encode()).hexdigest()}", "scopes": scopes}


@attrs.frozen
class House:
    """A server that asks who calls.

    Attributes:
        server: The server.
        workspace: What the specification calls /workspace.
    """

    server: ServerProcess
    workspace: Path

    def here(self, text: str) -> str:
        """Return a printed text with this server's addresses and folder."""
        return on_our_address(text, self.server, self.workspace)

    async def curl(self, command: str, key: str = KEY) -> str:
        """Run a printed command and return what it prints."""
        return await run_shell(self.here(command), {"PATH": os.environ["PATH"], "API_KEY": key})

    async def node(self, key: str) -> list[Any]:
        """Run the printed program with a key and return the messages that came."""
        # What the specification prints behind the handler cannot be sent before the connection is open.
        program = CONNECT.replace("\n};\n", f"{THEN}\n}};\n")
        program = f"const API_KEY = {json.dumps(key)};\n{self.here(program)}"
        return await run_node(program, {"PATH": os.environ["PATH"]})


@pytest.fixture
async def house(start_server: StartServer, workspace: Path) -> AsyncIterator[House]:
    keys = [entry("ci", KEY, "claudecode:*"), entry("chat", CHAT_ONLY, "claudecode:chat")]
    async with start_server(workspaces={"roots": [str(workspace)]}, auth={"api_keys": keys}) as server:
        yield House(server, workspace)


@needs_curl
@pytest.mark.deadline(120)
async def test_the_curl_examples_work_with_a_key_and_not_without(house: House, model: ScriptedModel) -> None:
    (house.workspace / "README").write_text("the only file\n")
    listing = ToolUse("Read", {"file_path": str(house.workspace / "README")})
    model.add(Rule("List files", [Reply([Text("I look."), listing]), "There is a README."]))
    for key in ("", "clonk_nobody_wrong"):
        for command in (CREATE, CHAT):
            assert json.loads(await house.curl(command, key))["error"]["data"]["kind"] == "unauthenticated"
    refused = json.loads(await house.curl(CREATE, CHAT_ONLY))["error"]
    assert (refused["code"], refused["data"]["scope"]) == (403, "claudecode:create")
    assert not model.turns

    check_created(json.loads(await house.curl(CREATE)), house.workspace, "session1")
    events = events_of(sse_messages(await house.curl(CHAT)), 2)
    assert said(events) == ["I look.", "There is a README."]
    assert next(event["tool"] for event in events if event["type"] == "tool_use") == "Read"
    assert said(events_of(sse_messages(await house.curl(CHAT, CHAT_ONLY)), 2))


@needs_curl
@needs_node
@pytest.mark.deadline(120)
async def test_the_websocket_example_works_with_a_key_and_not_without(house: House, model: ScriptedModel) -> None:
    model.add(Rule("Hello", "Hello to you."))
    await house.curl(CREATE)
    for key in (KEY, CHAT_ONLY):
        authenticated, *stream = await house.node(key)
        # Sent at once after the first message, whose answer it does not wait for.
        assert (authenticated["id"], authenticated["result"]["kind"]) == (0, "key")
        assert said(events_of(stream, 1)) == ["Hello to you."]
    answers = await house.node("clonk_nobody_wrong")
    assert answers[0]["id"] == 0
    assert {answer["error"]["data"]["kind"] for answer in answers} == {"unauthenticated"}
    assert len(model.turns) == 2


@pytest.mark.deadline(120)
async def test_the_printed_messages_work_after_the_first_one(house: House, model: ScriptedModel) -> None:
    path = str(house.workspace / "src/middleware/jwt.ts")
    write = ToolUse("Write", {"file_path": path, "content": "export {}"})
    model.add(Rule("Add JWT", [Reply([Text("I'll add JWT validation..."), write]), "Done."]))
    async with open_websocket_url(house.server.websocket_url) as socket:

        async def receive() -> Any:
            return json.loads(await socket.get_message())

        await socket.send_message(house.here(CREATE_MESSAGE))
        assert (await receive())["error"]["data"]["kind"] == "unauthenticated"
        await socket.send_message(AUTHENTICATE_MESSAGE % KEY)
        assert (await receive())["result"]["caller"] == "ci"
        await socket.send_message(house.here(CREATE_MESSAGE))
        check_created(await receive(), house.workspace, "feature-auth")
        await socket.send_message(house.here(CHAT_MESSAGE))
        messages = [await receive()]
        while messages[-1].get("params", {}).get("result", {}).get("type") != "done":
            messages.append(await receive())
            shown = messages[-1].get("params", {}).get("result", {})
            if shown.get("type") == "permission_request":
                permit = {"request_id": shown["request_id"], "decision": "allow"}
                request = {"jsonrpc": "2.0", "id": 3, "method": "claudecode.permit", "params": permit}
                await socket.send_message(json.dumps(request))
    events = events_of([one for one in messages if one.get("id") != 3], 2)
    assert said(events) == ["I'll add JWT validation...", "Done."]
    assert Path(path).read_text() == "export {}"
    used = next(event for event in events if event["type"] == "tool_use")
    assert (used["tool"], used["input"]) == ("Write", {"file_path": path, "content": "export {}"})
