"""Texts of every kind through a session: prompts, answers, what tools print."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from clonk_claudecode.testing.script import Reply, ToolUse
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost

OpenHub = Callable[..., AbstractAsyncContextManager[TestHost]]

PROMPTS = [
    "/compact",
    "/clear",
    "@/etc/hostname",
    "!ls",
    "#note",
    "a\u2028b\u2029c\x85d\x0be",
    "\x00",
    "\ufeff\U0001f600",
    " x ",
]


async def _chat(hub: TestHost, prompt: str, name: str = "one") -> list[Any]:
    return await hub.client.events("claudecode.chat", name=name, prompt=prompt)


async def test_prompts_reach_the_model_and_the_history_as_they_are(hub: TestHost) -> None:
    await hub.client.call("claudecode.create", name="one")
    for prompt in PROMPTS:
        events = await _chat(hub, prompt)
        assert events[-1]["outcome"] == "complete"
        (message,) = [event for event in events if event["type"] == "assistant_message"]
        assert message["content"] == f"You said: {prompt}"
    history = await hub.client.call("claudecode.history", name="one")
    assert [one["content"] for one in history if one["role"] == "user"] == PROMPTS


@pytest.mark.parametrize("prompt", [" ", "\n", "\t \u2028"])
async def test_a_prompt_of_white_space_is_refused(hub: TestHost, prompt: str) -> None:
    await hub.client.call("claudecode.create", name="one")
    with pytest.raises(CallError) as caught:
        await _chat(hub, prompt)
    assert caught.value.kind == "invalid_params"
    assert caught.value.data["path"] == "$.prompt"


async def test_an_empty_answer_is_an_answer(hub: TestHost, model: ScriptedModel) -> None:
    model.add(Reply([]), "more")
    await hub.client.call("claudecode.create", name="one")
    assert (await _chat(hub, "say nothing"))[-1]["outcome"] == "complete"
    assert (await _chat(hub, "say more"))[-1]["outcome"] == "complete"


@pytest.mark.parametrize(
    "command",
    [
        r"printf '\377\376\200 not utf-8'",
        # Cut by the binary to 30,000 UTF-16 units, wherever that is.
        """python3 -c "print('x' + chr(0x1f600) * 40000)" """,
        """python3 -c "print(chr(0x1f600) * 40000)" """,
        r"printf 'a\000b\r\n\033[31mred'",
    ],
)
async def test_what_a_tool_prints_is_kept_whatever_it_is(
    hub: TestHost, model: ScriptedModel, workspace: Path, command: str
) -> None:
    model.add(Reply([ToolUse("Bash", {"command": command, "description": "print"})]), "Printed.")
    await hub.client.call(
        "claudecode.create", name="one", working_dir=str(workspace), permission_mode="bypassPermissions"
    )
    events = await _chat(hub, "print it")
    assert events[-1]["outcome"] == "complete"
    (result,) = [event for event in events if event["type"] == "tool_result"]
    assert result["is_error"] is False
    history = await hub.client.call("claudecode.history", name="one")
    assert [one["role"] for one in history] == ["user", "assistant", "user", "assistant"]
    assert history[1]["content"][0]["input"]["command"] == command
    assert history[2]["content"][0]["content"] == result["content"]
    assert "no frame" not in hub.log_text
