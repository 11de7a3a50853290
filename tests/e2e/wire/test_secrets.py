"""A credential reaches the model's server and nothing else: no log, answer, file, command line, environment or tool."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from clonk_claudecode.engine.binary import BinaryFinder
from clonk_claudecode.errors import BinaryMissing
from clonk_claudecode.testing.script import Fail, Reply, Rule, ToolUse, Wait
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.client.base import RemoteError
from clonk_core.client.http import HttpClient
from clonk_core.testing.server_process import ServerProcess, server_process

StartServer = Callable[..., AbstractAsyncContextManager[ServerProcess]]
KEY = "sk-ant-api03-a-secret-that-nobody-may-see"
SHOW = "env; tr '\\0' '\\n' < /proc/self/environ; cat /proc/$PPID/cmdline /proc/$PPID/environ"


async def _events(client: HttpClient, name: str, prompt: str) -> list[Any]:
    async with client.stream("claudecode.chat", name=name, prompt=prompt) as events:
        return [event.event async for event in events]


def _files_with(folder: Path, secret: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def _below(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.deadline(120)
async def test_an_api_key_of_the_environment_is_seen_by_the_model_s_server_alone(
    model: ScriptedModel, tmp_path: Path
) -> None:
    try:
        binary = await BinaryFinder().find()
    except BinaryMissing:
        pytest.skip("needs the Claude Code binary")
    model.add(
        Rule(
            "show",
            [Reply([ToolUse("Bash", {"command": SHOW, "description": "show"})]), Reply(["so ", Wait("gate"), "it is"])],
        ),
        Rule("fail", Fail(401, message="invalid x-api-key")),
    )
    settings = {
        "claudecode": {
            "binary_path": str(binary.path),
            "env": {"ANTHROPIC_BASE_URL": model.base_url, "IS_SANDBOX": "1"},
            "session": {"working_dir": "/nonexistent/clonk"},
            "turn": {"max_retries": 1},
        },
        "logging": {"format": "json", "level": "debug"},
    }
    hub = tmp_path / "hub"
    answers: list[Any] = []
    async with (
        server_process(hub, settings=settings, environ={"ANTHROPIC_API_KEY": KEY}) as server,
        HttpClient(server.http_url) as client,
    ):
        answers.append(await client.call("claudecode.create", name="one", permission_mode="bypassPermissions"))
        async with client.stream("claudecode.chat", name="one", prompt="show") as events:
            await model.wait_reached("gate")
            children = _below(server.pid)
            assert any("--input-format" in one.cmdline() for one in children)
            for child in children:
                assert KEY not in " ".join(child.cmdline())
                assert KEY.encode() not in Path(f"/proc/{child.pid}/environ").read_bytes()
            model.release("gate")
            answers.append([event.event async for event in events])
        assert model.turns[-1].token == KEY
        result = next(event for event in answers[-1] if event["type"] == "tool_result")
        assert "PATH=" in str(result["content"])  # the tool did show its environment
        answers.append(await _events(client, "one", "fail"))
        assert answers[-1][-1]["outcome"] == "failed"
        methods = ("rpc.discover", "hub.plugins", "hub.schema", "health.check", "claudecode.list")
        answers += [await client.call(method) for method in methods]
        answers.append(await client.call("claudecode.history", name="one"))
        with pytest.raises(RemoteError) as caught:
            await client.call("claudecode.get", name="two")
        answers.append([str(caught.value), caught.value.data])
        log = server.log_text
    assert KEY not in json.dumps(answers)
    assert KEY not in log
    assert KEY not in server.log_text  # with what was said at the end
    assert _files_with(hub, KEY) == []
    for arguments in (["config", "show"], ["config", "check"], ["doctor"], ["schema", "--help"]):
        done = await trio.run_process(
            [sys.executable, "-m", "clonk_core", *arguments, *_config(arguments, hub)],
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(hub), "ANTHROPIC_API_KEY": KEY},
        )
        assert done.stdout
        assert KEY not in done.stdout.decode()
        assert KEY[:24] not in done.stdout.decode()


def _config(arguments: list[str], hub: Path) -> list[str]:
    return [] if "--help" in arguments else ["--config", str(hub / "clonk.yaml")]
