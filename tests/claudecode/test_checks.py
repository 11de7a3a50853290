"""What `clonk doctor` says of Claude Code."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from clonk_claudecode.checks import CREDENTIAL_VARIABLES, checks
from clonk_claudecode.engine.binary import Binary
from clonk_claudecode.engine.engine import open_engine
from clonk_claudecode.engine.spec import EngineSettings, SessionSpec
from clonk_claudecode.settings import ClaudeCodeSettings, SessionSettings
from clonk_core.config.nodes import Origin
from clonk_core.plugin import CheckResult


async def _found(settings: ClaudeCodeSettings, name: str, **stored: str) -> CheckResult:
    async def secret(asked: str) -> str | None:
        return stored.get(asked)

    found = checks(settings, secret=secret, origin=lambda path: Origin(kind="file", file=Path("clonk.yaml"), line=7))
    (check,) = [check for check in found if check.name == name]
    return await check.function()


async def test_the_binary_is_named_with_its_version(claude: Binary) -> None:
    found = await _found(ClaudeCodeSettings(), "claude binary")
    assert found.state == "ok"
    assert found.message == f"{claude.path}, version {claude.version_text}"


async def test_a_missing_binary_has_failed() -> None:
    assert (await _found(ClaudeCodeSettings(binary_path=Path("/nonexistent")), "claude binary")).state == "failed"


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "warning"),
        ({"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}}, "warning"),
        ({"api_key": "key"}, "ok"),
        ({"oauth_token": "token"}, "ok"),
        *(({"env": {name: "x"}}, "ok") for name in sorted(CREDENTIAL_VARIABLES)),
    ],
)
async def test_a_credential_is_looked_for_where_the_binary_looks(changes: dict[str, Any], state: str) -> None:
    found = await _found(ClaudeCodeSettings(**changes), "credential")
    assert found.state == state


@pytest.mark.parametrize(
    ("changes", "stored", "message"),
    [
        ({"oauth_token": "s3cret"}, {}, "OAuth token from claudecode.oauth_token (clonk.yaml:7)"),
        ({}, {"claude_oauth_token": "s3cret"}, "OAuth token from the stored secret claude_oauth_token"),
        ({}, {"anthropic_api_key": "s3cret"}, "API key from the stored secret anthropic_api_key"),
    ],
)
async def test_the_place_of_the_credential_is_told(
    changes: dict[str, Any], stored: dict[str, str], message: str
) -> None:
    found = await _found(ClaudeCodeSettings(**changes), "credential", **stored)
    assert (found.state, found.message) == ("ok", message)


@pytest.mark.parametrize(
    "changes", [{"oauth_token_file": Path("/nonexistent/token")}, {"env": {"X": "${secret:missing}"}, "api_key": "key"}]
)
async def test_what_is_named_and_not_there_has_failed(changes: dict[str, Any]) -> None:
    assert (await _found(ClaudeCodeSettings(**changes), "credential")).state == "failed"


@pytest.mark.parametrize(
    ("variables", "kind"),
    [({}, "claudecode.credential_missing"), ({"ANTHROPIC_AUTH_TOKEN": "x"}, None), ({"ANTHROPIC_API_KEY": "x"}, None)],
)
async def test_the_binary_really_looks_there(
    settings: EngineSettings, diary: Any, spec: SessionSpec, variables: dict[str, str], kind: str | None
) -> None:
    settings = attrs.evolve(settings, credential=None, env={**settings.env, **variables})
    async with open_engine(settings, log=diary) as engine:
        async with engine.turn(
            spec, "hello", turn_id="sub_test", prompt_uuid="00000000-0000-4000-8000-000000000000"
        ) as turn:
            _ = [item async for item in turn]
    assert (turn.result.error.kind if turn.result.error else None) == kind


async def test_a_working_directory_is_looked_at(tmp_path: Path) -> None:
    for folder, message in ((tmp_path, str(tmp_path)), (tmp_path / "none", "does not exist")):
        found = await _found(ClaudeCodeSettings(session=SessionSettings(working_dir=folder)), "working directory")
        assert found.state == "ok"
        assert message in found.message
