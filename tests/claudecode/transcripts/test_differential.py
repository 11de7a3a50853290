"""The same scripts through our driver and through the Agent SDK, on the same binary: both tell the same."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import claude_agent_sdk as sdk
import pytest
import trio
from claude_agent_sdk.types import StreamEvent

from clonk_claudecode.engine.binary import Binary
from clonk_claudecode.engine.spec import SessionSpec
from clonk_claudecode.events import AssistantMessage, TextDelta, ThinkingDelta, ToolResult, ToolUse
from clonk_claudecode.testing.script import Cut, Fail, Reply, Rule, Text, Thinking, Usage
from clonk_claudecode.testing.script import ToolUse as CallTool
from clonk_claudecode.testing.scripted_model import ScriptedModel, scripted_model
from tests.claudecode.conftest import TOKEN

Say = Callable[..., Awaitable[Any]]


@attrs.define
class Told:
    """What a turn told, in the words that both have."""

    deltas: str = ""
    thinking: str = ""
    texts: list[str] = attrs.field(factory=list)
    tools: list[tuple[str, Mapping[str, Any]]] = attrs.field(factory=list)
    results: list[tuple[Any, bool]] = attrs.field(factory=list)
    text: str = ""
    ended_well: bool = False
    usage: tuple[int, ...] = ()


TOKENS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def by_our_driver(said: Any) -> Told:
    told = Told(ended_well=said.result.outcome == "complete", text=said.result.text)
    for item in said.items:
        match item:
            case TextDelta(text=text):
                told.deltas += text
            case ThinkingDelta(text=text):
                told.thinking += text
            case AssistantMessage(content=text):
                told.texts.append(text)
            case ToolUse(tool=tool, input=arguments):
                told.tools.append((tool, arguments))
            case ToolResult(content=content, is_error=is_error):
                told.results.append((content, is_error))
    told.usage = tuple(getattr(said.result.tokens, name) for name in TOKENS)
    return told


def take(told: Told, message: Any) -> None:
    """Note what one message of the SDK's tells."""
    match message:
        case StreamEvent(event={"type": "content_block_delta", "delta": delta}):
            told.deltas += delta.get("text", "")
            told.thinking += delta.get("thinking", "")
        case sdk.AssistantMessage(content=blocks, error=None):
            told.texts += [block.text for block in blocks if isinstance(block, sdk.TextBlock)]
            told.tools += [(block.name, block.input) for block in blocks if isinstance(block, sdk.ToolUseBlock)]
        case sdk.UserMessage(content=list(blocks)):
            results = [block for block in blocks if isinstance(block, sdk.ToolResultBlock)]
            told.results += [(block.content, bool(block.is_error)) for block in results]
        case sdk.ResultMessage():
            told.ended_well = not message.is_error
            told.text = message.result or "" if told.ended_well else ""
            told.usage = tuple((message.usage or {}).get(name, 0) for name in TOKENS)


async def by_the_sdk(
    claude: Binary,
    model: ScriptedModel,
    workspace: Path,
    folder: Path,
    prompts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> list[Told]:
    """Run the prompts through the SDK, with files of its own and without this process's environment."""
    monkeypatch.setattr("os.environ", {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder)})
    options = sdk.ClaudeAgentOptions(
        cli_path=claude.path,
        cwd=workspace,
        model="sonnet",
        permission_mode="bypassPermissions",
        setting_sources=[],
        system_prompt={"type": "preset", "preset": "claude_code"},
        include_partial_messages=True,
        env={
            "CLAUDE_CONFIG_DIR": str(folder / "claude"),
            "ANTHROPIC_API_KEY": TOKEN,
            "ANTHROPIC_BASE_URL": model.base_url,
            "IS_SANDBOX": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "2",
        },
    )
    answered = trio.Event()

    async def ask() -> AsyncIterator[dict[str, Any]]:
        """Give one prompt after the other has been answered."""
        nonlocal answered
        for prompt in prompts:
            answered = trio.Event()
            yield {"type": "user", "message": {"role": "user", "content": prompt}, "parent_tool_use_id": None}
            await answered.wait()

    turns = [Told()]
    async for message in sdk.query(prompt=ask(), options=options):
        take(turns[-1], message)
        if isinstance(message, sdk.ResultMessage):
            turns.append(Told())
            answered.set()
    return turns[:-1]


def counted(*blocks: Any, tokens: int = 11) -> Reply:
    """A reply whose tokens do not depend on the system prompt, which is another one for the SDK."""
    return Reply(blocks, usage=Usage(input_tokens=tokens, output_tokens=tokens + 1, cache_read_input_tokens=3))


SCRIPTS: dict[str, tuple[list[str], list[Any]]] = {
    "texts and thinking": (
        ["think", "again"],
        [
            Rule("think", counted(Thinking("hm, let me see"), Text("the first answer é \U0001f600"))),
            Rule("again", counted(Text("the second"), tokens=7)),
        ],
    ),
    "tools that work and fail": (
        ["work"],
        [
            Rule(
                "work",
                [
                    counted("I shall ", CallTool("Bash", {"command": "echo out; echo err >&2", "description": "say"})),
                    counted(
                        CallTool("Bash", {"command": "exit 3", "description": "fail"}),
                        CallTool("Read", {"file_path": "/nonexistent/file"}),
                    ),
                    counted("done"),
                ],
            )
        ],
    ),
    "a failing model": (["fail", "then"], [Rule("fail", Fail(400, message="no")), Rule("then", counted("better"))]),
    "a cut message": (
        ["cut"],
        [Cut(4, counted(Text("one two three four", deltas=8)), pause_s=0.5), counted("whole again")],
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_our_driver_tells_what_the_agent_sdk_tells(
    name: str,
    claude: Binary,
    model: ScriptedModel,
    spec: SessionSpec,
    chat: Say,
    workspace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prompts, script = SCRIPTS[name]
    model.add(*script)
    ours = [by_our_driver(await chat(spec, prompt)) for prompt in prompts]
    async with scripted_model(script) as other:
        theirs = await by_the_sdk(claude, other, workspace, tmp_path / "sdk", prompts, monkeypatch)
    assert len(model.turns) == len(other.turns)
    assert ours == theirs
    assert all(turn.deltas or not turn.ended_well for turn in ours), "the scripts must have something to compare"
