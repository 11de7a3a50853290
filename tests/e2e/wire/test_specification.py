"""The specification's printed examples for claudecode, run as printed: without TLS, on our address, without a key."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import open_websocket_url

from clonk_claudecode.testing.script import Reply, Rule, Text, ToolUse
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.testing.server_process import ServerProcess

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
SHOW_MESSAGES = """
ws.onmessage = (event) => {
  console.log(event.data);
  if (event.data.includes('"type":"done"')) ws.close();
};
ws.onerror = (event) => { console.error(event.message); process.exit(1); };
"""

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


async def _curl(command: str, server: ServerProcess, workspace: Path) -> str:
    command = command.replace("https://clonk.example.com", server.http_url).replace("/workspace", str(workspace))
    done = await trio.run_process(["bash", "-c", command], capture_stdout=True, capture_stderr=True)
    return done.stdout.decode()


def _check_stream(messages: list[Any], id_: int) -> list[Any]:
    """Check the shape that the specification prints; return the events."""
    first, *frames = messages
    assert first == {"jsonrpc": "2.0", "result": first["result"], "id": id_}
    assert re.fullmatch(r"sub_[0-9a-z]+", first["result"])
    for number, frame in enumerate(frames, 1):
        assert (frame["jsonrpc"], frame["method"]) == ("2.0", "subscription")
        assert set(frame["params"]) == {"subscription", "seq", "result"}
        assert (frame["params"]["subscription"], frame["params"]["seq"]) == (first["result"], number)
    events = [frame["params"]["result"] for frame in frames]
    assert [event["type"] for event in events].count("done") == 1
    assert (events[-1]["type"], events[-1]["outcome"]) == ("done", "complete")
    return events


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
        created = json.loads(await _curl(CREATE, server, workspace))
        assert created == {"jsonrpc": "2.0", "result": created["result"], "id": 1}
        result = created["result"]
        assert {"name", "id", "created_at", "working_dir", "model"} <= set(result)
        assert (result["name"], result["working_dir"], result["model"]) == ("session1", str(workspace), "sonnet")
        assert re.fullmatch(r"sess_[0-9a-z]+", result["id"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", result["created_at"])

        text = await _curl(CHAT, server, workspace)
        lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
        events = _check_stream([json.loads(line) for line in lines], 2)
        said = [event["content"] for event in events if event["type"] == "assistant_message"]
        assert said == ["I look.", "There is a README."]
        used = next(event for event in events if event["type"] == "tool_use")
        assert (used["tool"], used["input"]) == ("Read", {"file_path": str(workspace / "README")})

        async with open_websocket_url(server.websocket_url.removesuffix("/ws") + "/ws") as socket:
            hello = {"jsonrpc": "2.0", "method": "claudecode.chat", "params": {"name": "session1", "prompt": "Hello"}}
            await socket.send_message(json.dumps({**hello, "id": 1}))
            messages: list[str | bytes] = []
            while not messages or '"done"' not in str(messages[-1]):
                messages.append(await socket.get_message())
        events = _check_stream([json.loads(message) for message in messages], 1)
        assert [event["content"] for event in events if event["type"] == "assistant_message"] == ["Hello to you."]

        if shutil.which("node") is not None:
            await _check_javascript(server)


async def _check_javascript(server: ServerProcess) -> None:
    program = JAVASCRIPT.replace("wss://clonk.example.com/ws", server.websocket_url.removesuffix("/ws") + "/ws")
    program = f"const API_KEY = 'worthless';\n{program}\n{SHOW_MESSAGES}"
    # Built in from version 22 on; before, behind a flag that later versions still take.
    done = await trio.run_process(
        ["node", "--experimental-websocket", "-e", program], capture_stdout=True, stderr=subprocess.DEVNULL
    )
    messages = [json.loads(line) for line in done.stdout.decode().splitlines()]
    authenticated = next(message for message in messages if message.get("id") == 0)
    messages.remove(authenticated)
    # Without authentication everyone is the local caller, whatever key they show.
    assert authenticated["result"]["caller"] == "local"
    _check_stream(messages, 1)
