"""The specification's printed examples: put on our address, run, and what comes back checked."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_core.testing.server_process import ServerProcess

SHOW_MESSAGES = """
ws.onmessage = (event) => {
  console.log(event.data);
  if (event.data.includes('"type":"done"') || event.data.includes('"error":')) ws.close();
};
ws.onerror = (event) => { console.error(event.message); process.exit(1); };
"""

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")


def on_our_address(text: str, server: ServerProcess, workspace: Path) -> str:
    """Return a printed text with a server's addresses, without TLS, and with a folder as /workspace."""
    text = text.replace("https://clonk.example.com", server.http_url).replace("/workspace", str(workspace))
    return text.replace("wss://clonk.example.com/ws", server.websocket_url)


async def run_shell(command: str, environ: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it prints."""
    done = await trio.run_process(["bash", "-c", command], capture_stdout=True, capture_stderr=True, env=environ)
    return done.stdout.decode()


async def run_node(program: str, environ: Mapping[str, str] | None = None) -> list[Any]:
    """Run a program that opens `ws`, and return the messages that came."""
    # WebSocket is built in from version 22 on; before, behind a flag that later versions still take.
    command = ["node", "--experimental-websocket", "-e", f"{program}\n{SHOW_MESSAGES}"]
    done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.DEVNULL, env=environ)
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def sse_messages(text: str) -> list[Any]:
    """Return the messages of a stream of server-sent events."""
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def events_of(messages: list[Any], id_: int) -> list[Any]:
    """Check the shape that the specification prints for a stream; return the events."""
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


def said(events: list[Any]) -> list[str]:
    """Return what Claude has said."""
    return [event["content"] for event in events if event["type"] == "assistant_message"]


def check_created(created: Any, workspace: Path, name: str) -> None:
    """Check the answer that the specification prints for a session that was created."""
    assert created == {"jsonrpc": "2.0", "result": created["result"], "id": 1}
    result = created["result"]
    assert {"name", "id", "created_at", "working_dir", "model"} <= set(result)
    assert (result["name"], result["working_dir"], result["model"]) == (name, str(workspace), "sonnet")
    assert re.fullmatch(r"sess_[0-9a-z]+", result["id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", result["created_at"])
