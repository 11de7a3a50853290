"""A stopped turn takes everything along that its tools have started, and the session's process stays warm."""

from collections.abc import Callable

import pytest
import trio

from clonk_claudecode.testing.script import Rule, ToolUse
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.testing.host import TestHost

DETACHED = (
    "(setsid sleep 4001 >/dev/null 2>&1 &); (nohup sleep 4002 >/dev/null 2>&1 &); "
    "(trap '' TERM HUP; setsid sh -c 'sleep 4003; sleep 4004' >/dev/null 2>&1 &); touch begun; sleep 4005"
)


def _work() -> Rule:
    background = ToolUse("Bash", {"command": "sleep 4006", "run_in_background": True})
    return Rule("work", [background, ToolUse("Bash", {"command": DETACHED}), "never said"])


def _tools(own_processes: Callable[[], list[str]]) -> list[str]:
    return [line for line in own_processes() if "sleep 40" in line]


@pytest.mark.parametrize("how", ["interrupt", "cancel", "timeout"])
async def test_nothing_that_a_stopped_turn_has_started_is_left_and_the_next_prompt_finds_a_warm_process(
    hub: TestHost, model: ScriptedModel, own_processes: Callable[[], list[str]], how: str
) -> None:
    model.add(_work())
    session = await hub.client.call("claudecode.create", name="s", permission_mode="bypassPermissions")
    await hub.client.events("claudecode.chat", name="s", prompt="warm up")
    options = {"timeout_s": 8.0} if how == "timeout" else {}
    done = None
    async with hub.client.stream("claudecode.chat", name="s", prompt="work", **options) as stream:
        async for _, event in stream:
            if event["type"] == "tool_use" and "begun" in event["input"]["command"]:
                begun = trio.Path(session["working_dir"]) / "begun"
                with trio.fail_after(60):
                    while not await begun.exists() or len(_tools(own_processes)) < 6:
                        await trio.sleep(0.02)
                if how == "interrupt":
                    assert (await hub.client.call("claudecode.interrupt", name="s"))["interrupted"] is True
                    assert _tools(own_processes) == []
                elif how == "cancel":
                    await hub.client.call("rpc.cancel", subscription=stream.subscription)
                    assert _tools(own_processes) == []
            done = event
    assert done is not None
    assert done["outcome"] == ("limited" if how == "timeout" else "cancelled")
    assert _tools(own_processes) == []
    left = own_processes()
    assert len(left) == 1, left  # the binary itself
    asked = len(model.requests)
    assert (await hub.client.call("claudecode.get", name="s"))["state"] == "idle"
    events = await hub.client.events("claudecode.chat", name="s", prompt="next")
    assert [event["content"] for event in events if event["type"] == "assistant_message"] == ["You said: next"]
    # Nor has the binary asked the model what to make of the end of its commands.
    assert [request.kind for request in model.requests[asked:]].count("turn") == 1


async def test_what_a_turn_leaves_in_the_background_lives_on_when_it_ends_by_itself_until_one_is_stopped(
    hub: TestHost, model: ScriptedModel, own_processes: Callable[[], list[str]]
) -> None:
    model.add(Rule("serve", [ToolUse("Bash", {"command": "sleep 4007", "run_in_background": True}), "it runs"]))
    model.add(Rule("wait", [ToolUse("Bash", {"command": "touch begun; sleep 4008"}), "never said"]))
    session = await hub.client.call("claudecode.create", name="s", permission_mode="bypassPermissions")
    await hub.client.events("claudecode.chat", name="s", prompt="serve")
    assert len(_tools(own_processes)) >= 1
    async with hub.client.stream("claudecode.chat", name="s", prompt="wait") as stream:
        async for _, event in stream:
            if event["type"] == "tool_use":
                with trio.fail_after(60):
                    while not await (trio.Path(session["working_dir"]) / "begun").exists():
                        await trio.sleep(0.02)
                await hub.client.call("rpc.cancel", subscription=stream.subscription)
    assert _tools(own_processes) == []
