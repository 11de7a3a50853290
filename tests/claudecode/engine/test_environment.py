"""The child's environment, and the credential that is not in it."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import pytest

from clonk_claudecode.engine.engine import open_engine
from clonk_claudecode.engine.environment import build_environment, credential_pipe
from clonk_claudecode.engine.spec import Credential, EngineSettings, SessionSpec
from clonk_claudecode.events import ToolResult
from clonk_claudecode.testing.script import Rule
from clonk_claudecode.testing.script import ToolUse as CallTool
from clonk_claudecode.testing.scripted_model import ScriptedModel

HUB = {
    "PATH": "/usr/bin",
    "HOME": "/home/hub",
    "LANG": "de_DE.UTF-8",
    "ANTHROPIC_API_KEY": "hub-secret",
    "AWS_SECRET_ACCESS_KEY": "hub-secret",
    "CLAUDECODE": "1",
    "CLONK_SERVER__HTTP_PORT": "1",
    "IS_SANDBOX": "1",
    "NODE_OPTIONS": "--evil",
}
PASSED = {"PATH", "HOME", "LANG"}


@pytest.fixture
def bare(tmp_path: Path) -> EngineSettings:
    return EngineSettings(config_dir=tmp_path / "claude", run_dir=tmp_path / "run")


def test_nothing_of_the_hub_passes_but_path_home_and_language(bare: EngineSettings) -> None:
    child = build_environment(bare, mark="t.1.", environ=HUB)
    assert {name: child[name] for name in PASSED} == {name: HUB[name] for name in PASSED}
    assert not (set(HUB) - PASSED) & set(child)
    assert "hub-secret" not in str(child)


def test_the_binary_has_a_folder_of_its_own_and_sends_nothing_home(bare: EngineSettings) -> None:
    child = build_environment(bare, mark="t.1.", environ={})
    assert child["CLAUDE_CONFIG_DIR"] == str(bare.config_dir)
    assert child["DISABLE_TELEMETRY"] == child["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] == "1"
    assert int(child["API_TIMEOUT_MS"]) == bare.api_timeout_s * 1000
    assert child["PATH"]
    assert child["LANG"]


def test_what_is_configured_wins(bare: EngineSettings) -> None:
    changed = attrs.evolve(bare, env={"PATH": "/opt/bin", "IS_SANDBOX": "1", "DISABLE_TELEMETRY": "0"})
    child = build_environment(changed, mark="t.1.", environ=HUB)
    assert (child["PATH"], child["IS_SANDBOX"], child["DISABLE_TELEMETRY"]) == ("/opt/bin", "1", "0")


def test_the_mark_cannot_be_configured_away(bare: EngineSettings) -> None:
    changed = attrs.evolve(bare, env={"CLONK_PROCESS": "other"})
    assert build_environment(changed, mark="t.1.", environ={})["CLONK_PROCESS"] == "t.1."


@pytest.mark.parametrize(
    ("kind", "variable"),
    [
        ("oauth_token", "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR"),
        ("api_key", "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR"),
    ],
)
def test_a_credential_is_in_a_pipe_and_its_number_in_a_variable(kind: Any, variable: str) -> None:
    with credential_pipe(Credential(kind=kind, secret="tok")) as (descriptors, variables):
        assert variables == {variable: str(descriptors[0])}
        assert os.read(descriptors[0], 100) == b"tok"
        assert os.read(descriptors[0], 100) == b""
    with pytest.raises(OSError):
        os.fstat(descriptors[0])


def test_without_a_credential_nothing_is_handed_over() -> None:
    with credential_pipe(None) as handed:
        assert handed == ((), {})


def test_a_credential_that_would_fill_the_pipe_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"), credential_pipe(Credential(kind="api_key", secret="x" * 20_000)):
        raise AssertionError("never reached")


def test_a_credential_does_not_show_itself() -> None:
    assert "tok" not in repr(Credential(kind="api_key", secret="tok"))


@pytest.mark.parametrize("kind", ["oauth_token", "api_key"])
async def test_the_real_binary_gets_the_token_and_nobody_else_sees_it(
    settings: EngineSettings, model: ScriptedModel, spec: SessionSpec, diary: Any, tmp_path: Path, kind: Any
) -> None:
    secret = f"sk-ant-oat01-{kind}-never-to-be-seen"
    model.add(Rule("env", [CallTool("Bash", {"command": "env; cat /proc/$PPID/environ /proc/$PPID/cmdline"}), "done"]))
    with_token = attrs.evolve(settings, credential=Credential(kind=kind, secret=secret))
    async with open_engine(with_token, log=diary) as engine:
        async with engine.turn(spec, "env", turn_id="sub_1", prompt_uuid=str(uuid4())) as turn:
            items = [item async for item in turn]
        process = Path(f"/proc/{engine.pid(spec.session_id)}")
        assert secret not in process.joinpath("environ").read_text()
        assert secret not in process.joinpath("cmdline").read_text()
    assert model.turns[-1].token == secret
    (result,) = [item for item in items if isinstance(item, ToolResult)]
    assert "CLAUDE_CONFIG_DIR" in str(result.content)
    assert secret not in str(result.content)
    written = [path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert written == []


async def test_the_hubs_environment_does_not_reach_a_tool(
    model: ScriptedModel,
    spec: SessionSpec,
    chat: Callable[..., Awaitable[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HUB_DATABASE_PASSWORD", "hub-secret")
    model.add(Rule("env", [CallTool("Bash", {"command": "env"}), "done"]))
    said = await chat(spec, "env")
    (result,) = said.only(ToolResult)
    assert "hub-secret" not in str(result.content)
