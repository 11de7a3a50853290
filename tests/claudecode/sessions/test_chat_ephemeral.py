"""Prompts that leave no trace."""

import subprocess
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_claudecode.testing.script import Reply, Rule, ToolUse, Wait
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost

OpenHub = Callable[..., AbstractAsyncContextManager[TestHost]]
SECRET = "pineapple-7731"


async def _chat(hub: TestHost, prompt: str, **options: Any) -> list[Any]:
    return await hub.client.events("claudecode.chat", name="s", prompt=prompt, **options)


async def _seen(hub: TestHost) -> list[Any]:
    """All that is kept of the session."""
    session = await hub.client.call("claudecode.get", name="s")
    tree = await hub.client.call("arbor.tree_get", id=session["tree_id"])
    below = await hub.client.call("arbor.node_children", node_id=session["snapshot_id"])
    spent = await hub.client.call("claudecode.usage", session="s")
    return [session | {"state": None}, tree, below, spent, await hub.client.call("claudecode.history", name="s")]


def _files_with(folder: Path, text: str) -> list[str]:
    found = subprocess.run(["grep", "-rlF", text, str(folder)], capture_output=True, text=True, check=False)
    return found.stdout.splitlines()


def _said(model: ScriptedModel, prompt: str) -> str:
    """The whole request in which a prompt was said."""
    return str([request.body["messages"] for request in model.requests if request.prompt == prompt])


async def test_an_ephemeral_prompt_knows_the_conversation_and_leaves_no_trace(
    hub: TestHost, model: ScriptedModel, tmp_path: Path
) -> None:
    model.add(Rule(SECRET, [ToolUse("Bash", {"command": "echo from the fork"}), f"known: {SECRET}"]))
    await hub.client.call("claudecode.create", name="s", permission_mode="bypassPermissions")
    await _chat(hub, "remember apples")
    before = await _seen(hub)
    events = await _chat(hub, f"say {SECRET}", ephemeral=True)
    assert [events[0]["type"], events[-1]["type"], events[-1]["outcome"]] == ["started", "done", "complete"]
    assert (events[0]["snapshot_id"], events[-1]["snapshot_id"]) == (None, None)
    assert events[-1]["usage"]["output_tokens"] > 0
    assert {"tool_use", "tool_result", "assistant_message"} <= {event["type"] for event in events}
    assert "remember apples" in _said(model, f"say {SECRET}")
    assert await _seen(hub) == before
    assert sum(one["turns"] for one in await hub.client.call("claudecode.usage")) == 2  # the tenant has spent it
    assert _files_with(tmp_path / "data" / "claudecode" / "claude", SECRET) == []
    await _chat(hub, "what was said?")
    assert SECRET not in _said(model, "what was said?")


async def test_a_busy_session_answers_an_ephemeral_prompt_from_its_last_finished_message(
    hub: TestHost, model: ScriptedModel
) -> None:
    model.add(Rule("begun", [Reply([Wait("begun")])]))
    await hub.client.call("claudecode.create", name="s")
    await _chat(hub, "finished")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ignore, hub, "begun")
        await model.wait_reached("begun")
        events = await _chat(hub, "aside", ephemeral=True)
        assert events[-1]["outcome"] == "complete"
        assert "finished" in _said(model, "aside")
        assert "begun" not in _said(model, "aside")
        model.release("begun")


async def test_an_ephemeral_prompt_to_a_session_that_never_said_anything_is_answered(
    hub: TestHost, model: ScriptedModel
) -> None:
    await hub.client.call("claudecode.create", name="s")
    assert (await _chat(hub, "first of all", ephemeral=True))[-1]["outcome"] == "complete"
    assert (await hub.client.call("claudecode.get", name="s"))["message_count"] == 0
    assert (await _chat(hub, "second"))[-1]["outcome"] == "complete"
    assert "first of all" not in _said(model, "second")


async def test_an_ephemeral_prompt_is_cancelled_ends_with_its_session_and_takes_a_place(
    open_hub: OpenHub, model: ScriptedModel, own_processes: Callable[[], list[str]]
) -> None:
    for name in ("one", "two"):
        model.add(Rule(f"slow {name}", [Reply([Wait(name)])]))
    async with open_hub(session={"max_concurrent": 1}, turn={"capacity_wait_s": 0.2}) as hub:
        await hub.client.call("claudecode.create", name="s")
        ends: dict[str, Any] = {}

        async def ask(name: str) -> None:
            async with hub.client.stream("claudecode.chat", name="s", prompt=f"slow {name}", ephemeral=True) as stream:
                ends[name] = stream.subscription
                async for _, event in stream:
                    ends[f"{name} done"] = event

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "one")
            await model.wait_reached("one")
            done = (await _chat(hub, "no room"))[-1]
            assert done["error"]["data"]["kind"] == "claudecode.capacity"
            await hub.client.call("rpc.cancel", subscription=ends["one"])
        assert ends["one done"]["outcome"] == "cancelled"
        assert [line for line in own_processes() if "--fork-session" in line or "--session-id" in line] == []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "two")
            await model.wait_reached("two")
            await hub.client.call("claudecode.delete", name="s")
        assert ends["two done"]["outcome"] == "cancelled"


async def test_what_a_crash_left_of_an_ephemeral_conversation_is_gone_after_the_next_start(
    open_hub: OpenHub, model: ScriptedModel, tmp_path: Path
) -> None:
    left = "11111111-2222-3333-4444-555555555555"
    claude = tmp_path / "data" / "claudecode" / "claude"
    async with open_hub() as hub:
        await hub.client.call("claudecode.create", name="s")
        await _chat(hub, "kept")
        database = hub.app.realm.databases["claudecode"]
        await database.run(_note, left)
    (kept,) = claude.glob("projects/*/*.jsonl")
    for path in (kept.with_name(f"{left}.jsonl"), claude / "session-env" / left / "x"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a trace", encoding="utf-8")
    async with open_hub() as hub:
        assert [path for path in claude.rglob("*") if left in str(path)] == []
        assert kept.exists()
        assert await hub.app.realm.databases["claudecode"].read(_noted) == 0
        assert (await _chat(hub, "goes on"))[-1]["outcome"] == "complete"


async def test_a_fork_is_noted_before_its_process_starts(hub: TestHost, model: ScriptedModel) -> None:
    model.add(Rule("slow", [Reply([Wait("slow")])]))
    await hub.client.call("claudecode.create", name="s")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ephemeral, hub, "slow")
        await model.wait_reached("slow")
        assert await hub.app.realm.databases["claudecode"].read(_noted) == 1
        model.release("slow")
    assert await hub.app.realm.databases["claudecode"].read(_noted) == 0


async def test_of_an_unknown_session_nothing_is_answered(hub: TestHost) -> None:
    with pytest.raises(CallError) as caught:
        await _chat(hub, "hello", ephemeral=True)
    assert caught.value.kind == "not_found"


async def _ephemeral(hub: TestHost, prompt: str) -> None:
    await _chat(hub, prompt, ephemeral=True)


async def _ignore(hub: TestHost, prompt: str) -> None:
    await _chat(hub, prompt)


def _note(transaction: Any, claude_session_id: str) -> None:
    columns = "claude_session_id, turn_id, started_at"
    sql = f"insert into ephemeral_forks ({columns}) values (:id, 'sub_gone', '2026-01-01T00:00:00.000Z')"
    transaction.execute(sql, {"id": claude_session_id})


def _noted(transaction: Any) -> int:
    return int(transaction.one("select count(*) from ephemeral_forks")[0])
