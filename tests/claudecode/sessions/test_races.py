"""Calls that come at the same moment, or at a bad one."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio

from clonk_claudecode.testing.script import Reply, Rule, Wait
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost

OpenHub = Callable[..., AbstractAsyncContextManager[TestHost]]
OwnProcesses = Callable[[], list[str]]


async def _outcome(hub: TestHost, name: str, prompt: str) -> str:
    """How a chat ended: the outcome and the kind of its error, wherever that came."""
    try:
        events = await hub.client.events("claudecode.chat", name=name, prompt=prompt)
    except CallError as error:
        return error.kind
    error_object = events[-1].get("error")
    return str(events[-1]["outcome"] if error_object is None else error_object["data"]["kind"])


async def test_of_two_chats_at_once_one_is_answered_and_one_is_told_that_it_is_busy(hub: TestHost) -> None:
    await hub.client.call("claudecode.create", name="one")
    outcomes: list[str] = []

    async def chat() -> None:
        outcomes.append(await _outcome(hub, "one", "hello"))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(chat)
    assert sorted(outcomes) == ["claudecode.session_busy"] * 4 + ["complete"]
    assert len(await hub.client.call("claudecode.history", name="one")) == 2


@pytest.mark.parametrize("checkpoints", [0, 1, 3, 10, 30, 100, 300])
@pytest.mark.parametrize("how", ["claudecode.interrupt", "rpc.cancel", "claudecode.delete"])
async def test_a_chat_stopped_at_any_moment_ends_and_the_name_can_be_used_again(
    hub: TestHost, how: str, checkpoints: int, own_processes: OwnProcesses
) -> None:
    await hub.client.call("claudecode.create", name="one")
    async with hub.client.stream("claudecode.chat", name="one", prompt="hello") as stream:
        for _ in range(checkpoints):
            await trio.lowlevel.checkpoint()
        if how == "rpc.cancel":
            await hub.client.call(how, subscription=stream.subscription)
        else:
            await hub.client.call(how, name="one")
        last = [event async for _seq, event in stream][-1]
    assert last["type"] == "done"
    if how == "claudecode.delete":
        assert own_processes() == []
        await hub.client.call("claudecode.create", name="one")
        assert await hub.client.call("claudecode.history", name="one") == []
    assert await _outcome(hub, "one", "again") == "complete"
    kept = [one["content"] for one in await hub.client.call("claudecode.history", name="one")]
    assert kept[-1] == [{"type": "text", "text": "You said: again"}]


async def test_a_session_deleted_and_made_anew_while_a_turn_starts_has_an_empty_history(
    hub: TestHost, tmp_path: Path, own_processes: OwnProcesses
) -> None:
    old = await hub.client.call("claudecode.create", name="one")
    old = await hub.client.call("claudecode.get", name="one")
    async with hub.client.stream("claudecode.chat", name="one", prompt="for the old one") as stream:
        await hub.client.call("claudecode.delete", name="one")
        await hub.client.call("claudecode.create", name="one")
        assert [event async for _seq, event in stream][-1]["outcome"] != "complete"
    assert await hub.client.call("claudecode.history", name="one") == []
    assert not list((tmp_path / "data").rglob(f"*{old['claude_session_id']}*"))
    assert own_processes() == []


async def test_chats_that_wait_for_a_free_process_are_interrupted_at_once(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path
) -> None:
    model.add(Rule("hold", Reply(["held ", Wait("gate"), "free"])))
    async with open_hub(session={"max_concurrent": 1}, turn={"capacity_wait_s": 600}) as hub:
        for name in ("busy", "waiting"):
            await hub.client.call("claudecode.create", name=name)
        async with (
            hub.client.stream("claudecode.chat", name="busy", prompt="hold") as busy,
            hub.client.stream("claudecode.chat", name="waiting", prompt="hello") as waiting,
        ):
            await model.wait_reached("gate")
            while (await hub.client.call("claudecode.get", name="waiting"))["state"] != "busy":
                await trio.lowlevel.checkpoint()
            answer = await hub.client.call("claudecode.interrupt", name="waiting")
            assert answer["interrupted"] is True
            assert [event async for _seq, event in waiting][-1]["outcome"] == "cancelled"
            model.release("gate")
            assert [event async for _seq, event in busy][-1]["outcome"] == "complete"
        assert await _outcome(hub, "waiting", "hello again") == "complete"


async def test_a_chat_beyond_the_limit_is_told_so_in_time(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path
) -> None:
    model.add(Rule("hold", Reply(["held ", Wait("gate"), "free"])))
    async with open_hub(session={"max_concurrent": 1}, turn={"capacity_wait_s": 0.1}) as hub:
        for name in ("busy", "waiting"):
            await hub.client.call("claudecode.create", name=name)
        async with hub.client.stream("claudecode.chat", name="busy", prompt="hold") as busy:
            await model.wait_reached("gate")
            assert await _outcome(hub, "waiting", "hello") == "claudecode.capacity"
            model.release("gate")
            assert [event async for _seq, event in busy][-1]["outcome"] == "complete"


async def test_many_sessions_share_few_processes_and_each_keeps_its_own_conversation(
    open_hub: OpenHub, workspace: Path
) -> None:
    async with open_hub(session={"max_concurrent": 2}, turn={"capacity_wait_s": 60}) as hub:
        names = [f"s{number}" for number in range(4)]

        async def talk(name: str) -> None:
            await hub.client.call("claudecode.create", name=name)
            for number in range(2):
                assert await _outcome(hub, name, f"{name} {number}") == "complete"

        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(talk, name)
        for name in names:
            history = await hub.client.call("claudecode.history", name=name)
            assert [one["content"] for one in history if one["role"] == "user"] == [f"{name} 0", f"{name} 1"]


async def test_names_that_differ_by_case_are_two_sessions(hub: TestHost) -> None:
    for name in ("Feature", "feature"):
        await hub.client.call("claudecode.create", name=name)
    assert await _outcome(hub, "Feature", "hello") == "complete"
    assert len(await hub.client.call("claudecode.history", name="Feature")) == 2
    assert await hub.client.call("claudecode.history", name="feature") == []
    await hub.client.call("claudecode.delete", name="feature")
    assert [one["name"] for one in await hub.client.call("claudecode.list")] == ["Feature"]
