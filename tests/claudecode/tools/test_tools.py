"""Methods of activations as tools: Claude sees them, uses them, and is told what came of it."""

import json
import os
import signal
from typing import Any

import trio

from clonk_claudecode.testing.script import Reply, ToolUse
from clonk_claudecode.testing.scripted_model import ScriptedModel
from tests.claudecode.tools.conftest import House, OpenHouse, activations_of, tool_results

ROLL = "mcp__clonk__dice_roll"


async def test_a_tool_is_shown_to_claude_with_its_schema_used_without_asking_and_written_down(
    house: House, model: ScriptedModel
) -> None:
    model.add(Reply([ToolUse(ROLL, {"sides": 20})]), "Done.")
    await house.create(tools=["dice.roll"])
    assert (await house.local.call("claudecode.get", name="w"))["tools"] == ["dice.roll"]
    events = await house.chat()
    ((text, is_error),) = tool_results(events)
    assert (json.loads(text), is_error) == ({"sides": 20, "value": 19}, False)
    first, second = (request for request in model.requests if request.kind == "turn")
    (shown,) = (tool for tool in first.body["tools"] if tool["name"].startswith("mcp__"))
    assert shown["name"] == ROLL
    assert shown["description"] == "Throw one die."
    assert shown["input_schema"]["properties"]["sides"]["maximum"] == 1000
    assert '\\"value\\":19' in json.dumps(second.messages)
    (caller,) = house.dice.callers
    assert (caller.id, caller.kind, caller.scopes) == ("local", "session", frozenset({"dice:read"}))
    (run,) = await house.local.call("rpc.subscriptions")
    (row,) = await house.rows(kind="call", action="dice.roll")
    assert (row["caller"], row["outcome"], row["peer"], row["run_id"]) == (
        "local",
        "ok",
        "session w",
        run["subscription"],
    )
    (row,) = await house.rows(kind="tool")
    assert (row["action"], row["target"], row["outcome"]) == (ROLL, "w", "ok")


async def test_wrong_arguments_and_errors_of_the_activation_are_told_to_claude(
    house: House, model: ScriptedModel
) -> None:
    wrong: list[dict[str, Any]] = [{"sides": 1}, {"sides": "six"}, {"edges": 6}, {"sides": 13}]
    model.add(
        *(Reply([ToolUse(ROLL, tool_input)]) for tool_input in wrong),
        Reply([ToolUse("mcp__clonk__dice_meet", {"number": 1})]),
        "Done.",
    )
    await house.create(tools=["dice.roll"])
    results = tool_results(await house.chat())
    assert all(is_error for _, is_error in results)
    texts = [text for text, _ in results]
    assert texts[0].startswith("invalid_params: ")
    assert "sides" in texts[0]
    assert "sides" in texts[1]
    assert "edges" in texts[2]
    assert texts[3] == "dice.loaded: a die of 13 sides always shows 13"
    assert "dice_meet" in texts[4]  # there, and not given


async def test_a_session_uses_two_tools_at_once(house: House, model: ScriptedModel) -> None:
    model.add(Reply([ToolUse("mcp__clonk__dice_meet", {"number": number}) for number in (1, 2)]), "Done.")
    await house.create(tools=["dice.*"])
    assert tool_results(await house.chat()) == [("met 1", False), ("met 2", False)]


async def test_events_are_collected_and_long_results_are_cut(open_house: OpenHouse, model: ScriptedModel) -> None:
    stream, shout = "mcp__clonk__dice_stream", "mcp__clonk__dice_shout"
    model.add(
        Reply([ToolUse(stream, {"count": 3})]),
        Reply([ToolUse(stream, {"count": 1000})]),
        Reply([ToolUse(shout, {"length": 2000})]),
        "Done.",
    )
    async with open_house(tools={"max_result_bytes": 1001}) as house:
        await house.create(tools=["dice.*"])
        (few, _), (many, _), (long, _) = tool_results(await house.chat())
        assert few.splitlines()[:3] == ['"throw 0"', '"throw 1"', '"throw 2"']
        assert json.loads(few.splitlines()[3])["outcome"] == "complete"
        assert len(many) < 1300
        assert "more events are left out" in many
        assert json.loads(many.splitlines()[-1])["outcome"] == "complete"
        assert long == "ä" * 500 + "\n[cut: the first 1001 of 4000 bytes]"


async def test_a_call_that_takes_too_long_is_stopped_and_claude_is_told(
    open_house: OpenHouse, model: ScriptedModel
) -> None:
    model.add(Reply([ToolUse("mcp__clonk__dice_hang", {})]), "Done.")
    async with open_house(tools={"deadline_s": 0.2}) as house:
        await house.create(tools=["dice.hang"])
        ((text, is_error),) = tool_results(await house.chat())
        assert is_error
        assert text.startswith("deadline_exceeded: dice.hang")
        assert house.dice.cancelled.is_set()


