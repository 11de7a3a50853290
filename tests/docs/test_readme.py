"""The README's commands work as printed, against a real server and the real Claude Code binary."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from clonk_claudecode.testing.scripted_model import scripted_model

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "tutorial" / "your-first-session.md"]
ANSWER = "There are no files."

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


def commands(page: Path) -> list[str]:
    """Return the page's curl commands in order; a comment or a blank line ends one."""
    text = "\n".join(re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
    found = re.findall(r"^curl .*?(?<!\\)$", text, re.DOTALL | re.MULTILINE)
    return [command for command in found if "Last-Event-ID" not in command]


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture
async def http_port(tmp_path: Path) -> AsyncIterator[int]:
    """The HTTP port of a running `clonk serve` whose model is a scripted one."""
    http, websocket = free_ports(2)
    async with scripted_model([ANSWER]) as model:
        config = {
            "server": {"http_port": http, "websocket_port": websocket},
            "storage": {"data_dir": str(tmp_path / "data")},
            "claudecode": {"env": {"ANTHROPIC_BASE_URL": model.base_url}, "api_key": "sk-for-the-scripted-model"},
        }
        (tmp_path / "clonk.yaml").write_text(yaml.safe_dump(config))
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"}
        command = [sys.executable, "-m", "clonk_core", "serve", "--config", str(tmp_path / "clonk.yaml")]
        process = await trio.lowlevel.open_process(
            command, env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=None
        )
        try:
            await curl(f"curl -sf --retry 100 --retry-connrefused --retry-max-time 30 http://127.0.0.1:{http}/ready")
            yield http
        finally:
            process.terminate()
            with trio.move_on_after(20, shield=True):
                await process.wait()
            process.kill()


async def curl(command: str) -> str:
    done = await trio.run_process(["bash", "-c", command], capture_stdout=True, stdin=subprocess.DEVNULL)
    return done.stdout.decode()


def streamed(text: str) -> list[Any]:
    """Return the messages of an SSE stream."""
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


@needs_curl
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
async def test_the_curl_commands_create_a_session_and_chat_with_it(page: Path, http_port: int) -> None:
    create, chat = (command.replace("127.0.0.1:4445", f"127.0.0.1:{http_port}") for command in commands(page))
    created = json.loads(await curl(create))
    assert created["id"] == 1
    assert {"name", "id", "created_at", "working_dir", "model"} <= set(created["result"])

    answer, *events = streamed(await curl(chat))
    assert answer["id"] == 2
    assert {event["params"]["subscription"] for event in events} == {answer["result"]}
    assert [event["params"]["seq"] for event in events] == list(range(1, len(events) + 1))
    results = [event["params"]["result"] for event in events]
    assert results[0]["type"] == "started"
    assert ANSWER in [one["content"] for one in results if one["type"] == "assistant_message"]
    assert (results[-1]["type"], results[-1]["outcome"]) == ("done", "complete")

    resumed = streamed(
        await curl(f"curl -sN http://127.0.0.1:{http_port}/mcp -H 'Last-Event-ID: {answer['result']}/1'")
    )
    assert [one["params"]["seq"] for one in resumed if "params" in one] == list(range(2, len(events) + 1))


def test_the_pages_show_both_commands() -> None:
    for page in PAGES:
        assert ["claudecode.create" in one or "claudecode.chat" in one for one in commands(page)] == [True, True]
