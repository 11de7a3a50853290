"""Secrets are planted in every way that there is, and looked for wherever they must not be."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest
import trio

from clonk_claudecode.engine.binary import BinaryFinder
from clonk_claudecode.errors import BinaryMissing
from clonk_claudecode.testing.script import Fail, Reply, Rule, ToolUse, Wait
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.client.base import RemoteError
from clonk_core.client.http import HttpClient
from clonk_core.client.websocket import WebSocketClient
from clonk_core.testing.server_process import ServerProcess, server_process, write_config
from tests.forked_clonk import ForkedClonk

TOKEN = "sk-ant-oat01-a-token-that-nobody-may-see"
GATEWAY = "gw-a-password-that-nobody-may-see"
STORED = "kept-and-never-to-be-seen"
API_KEY = "clonk_ci_a-key-that-nobody-may-see"
MADE = "made-up-and-never-to-be-seen"
SECRETS = {TOKEN, GATEWAY, STORED, API_KEY, MADE}
WAYS = ["file", "token file", "environment", "stored"]

# What `claudecode.env` hands to the binary on purpose is left out: its tools can see that.
SHOW = "tr '\\0' '\\n' < /proc/self/environ | grep -v HEADERS; tr '\\0' '\\n' < /proc/$PPID/environ | grep -v HEADERS; "
SHOW += "cat /proc/$PPID/cmdline"

PLUGIN = '''
"""Breaks with a secret at hand."""
from typing import Annotated

from clonk_core.plugin import Activation, Host, Secret, hookimpl, method

class Keeper(Activation):
    """Keeper."""
    namespace = "keeper"

    def __init__(self, host: Host) -> None:
        self._host = host

    @method()
    async def breaks(self, pin: Annotated[str, Secret()]) -> None:
        """Break."""
        value = await self._host.secret("kept")
        raise RuntimeError(f"with {len(value)} characters at hand")

@hookimpl
def clonk_activations(host):
    return [Keeper(host)]
'''


@attrs.frozen
class Planted:
    """A server's folder and environment with secrets in them."""

    hub: Path
    settings: dict[str, Any]
    environ: dict[str, str]
    forked: ForkedClonk

    async def clonk(self, *arguments: str, stdin: str = "") -> str:
        """Run a command and return all it said."""
        done = await trio.to_thread.run_sync(
            lambda: self.forked.run(
                (*arguments, "--config", str(self.hub / "clonk.yaml")),
                folder=self.hub,
                environ={"PATH": os.environ["PATH"], "HOME": str(self.hub), **self.environ},
                stdin=stdin,
                limit_s=60,
            )
        )
        return done.out + done.err


@pytest.fixture(params=WAYS)
async def planted(request: pytest.FixtureRequest, tmp_path: Path, model: ScriptedModel, forked: ForkedClonk) -> Planted:
    """Plant a token in one of the ways, and a secret for the environment and one for a plugin in the store."""
    try:
        binary = await BinaryFinder().find()
    except BinaryMissing:
        pytest.skip("needs the Claude Code binary")
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "keeper.py").write_text(PLUGIN)
    ways: Mapping[str, dict[str, str]] = {
        "file": {"oauth_token": TOKEN},
        "token file": {"oauth_token_file": str(tmp_path / "token")},
    }
    settings = {
        "claudecode": {
            "binary_path": str(binary.path),
            "env": {
                "ANTHROPIC_BASE_URL": model.base_url,
                "ANTHROPIC_CUSTOM_HEADERS": "x-gateway: ${secret:gateway}",
                "IS_SANDBOX": "1",
            },
            "session": {"working_dir": "/nonexistent/clonk"},
            "turn": {"max_retries": 1},
            **ways.get(request.param, {}),
        },
        "plugins": {"dir": str(tmp_path / "plugins")},
        "auth": {"api_keys": [{"id": "ci", "secret_hash": _hash_of(API_KEY), "scopes": ["*"]}]},
        "logging": {"format": "json", "level": "debug"},
    }
    hub = tmp_path / "hub"
    hub.mkdir()
    environ = {"CLAUDE_CODE_OAUTH_TOKEN": TOKEN} if request.param == "environment" else {}
    planted = Planted(hub, settings, environ, forked)
    write_config(hub / "clonk.yaml", hub / "data", settings)
    secrets = {
        "gateway": GATEWAY,
        "kept": STORED,
        **({"claude_oauth_token": TOKEN} if request.param == "stored" else {}),
    }
    for name, value in secrets.items():
        assert await planted.clonk("secrets", "set", name, stdin=value) == f"{name} is set\n"
    return planted