async def test_a_call_ends_with_the_turn_that_is_interrupted_and_the_session_goes_on(
    house: House, model: ScriptedModel
) -> None:
    model.add(Reply([ToolUse("mcp__clonk__dice_hang", {})]))
    await house.create(tools=["dice.*"])
    async with house.local.stream("claudecode.chat", name="w", prompt="go") as events:
        await house.dice.begun.wait()
        await house.local.call("claudecode.interrupt", name="w")
        with trio.fail_after(20):
            await house.dice.cancelled.wait()
        assert [event async for _, event in events][-1]["outcome"] == "cancelled"
    (row,) = await house.rows(kind="call", action="dice.hang")
    assert row["outcome"] == "cancelled"
    model.add(Reply([ToolUse(ROLL, {})]), "Done.")
    assert tool_results(await house.chat()) == [('{"sides":6,"value":5}', False)]


async def test_a_call_ends_with_the_process_that_asked_for_it(house: House, model: ScriptedModel) -> None:
    model.add(Reply([ToolUse("mcp__clonk__dice_hang", {})]))
    await house.create(tools=["dice.*"])
    (activation,) = activations_of(house, "claudecode")
    async with house.local.stream("claudecode.chat", name="w", prompt="go") as events:
        await house.dice.begun.wait()
        session = await activation._sessions.find("w")
        os.kill(activation._sessions.engine.pid(session.id), signal.SIGKILL)
        with trio.fail_after(20):
            await house.dice.cancelled.wait()
        assert [event async for _, event in events][-1]["outcome"] == "failed"
    model.add(Reply([ToolUse(ROLL, {})]), "Done.")
    assert tool_results(await house.chat())[-1] == ('{"sides":6,"value":5}', False)


async def test_an_ephemeral_prompt_uses_the_tools_beside_another_turn_of_the_session(
    house: House, model: ScriptedModel
) -> None:
    model.add("Hello.", Reply([ToolUse("mcp__clonk__dice_meet", {"number": 1})]))
    await house.create(tools=["dice.*"])
    await house.chat()
    async with house.local.stream("claudecode.chat", name="w", prompt="go") as events:
        with trio.fail_after(20):
            await house.dice.one.wait()
        model.add(Reply([ToolUse("mcp__clonk__dice_meet", {"number": 2})]), "Met.", "Met.")
        beside = await house.local.events("claudecode.chat", name="w", prompt="go", ephemeral=True)
        assert tool_results(beside) == [("met 2", False)]
        assert tool_results([event async for _, event in events]) == [("met 1", False)]
    rows = await house.rows(kind="call", action="dice.meet")
    assert len({row["run_id"] for row in rows}) == 2


async def test_tools_are_there_after_the_session_was_parked_and_after_a_restart(
    open_house: OpenHouse, model: ScriptedModel
) -> None:
    roll = Reply([ToolUse(ROLL, {})]), "Done."
    async with open_house(session={"max_concurrent": 1}) as house:
        model.add(*roll, "Yes.", *roll)
        await house.create(tools=["dice.roll"])
        await house.create(name="other")
        first = await house.chat()
        await house.chat(name="other")
        assert (await house.local.call("claudecode.get", name="w"))["state"] == "parked"
        again = await house.chat()
    async with open_house() as house:
        model.add(*roll)
        restarted = await house.chat()
    for events in (first, again, restarted):
        assert tool_results(events) == [('{"sides":6,"value":5}', False)]


async def test_tools_are_taken_away_and_given_anew(house: House, model: ScriptedModel) -> None:
    await house.create(tools=["dice.roll"])
    model.add("One.")
    await house.chat()
    changed = await house.local.call("claudecode.update", name="w", tools=["dice.meet", "dice.shout"])
    assert changed["tools"] == ["dice.meet", "dice.shout"]
    model.add("Two.")
    await house.chat()
    assert (await house.local.call("claudecode.update", name="w", tools=[]))["tools"] == []
    model.add(Reply([ToolUse("mcp__clonk__dice_shout", {"length": 1})]), "Three.")
    ((_, is_error),) = tool_results(await house.chat())
    assert is_error
    shown = [
        sorted(tool["name"] for tool in request.body["tools"] if tool["name"].startswith("mcp__"))
        for request in model.requests
        if request.kind == "turn"
    ]
    assert shown[:3] == [[ROLL], ["mcp__clonk__dice_meet", "mcp__clonk__dice_shout"], []]
