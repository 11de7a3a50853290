"""What a prompt asks of its own turn: time, calls, budget, model, whole messages only."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio

from clonk_claudecode.testing.script import Attempts, Cut, Reply, Rule, Sleep, Text, ToolUse, Usage, Wait
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost

OpenHub = Callable[..., AbstractAsyncContextManager[TestHost]]


async def _chat(hub: TestHost, prompt: str, **options: Any) -> list[Any]:
    return await hub.client.events("claudecode.chat", name="s", prompt=prompt, **options)


def _limit(events: list[Any]) -> tuple[str, str, str]:
    done = events[-1]
    return done["outcome"], done["error"]["data"]["kind"], done["error"]["data"]["limit"]


def _looping() -> Rule:
    return Rule("loop", [ToolUse("Bash", {"command": f"echo {number}"}) for number in range(6)])


async def test_calls_budget_and_time_of_one_turn_are_limited_and_of_that_turn_only(
    hub: TestHost, model: ScriptedModel
) -> None:
    model.add(_looping())
    model.add(Rule("costly", [Reply([ToolUse("Bash", {"command": "echo paid"})], usage=Usage(output_tokens=50_000))]))
    model.add(Rule("slow", [Reply([Wait("never")])]))
    await hub.client.call("claudecode.create", name="s", permission_mode="bypassPermissions")
    loop = await _chat(hub, "loop", max_turns=2)
    assert _limit(loop) == ("limited", "claudecode.turn_limit", "max_turns")
    assert loop[-1]["error"]["data"]["value"] == 2
    assert len([event for event in loop if event["type"] == "tool_use"]) == 2
    costly = await _chat(hub, "costly", max_budget_usd=0.01)
    assert _limit(costly) == ("limited", "claudecode.turn_limit", "max_budget_usd")
    assert costly[-1]["error"]["data"]["value"] == 0.01
    slow = await _chat(hub, "slow", timeout_s=1.5)
    assert _limit(slow) == ("limited", "claudecode.turn_limit", "timeout_s")
    assert slow[-1]["error"]["data"]["value"] == 1.5
    whole = await _chat(hub, "loop again")
    assert whole[-1]["outcome"] == "complete"
    assert len([event for event in whole if event["type"] == "tool_use"]) == 6


async def test_the_configuration_limits_every_turn_and_no_prompt_may_ask_for_more(
    open_hub: OpenHub, model: ScriptedModel
) -> None:
    model.add(_looping())
    async with open_hub(turn={"max_turns": 2, "max_budget_usd": 5.0, "timeout_s": 600.0}) as hub:
        await hub.client.call("claudecode.create", name="s", permission_mode="bypassPermissions")
        for name, too_much in (("max_turns", 3), ("max_budget_usd", 5.01), ("timeout_s", 601)):
            with pytest.raises(CallError) as caught:
                await _chat(hub, "loop", **{name: too_much})
            assert (caught.value.kind, caught.value.data["path"]) == ("invalid_params", f"$.{name}")
        assert _limit(await _chat(hub, "loop")) == ("limited", "claudecode.turn_limit", "max_turns")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"max_turns": 0}, "$.max_turns"),
    ({"max_turns": 1.5}, "$.max_turns"),
    ({"max_budget_usd": 0}, "$.max_budget_usd"),
    ({"timeout_s": 0}, "$.timeout_s"),
    ({"timeout_s": 604_801}, "$.timeout_s"),
    ({"model": "--evil"}, "$.model"),
    ({"queue": "yes"}, "$.queue"),
    ({"partial": 1}, "$.partial"),
    ({"idempotency_key": ""}, "$.idempotency_key"),
    ({"idempotency_key": "x" * 201}, "$.idempotency_key"),
]


async def test_wrong_options_are_refused_with_their_path(hub: TestHost) -> None:
    await hub.client.call("claudecode.create", name="s")
    for options, path in WRONG:
        with pytest.raises(CallError) as caught:
            await _chat(hub, "hello", **options)
        assert (caught.value.kind, caught.value.data["path"]) == ("invalid_params", path)


async def test_another_model_answers_one_prompt_and_the_sessions_own_the_next(
    open_hub: OpenHub, model: ScriptedModel
) -> None:
    model.add(Rule("cut", [Reply([Wait("never")])]))
    async with open_hub() as hub:
        await hub.client.call("claudecode.create", name="s", model="sonnet")
        for prompt, wanted in (("one", None), ("two", "haiku"), ("three", None)):
            events = await _chat(hub, prompt, model=wanted)
            assert events[0]["model"] == (wanted or "sonnet")
            assert events[-1]["outcome"] == "complete"
        assert (await hub.client.call("claudecode.get", name="s"))["model"] == "sonnet"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_chat_until_the_end, hub, "cut", {"model": "haiku"})
            await model.wait_reached("never")
            await hub.app.realm.stop_runs()
    async with open_hub() as hub:
        assert (await _chat(hub, "four"))[-1]["outcome"] == "complete"
        prompts = [one["content"] for one in await hub.client.call("claudecode.history", name="s")]
        assert [prompt for prompt in prompts if isinstance(prompt, str)] == ["one", "two", "three", "cut", "four"]
    families = [str(request.body["model"]).split("-")[1] for request in model.requests]
    assert families == ["sonnet", "haiku", "sonnet", "haiku", "sonnet"]


async def _chat_until_the_end(hub: TestHost, prompt: str, options: dict[str, Any]) -> None:
    await _chat(hub, prompt, **options)


async def test_whole_messages_only_leave_out_what_is_still_being_written(hub: TestHost, model: ScriptedModel) -> None:
    half = Reply([Text("one two "), Sleep(0.3), Text("three")])
    for name in ("parts", "whole"):
        model.add(Rule(name, [Attempts([Cut(after=5, reply=half), "one two three", "one two three"])]))
    await hub.client.call("claudecode.create", name="s")
    assert {"text_delta", "restart"} <= {event["type"] for event in await _chat(hub, "parts")}
    events = await _chat(hub, "whole", partial=False)
    assert {event["type"] for event in events}.isdisjoint({"text_delta", "thinking_delta", "restart"})
    assert [event["content"] for event in events if event["type"] == "assistant_message"] == ["one two three"]
