"""Each use of a tool is a row of the audit log, however it ends."""

import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from clonk_claudecode.testing.script import Reply, ToolUse
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.errors import StorageFull
from clonk_core.gateway_messages import AuditEntry
from clonk_core.testing.host import TestHost

OpenHub = Callable[..., AbstractAsyncContextManager[TestHost]]


async def _rows(hub: TestHost, **filters: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = await hub.client.call("audit.query", kind="tool", after=0, **filters)
    return rows


async def _chat(hub: TestHost, prompt: str = "go") -> list[Any]:
    return await hub.client.events("claudecode.chat", name="w", prompt=prompt)


def _digest(tool_input: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tool_input, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


async def test_a_tool_that_was_used_is_a_row_with_its_input_and_result(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    write = {"file_path": str(workspace / "a.txt"), "content": "x" * 5000}
    read = {"file_path": str(workspace / "nothing.txt")}
    model.add(Reply([ToolUse("Write", write)]), Reply([ToolUse("Read", read)]), "Done.")
    await hub.client.call("claudecode.create", name="w", working_dir=str(workspace), permission_mode="acceptEdits")
    events = await _chat(hub)
    uses = [event for event in events if event["type"] == "tool_use"]
    rows = await _rows(hub)
    assert [(row["action"], row["outcome"], row["detail"]["result"]) for row in rows] == [
        ("Write", "ok", "ok"),
        ("Read", "error", "error"),
    ]
    for row, use in zip(rows, uses, strict=True):
        assert (row["target"], row["caller"], row["transport"]) == ("w", "local", "inside")
        assert row["detail"]["decision"] == "allowed"
        assert row["detail"]["tool_use_id"] == use["tool_use_id"]
        assert row["detail"]["input_digest"] == _digest(use["input"])
        assert row["duration_ms"] > 0
    assert len(rows[0]["detail"]["input"]["content"]) < 1024
    assert rows[1]["detail"]["input"] == read
    (run,) = await hub.client.call("rpc.subscriptions")
    assert {row["run_id"] for row in rows} == {run["subscription"]}
    assert (await hub.client.call("audit.verify"))["intact"]


@pytest.mark.parametrize("mode", ["default", "dontAsk"])
async def test_a_tool_that_was_denied_says_so(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path, mode: str
) -> None:
    model.add(Reply([ToolUse("Write", {"file_path": str(workspace / "a.txt"), "content": "x"})]), "I may not.")
    async with open_hub(permissions={"timeout_s": 0.1}) as hub:
        await hub.client.call("claudecode.create", name="w", working_dir=str(workspace), permission_mode=mode)
        await _chat(hub)
        (row,) = await _rows(hub)
    assert (row["action"], row["outcome"], row["detail"]["decision"]) == ("Write", "denied", "denied")


@pytest.mark.parametrize("how", ["interrupt", "cancel", "delete", "shutdown"])
async def test_a_tool_whose_turn_is_cut_is_a_row_too(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path, how: str
) -> None:
    model.add(Reply([ToolUse("Bash", {"command": "sleep 300"})]), "Done.")
    async with open_hub() as hub:
        await hub.client.call(
            "claudecode.create", name="w", working_dir=str(workspace), permission_mode="bypassPermissions"
        )
        async with hub.client.stream("claudecode.chat", name="w", prompt="go") as events:
            async for _, event in events:
                if event["type"] == "tool_use":
                    break
            if how == "interrupt":
                await hub.client.call("claudecode.interrupt", name="w")
            elif how == "cancel":
                await hub.client.call("rpc.cancel", subscription=events.subscription)
            elif how == "delete":
                await hub.client.call("claudecode.delete", name="w")
            else:
                await hub.app.realm.stop_runs()
        await trio.testing.wait_all_tasks_blocked(0.2)
    async with open_hub() as hub:
        (row,) = await _rows(hub)
    # An interrupted command gives a result, when there is time for it.
    assert (row["action"], row["target"]) == ("Bash", "w")
    assert row["outcome"] in {"unknown", "error"}


async def test_a_use_that_a_crash_cut_off_is_written_down_at_the_next_start(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path
) -> None:
    async with open_hub() as hub:
        await hub.client.call("claudecode.create", name="w", working_dir=str(workspace))
    # What a crash in the middle of a tool leaves behind.
    database = sqlite3.connect(workspace.parent / "data" / "claudecode.db")
    (session_id,) = database.execute("select id from sessions").fetchone()
    database.execute(
        "insert into turns (id, session_id, started_at) values ('sub_cut', ?, '2026-01-01T00:00:00.000Z')",
        (session_id,),
    )
    database.execute(
        "insert into tool_calls (session_id, tool_use_id, turn_id, tool, input, started_at)"
        " values (?, 'toolu_1', 'sub_cut', 'Bash', '{\"command\": \"make\"}', '2026-01-01T00:00:00.000Z')",
        (session_id,),
    )
    database.commit()
    database.close()
    async with open_hub():
        pass
    async with open_hub() as hub:
        (row,) = await _rows(hub)
    assert (row["action"], row["outcome"], row["run_id"], row["target"]) == ("Bash", "unknown", "sub_cut", "w")
    assert row["detail"]["input"] == {"command": "make"}
    assert row["caller"] == "service:claudecode"


async def test_a_log_that_cannot_be_written_does_not_cost_the_turn(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    class FullLog:
        async def write(self, entry: AuditEntry) -> None:
            raise StorageFull("no room left")

    model.add(Reply([ToolUse("Write", {"file_path": str(workspace / "a.txt"), "content": "x"})]), "Done.")
    await hub.client.call("claudecode.create", name="w", working_dir=str(workspace), permission_mode="acceptEdits")
    hub.app.realm.audit, whole = FullLog(), hub.app.realm.audit
    # The call itself is refused by a log that is full; here it is the tool's row alone.
    params = {"name": "w", "prompt": "go"}
    method = hub.app.realm.method("claudecode.chat")
    answer = await hub.app.realm.invoke(method, params, hub.app.realm.current_caller("test"), "req_test")
    outcomes = []
    async with answer.run.follow() as batches:  # type: ignore[union-attr]
        async for batch in batches:
            outcomes += [json.loads(event.payload).get("outcome") for event in batch]
    hub.app.realm.audit = whole
    assert outcomes[-1] == "complete"
    assert "a tool use is missing in the audit log" in hub.log_text