def _hash_of(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def _without_secrets(text: str | bytes, *, may_have_gateway: bool = False) -> None:
    shown = text.decode(errors="replace") if isinstance(text, bytes) else text
    for secret in SECRETS - {GATEWAY} if may_have_gateway else SECRETS:
        assert secret[:20] not in shown


def _files_with(folder: Path) -> set[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name for path in files for secret in SECRETS if secret.encode() in path.read_bytes()}


async def _converse(server: ServerProcess, client: HttpClient, model: ScriptedModel) -> list[Any]:
    """Chat, fail and break in several ways, and return every answer."""
    answers: list[Any] = [await client.call("claudecode.create", name="one", permission_mode="bypassPermissions")]
    async with client.stream("claudecode.chat", name="one", prompt="show") as events:
        await model.wait_reached("gate")
        children = psutil.Process(server.pid).children(recursive=True)
        binaries = [child for child in children if "--input-format" in child.cmdline()]
        assert binaries
        for child in children:
            _without_secrets(" ".join(child.cmdline()))
            environ = Path(f"/proc/{child.pid}/environ").read_bytes()
            _without_secrets(environ, may_have_gateway=child in binaries)
        model.release("gate")
        answers.append([event.event async for event in events])
    result = next(event for event in answers[-1] if event["type"] == "tool_result")
    assert "PATH=" in str(result["content"])  # the tool did show its environment
    assert (model.turns[-1].token, model.turns[-1].headers["x-gateway"]) == (TOKEN, GATEWAY)
    async with client.stream("claudecode.chat", name="one", prompt="fail") as events:
        answers.append([event.event async for event in events])
    assert answers[-1][-1]["outcome"] == "failed"
    methods = ("rpc.discover", "hub.plugins", "hub.schema", "health.check", "claudecode.list")
    answers += [await client.call(method) for method in methods]
    answers.append(await client.call("claudecode.history", name="one"))
    with pytest.raises(RemoteError) as caught:
        await client.call("keeper.breaks", pin=MADE)
    answers.append([str(caught.value), caught.value.data])
    return answers


async def _be_refused(server: ServerProcess) -> list[Any]:
    """Show secrets where they let nobody in, over both ports, and return what was answered."""
    answers: list[Any] = []
    for credential in (MADE, f"{API_KEY}x", f"a.{MADE}.c"):
        for client in (
            HttpClient(server.http_url, api_key=credential),
            WebSocketClient(server.websocket_url, api_key=credential, retries=0),
        ):
            with pytest.raises(RemoteError) as caught:
                async with client:
                    await client.call("auth.whoami")
            answers.append([str(caught.value), caught.value.data])
    async with WebSocketClient(server.websocket_url, retries=0) as stranger:
        for params in ({"api_key": MADE}, {"token": MADE}, {"api_key": [MADE]}, {"key": MADE}):
            with pytest.raises(RemoteError) as caught:
                await stranger.call("auth.authenticate", **params)
            answers.append([str(caught.value), caught.value.data])
    return answers


@pytest.mark.deadline(180)
async def test_planted_secrets_are_nowhere_but_where_they_are_needed(planted: Planted, model: ScriptedModel) -> None:
    model.add(
        Rule(
            "show",
            [Reply([ToolUse("Bash", {"command": SHOW, "description": "show"})]), Reply(["so ", Wait("gate"), "it is"])],
        ),
        Rule("fail", Fail(401, message="invalid bearer token")),
    )
    known = {"clonk.yaml"} if "oauth_token" in planted.settings["claudecode"] else set()
    async with (
        server_process(planted.hub, settings=planted.settings, environ=planted.environ) as server,
        HttpClient(server.http_url, api_key=API_KEY) as client,
    ):
        _without_secrets(json.dumps(await _converse(server, client, model)))
        _without_secrets(json.dumps(await _be_refused(server)))
        rows = await client.call("audit.query", limit=1000)
        assert {row["action"] for row in rows} >= {"claudecode.chat", "Bash", "keeper.breaks", "auth.authenticate"}
        _without_secrets(json.dumps(rows))
        assert _files_with(planted.hub) == known  # also while the database's journal is full
        _without_secrets(await planted.clonk("secrets", "rotate"))
        (planted.hub / "data" / "secret.key").chmod(0o644)
        with pytest.raises(RemoteError) as caught:
            await client.call("keeper.breaks", pin=MADE)
        _without_secrets(str(caught.value))
        (planted.hub / "data" / "secret.key").chmod(0o600)
    assert "characters at hand" in server.log_text  # the traceback is there
    assert "0644" in server.log_text
    _without_secrets(server.log_text)
    assert _files_with(planted.hub) == known
    for arguments in (
        ("config", "show"),
        ("config", "check"),
        ("doctor",),
        ("secrets", "list"),
        ("keys", "list"),
        ("audit", "tail", "--json"),
    ):
        shown = await planted.clonk(*arguments)
        assert shown
        _without_secrets(shown)
    assert "OAuth token from " in await planted.clonk("doctor")
