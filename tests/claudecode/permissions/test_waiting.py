"""What becomes of a request that waits: the time is up, the client is gone, the turn is stopped, the process dies."""

import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from clonk_claudecode.testing.script import Reply, ToolUse
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.testing.host import TestHost
from tests.claudecode.permissions.asking import OpenHub, asked, bash, caller, create, one, refusal, write


@pytest.mark.parametrize("default", ["deny", "allow"])
async def test_a_request_that_nobody_answers_ends_with_the_default(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path, default: str
) -> None:
    model.add(write(workspace / "a.txt"), "I see.")
    async with open_hub(permissions={"timeout_s": 0.3, "default": default}) as hub:
        await create(hub, workspace)
        async with asked(hub) as turn:
            rest = await turn.rest()
        resolved = one(rest, "permission_resolved")
        assert (resolved["state"], resolved["decision"], resolved["by"]) == ("expired", default, None)
        assert "0.3 s" in resolved["reason"]
        assert rest[-1]["outcome"] == "complete"
        assert (workspace / "a.txt").exists() == (default == "allow")
        error = await refusal(
            hub.client.call("claudecode.permit", request_id=turn.request["request_id"], decision="allow")
        )
        assert error.kind == "claudecode.permission_resolved"
        assert (error.data["state"], error.data["decision"], error.data["by"]) == ("expired", default, None)
        assert "in time" in error.message
        (row,) = await hub.client.call("audit.query", kind="tool", after=0)
        assert (row["outcome"], row["detail"]["decided_by"]) == ("denied" if default == "deny" else "ok", None)


async def test_a_turn_that_waits_is_not_cut_for_being_silent_and_one_that_hangs_after_it_is(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path
) -> None:
    model.add(bash("touch a; sleep 300"), "Never said.")
    async with open_hub(turn={"idle_timeout_s": 2.0, "tool_timeout_s": 2.0}) as hub:
        await create(hub, workspace)
        async with asked(hub) as turn:
            await trio.sleep(2.5)  # beyond the patience with a silent binary
            await hub.client.call("claudecode.permit", request_id=turn.request["request_id"], decision="allow")
            rest = await turn.rest()
        assert rest[-1]["outcome"] == "limited"
        assert rest[-1]["error"]["data"]["kind"] == "claudecode.turn_stalled"
        assert (workspace / "a").exists()


