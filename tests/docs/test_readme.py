"""The README's commands work as printed, against a real server and the real Claude Code binary."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_claudecode.testing.scripted_model import scripted_model
from clonk_core.gateway.keys import hash_of
from clonk_core.testing.server_process import ServerProcess, server_process

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "tutorial" / "your-first-session.md"]
ANSWER = "There are no files."
API_KEY = "clonk_reader_of-the-pages"
VARIABLES = {"API_KEY": API_KEY, "CLONK_API_KEY": API_KEY}
"""Where the pages take the key from: the README as the specification does, the tutorial as Clonk's commands do."""

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


def commands(page: Path) -> list[str]:
    """Return the page's curl commands in order; a comment or a blank line ends one."""
    text = "\n".join(re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
    found = re.findall(r"^curl .*?(?<!\\)$", text, re.DOTALL | re.MULTILINE)
    return [command for command in found if "Last-Event-ID" not in command]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A running `clonk serve` whose model is a scripted one."""
    async with scripted_model([ANSWER]) as model:
        settings = {
            "claudecode": {"env": {"ANTHROPIC_BASE_URL": model.base_url}, "api_key": "worthless"},
            "auth": {"api_keys": [{"id": "reader", "secret_hash": f"sha256:{hash_of(API_KEY)}", "scopes": ["*"]}]},
        }
        async with server_process(tmp_path / "server", settings=settings) as running:
            yield running


async def run(*command: str, variables: Mapping[str, str] = VARIABLES) -> str:
    """Run a command with the key in its environment and return what it printed."""
    environ = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = await trio.run_process(command, capture_stdout=True, stdin=subprocess.DEVNULL, env={**environ, **variables})
    return done.stdout.decode()


async def curl(command: str, variables: Mapping[str, str] = VARIABLES) -> str:
    return await run("bash", "-c", command, variables=variables)


def streamed(text: str) -> list[Any]:
    """Return the messages of an SSE stream."""
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


@needs_curl
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
async def test_the_curl_commands_create_a_session_and_chat_with_it(page: Path, server: ServerProcess) -> None:
    create, chat = (command.replace("http://127.0.0.1:4445", server.http_url) for command in commands(page))
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

    place = f"Last-Event-ID: {answer['result']}/1"
    key = f"Authorization: Bearer {API_KEY}"
    resumed = streamed(await curl(f"curl -sN {server.http_url}/mcp -H '{key}' -H '{place}'"))
    assert [one["params"]["seq"] for one in resumed if "params" in one] == list(range(2, len(events) + 1))


@needs_curl
async def test_the_tutorial_s_python_program_prints_the_answer(server: ServerProcess, tmp_path: Path) -> None:
    page = PAGES[1]
    await curl(commands(page)[0].replace("http://127.0.0.1:4445", server.http_url))
    (program,) = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    program = program.replace("ws://127.0.0.1:4444/ws", server.websocket_url)
    assert server.websocket_url in program
    assert await run(sys.executable, "-c", program) == ANSWER


@needs_curl
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
async def test_without_the_key_the_curl_commands_are_told_how_to_say_who_calls(
    page: Path, server: ServerProcess
) -> None:
    for command in commands(page):
        told = json.loads(await curl(command.replace("http://127.0.0.1:4445", server.http_url), variables={}))
        assert told["error"]["data"]["kind"] == "unauthenticated"


async def test_the_tutorial_s_commands_take_the_key_from_the_environment(server: ServerProcess) -> None:
    clonk = [sys.executable, "-m", "clonk_core"]
    assert "claudecode.chat" in await run(*clonk, "methods", "--url", server.http_url)
    await run(*clonk, "call", "claudecode.create", "name=first", "--url", server.http_url)
    assert ANSWER in await run(*clonk, "chat", "first", "--prompt", "Hello", "--url", server.http_url)


def test_the_pages_show_both_commands() -> None:
    for page in PAGES:
        assert ["claudecode.create" in one or "claudecode.chat" in one for one in commands(page)] == [True, True]