async def test_a_request_outlives_the_client_that_was_told_of_it(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add(write(workspace / "a.txt"), "Done.")
    await create(hub, workspace)
    async with asked(hub) as turn:
        pass  # the reader is gone
    (waiting,) = await hub.client.call("claudecode.permissions", name="w")
    assert waiting["request_id"] == turn.request["request_id"]
    # Resumed from before the request, it is shown again; from behind it, only what comes then.
    async with hub.client.stream("rpc.resume", subscription=turn.subscription, after=len(turn.events) - 1) as again:
        _seq, event = await again.__anext__()
        assert event == turn.request
        await caller(hub, "anna").call("claudecode.permit", request_id=waiting["request_id"], decision="allow")
        rest = [event async for _seq, event in again]
    assert (rest[0]["type"], rest[0]["by"]) == ("permission_resolved", "anna")
    assert rest[-1]["outcome"] == "complete"
    assert (workspace / "a.txt").exists()


@pytest.mark.parametrize("how", ["interrupt", "cancel", "delete", "shutdown"])
async def test_a_request_ends_with_its_turn(open_hub: OpenHub, model: ScriptedModel, workspace: Path, how: str) -> None:
    model.add(write(workspace / "a.txt"), "Never said.")
    async with open_hub() as hub:
        await create(hub, workspace)
        async with asked(hub) as turn:
            if how == "interrupt":
                await hub.client.call("claudecode.interrupt", name="w")
            elif how == "cancel":
                await hub.client.call("rpc.cancel", subscription=turn.subscription)
            elif how == "delete":
                await hub.client.call("claudecode.delete", name="w")
            else:
                await hub.app.realm.stop_runs()
            rest = await turn.rest()
        resolved = one(rest, "permission_resolved")
        assert (resolved["request_id"], resolved["state"]) == (turn.request["request_id"], "ended")
        assert (resolved["decision"], resolved["by"]) == (None, None)
        assert rest[-1]["outcome"] == ("failed" if how == "shutdown" else "cancelled")
        assert not (workspace / "a.txt").exists()
        assert await hub.client.call("claudecode.permissions") == []
        if how in {"interrupt", "cancel"}:
            error = await refusal(
                hub.client.call("claudecode.permit", request_id=turn.request["request_id"], decision="allow")
            )
            assert (error.kind, error.data["state"]) == ("claudecode.permission_resolved", "ended")
            model.add("Here again.")
            assert (await hub.client.events("claudecode.chat", name="w", prompt="again"))[-1]["outcome"] == "complete"


async def test_a_request_ends_when_the_binary_is_killed_and_the_session_goes_on(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add(write(workspace / "a.txt"), "Never said.")
    await create(hub, workspace)
    async with asked(hub) as turn:
        (binary,) = [
            process
            for process in psutil.Process().children(recursive=True)
            if "--input-format" in process.cmdline() and process.cwd() == str(workspace.resolve())
        ]
        os.kill(binary.pid, signal.SIGKILL)
        rest = await turn.rest()
    assert one(rest, "permission_resolved")["state"] == "ended"
    assert rest[-1]["error"]["data"]["kind"] == "claudecode.process_died"
    (kept,) = await hub.client.call("claudecode.permissions", state="ended")
    assert kept["request_id"] == turn.request["request_id"]
    model.add("Here again.")
    assert (await hub.client.events("claudecode.chat", name="w", prompt="again"))[-1]["outcome"] == "complete"


async def test_what_waited_when_the_server_was_killed_is_closed_at_the_next_start(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path
) -> None:
    model.add(write(workspace / "a.txt"), "I see.")
    async with open_hub() as hub:
        await create(hub, workspace)
        async with asked(hub) as turn:
            await hub.client.call("claudecode.permit", request_id=turn.request["request_id"], decision="deny")
            await turn.rest()
    _as_it_was_while_it_waited(workspace.parent / "data" / "claudecode.db")
    async with open_hub() as hub:
        assert await hub.client.call("claudecode.permissions") == []
        (kept,) = await hub.client.call("claudecode.permissions", state="any")
        assert (kept["state"], kept["decision"]) == ("ended", None)
        error = await refusal(
            caller(hub, "anna").call("claudecode.permit", request_id=kept["request_id"], decision="allow")
        )
        assert (error.kind, error.data["state"]) == ("claudecode.permission_resolved", "ended")


def _as_it_was_while_it_waited(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute(
        "update permissions set state = 'waiting', decision = null, decided_by = null, decided_at = null,"
        " message = null"
    )
    database.commit()
    database.close()


async def test_what_a_subagent_in_the_background_asks_for_outlives_the_turn_and_is_shown_by_the_next(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    def answer(request: Any) -> Any:
        text = str(request.body["messages"])
        if "SUBTASK" in str(request.body["messages"][0]):
            return "Sub done." if "tool_result" in text else write(workspace / "sub.txt")
        if "tool_use" not in text:
            use = {"description": "d", "prompt": "SUBTASK", "subagent_type": "general-purpose"}
            return Reply([ToolUse("Task", use)])
        return "Main said."

    model.add(*[answer] * 6)
    await create(hub, workspace)
    first = await hub.client.events("claudecode.chat", name="w", prompt="go")
    assert first[-1]["outcome"] == "complete"
    with trio.fail_after(30):
        while not (waiting := await hub.client.call("claudecode.permissions")):
            await trio.sleep(0.05)
    await hub.client.call("claudecode.permit", request_id=waiting[0]["request_id"], decision="allow")
    with trio.fail_after(30):
        while (await hub.client.call("claudecode.get", name="w"))["waiting"] or not (workspace / "sub.txt").exists():
            await trio.sleep(0.05)
    events = await hub.client.events("claudecode.chat", name="w", prompt="next")
    # The subagent may have asked before the end of the turn that started it: then that turn shows the request.
    shown = [event for event in first + events if event["type"].startswith("permission_")]
    assert [event["type"] for event in shown] == ["permission_request", "permission_resolved"]
    assert {event["request_id"] for event in shown} == {waiting[0]["request_id"]}
