"""Answers to permission requests: what Claude Code does then, what is shown, kept and audited."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost
from tests.claudecode.permissions.asking import OpenHub, asked, bash, caller, create, one, refusal, write


async def test_a_request_is_shown_stored_and_answered_by_another_client(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add(write(workspace / "a.txt"), "Done.")
    await create(hub, workspace)
    async with asked(hub) as turn:
        request = turn.request
        use = one(turn.events, "tool_use")
        assert (request["kind"], request["tool"], request["input"]) == ("tool", "Write", use["input"])
        assert request["tool_use_id"] == use["tool_use_id"]
        assert not (workspace / "a.txt").exists()
        (waiting,) = await hub.client.call("claudecode.permissions")
        assert {
            name: waiting[name] for name in ("request_id", "session", "tool", "input", "subscription", "state")
        } == {
            "request_id": request["request_id"],
            "session": "w",
            "tool": "Write",
            "input": use["input"],
            "subscription": turn.subscription,
            "state": "waiting",
        }
        assert waiting["expires_at"] == request["expires_at"]
        assert 0 <= waiting["age_s"] < 60
        session = await hub.client.call("claudecode.get", name="w")
        assert (session["waiting"], session["state"]) == ([request["request_id"]], "busy")
        answer = await caller(hub, "anna").call("claudecode.permit", request_id=request["request_id"], decision="allow")
        assert (answer["state"], answer["decision"], answer["decided_by"]) == ("allowed", "allow", "anna")
        rest = await turn.rest()
    assert [event["type"] for event in rest[:2]] == ["permission_resolved", "tool_result"]
    assert rest[0] == {
        "type": "permission_resolved",
        "request_id": request["request_id"],
        "state": "allowed",
        "decision": "allow",
        "by": "anna",
        "reason": None,
    }
    assert rest[-1]["outcome"] == "complete"
    assert (workspace / "a.txt").read_text() == "x"
    assert await hub.client.call("claudecode.permissions") == []
    (kept,) = await hub.client.call("claudecode.permissions", state="any")
    assert (kept["state"], kept["decided_by"]) == ("allowed", "anna")
    (row,) = await hub.client.call("audit.query", kind="tool", after=0)
    assert (row["outcome"], row["detail"]["decision"], row["detail"]["decided_by"]) == ("ok", "allowed", "anna")
    assert row["detail"]["request_id"] == request["request_id"]


async def test_a_denial_reaches_claude_with_its_message_and_the_turn_goes_on(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add(write(workspace / "a.txt"), "I see.")
    await create(hub, workspace)
    async with asked(hub) as turn:
        await caller(hub, "anna").call(
            "claudecode.permit", request_id=turn.request["request_id"], decision="deny", message="Not in this folder."
        )
        rest = await turn.rest()
    resolved = one(rest, "permission_resolved")
    assert (resolved["state"], resolved["reason"]) == ("denied", "Not in this folder.")
    result = one(rest, "tool_result")
    assert (result["content"], result["is_error"]) == ("Not in this folder.", True)
    assert rest[-1]["outcome"] == "complete"
    assert not (workspace / "a.txt").exists()
    (row,) = await hub.client.call("audit.query", kind="tool", after=0)
    assert (row["outcome"], row["detail"]["decided_by"]) == ("denied", "anna")


async def test_a_denial_can_stop_the_turn(hub: TestHost, model: ScriptedModel, workspace: Path) -> None:
    model.add(write(workspace / "a.txt"), "Never said.")
    await create(hub, workspace)
    async with asked(hub) as turn:
        await hub.client.call(
            "claudecode.permit", request_id=turn.request["request_id"], decision="deny", interrupt=True
        )
        rest = await turn.rest()
    assert "Never said." not in str(rest)
    assert len(model.turns) == 1
    assert rest[-1]["outcome"] != "complete"
    model.add("Here again.")
    assert (await hub.client.events("claudecode.chat", name="w", prompt="again"))[-1]["outcome"] == "complete"


async def test_a_changed_input_is_what_the_tool_is_used_with(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add(bash("touch asked"), "Done.")
    await create(hub, workspace)
    changed = {"command": "touch changed; echo changed it"}
    async with asked(hub) as turn:
        await hub.client.call(
            "claudecode.permit", request_id=turn.request["request_id"], decision="allow", updated_input=changed
        )
        rest = await turn.rest()
    assert one(rest, "tool_result")["content"] == "changed it"
    assert [path.name for path in workspace.iterdir()] == ["changed"]
    (kept,) = await hub.client.call("claudecode.permissions", state="allowed")
    assert (kept["input"], kept["updated_input"]) == ({"command": "touch asked"}, changed)
    (row,) = await hub.client.call("audit.query", kind="tool", after=0)
    assert row["detail"]["updated_input"] == changed


async def test_what_is_allowed_always_is_not_asked_for_again_also_after_a_restart(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path, own_processes: Callable[[], list[str]]
) -> None:
    command = "python3 -c 'print(1, 2)'"
    model.add(bash(command), bash(command), "Done.")
    async with open_hub() as hub:
        await create(hub, workspace)
        async with asked(hub) as turn:
            assert turn.request["suggestions"] == [
                {
                    "type": "addRules",
                    "rules": [{"toolName": "Bash", "ruleContent": command}],
                    "behavior": "allow",
                    "destination": "session",
                }
            ]
            await hub.client.call("claudecode.permit", request_id=turn.request["request_id"], decision="allow_always")
            rest = await turn.rest()
        assert [event["type"] for event in rest].count("permission_request") == 0
        assert [event["content"] for event in rest if event["type"] == "tool_result"] == ["1 2", "1 2"]
        assert (await hub.client.call("claudecode.get", name="w"))["granted_tools"] == [f"Bash({command})"]
        # The same process goes on, and no file was written into the workspace.
        model.add(bash(command), "Done.")
        events = await hub.client.events("claudecode.chat", name="w", prompt="again")
        assert one(events, "tool_result")["content"] == "1 2"
        (process,) = [line for line in own_processes() if "--input-format" in line]
        assert "--session-id" in process
        assert list(workspace.iterdir()) == []
    model.add(bash(command), bash("python3 -c 'print(3)'"), "Done.")
    async with open_hub() as hub, asked(hub) as turn:
        assert one(turn.events, "tool_result")["content"] == "1 2"
        assert turn.request["input"]["command"] == "python3 -c 'print(3)'"
        await hub.client.call("claudecode.permit", request_id=turn.request["request_id"], decision="deny")
        await turn.rest()


async def test_what_an_ephemeral_prompt_is_allowed_always_goes_with_it(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    command = "python3 -c 'print(1, 2)'"
    model.add(bash(command), bash(command), "Done.")
    await create(hub, workspace)
    before = await hub.client.call("claudecode.get", name="w")
    async with asked(hub, ephemeral=True) as turn:
        await hub.client.call("claudecode.permit", request_id=turn.request["request_id"], decision="allow_always")
        rest = await turn.rest()
    assert [event["content"] for event in rest if event["type"] == "tool_result"] == ["1 2", "1 2"]
    assert await hub.client.call("claudecode.get", name="w") == before
    assert await hub.client.call("claudecode.permissions", state="any") == []


async def test_one_of_several_suggestions_can_be_taken(hub: TestHost, model: ScriptedModel, workspace: Path) -> None:
    model.add(bash("touch a"), write(workspace / "b.txt"), "Done.")
    await create(hub, workspace)
    async with asked(hub) as turn:
        kinds = [suggestion["type"] for suggestion in turn.request["suggestions"]]
        chosen = kinds.index("setMode")
        permit = {"request_id": turn.request["request_id"], "decision": "allow_always"}
        error = await refusal(hub.client.call("claudecode.permit", **permit, suggestions=[len(kinds)]))
        assert (error.kind, error.data["path"]) == ("invalid_params", "$.suggestions[0]")
        await hub.client.call("claudecode.permit", **permit, suggestions=[chosen])
        rest = await turn.rest()
    assert rest[-1]["outcome"] == "complete"
    assert (workspace / "b.txt").exists()
    session = await hub.client.call("claudecode.get", name="w")
    assert (session["permission_mode"], session["granted_tools"]) == ("acceptEdits", [])


async def test_of_two_answers_at_once_the_first_counts_and_the_second_is_told_by_whom(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add(write(workspace / "a.txt"), "Done.")
    await create(hub, workspace)
    said: dict[str, Any] = {}
    async with asked(hub) as turn:

        async def answer(who: str, decision: str) -> None:
            try:
                said[who] = await caller(hub, who).call(
                    "claudecode.permit", request_id=turn.request["request_id"], decision=decision
                )
            except CallError as error:
                said[who] = error

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, "anna", "allow")
            nursery.start_soon(answer, "bert", "deny")
        rest = await turn.rest()
    (winner,) = [who for who, answer in said.items() if not isinstance(answer, CallError)]
    loser = said["bert" if winner == "anna" else "anna"]
    assert loser.kind == "claudecode.permission_resolved"
    assert (loser.data["by"], loser.data["decision"]) == (winner, said[winner]["decision"])
    assert loser.data["state"] == said[winner]["state"]
    assert winner in loser.message
    resolved = one(rest, "permission_resolved")
    assert (resolved["by"], resolved["decision"]) == (winner, said[winner]["decision"])
    assert (workspace / "a.txt").exists() == (winner == "anna")


async def test_the_same_answer_twice_by_the_same_caller_counts_once(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add(write(workspace / "a.txt"), "I see.")
    await create(hub, workspace)
    anna = caller(hub, "anna")
    async with asked(hub) as turn:
        permit = {"request_id": turn.request["request_id"], "decision": "deny", "message": "no"}
        both: list[Any] = []

        async def answer() -> None:
            both.append(await anna.call("claudecode.permit", **permit))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            nursery.start_soon(answer)
        assert both[0] == both[1]
        rest = await turn.rest()
        assert await anna.call("claudecode.permit", **permit) == both[0]
        for other in ({"decision": "allow", "message": None}, {"message": "never"}):
            error = await refusal(anna.call("claudecode.permit", **{**permit, **other}))
            assert (error.kind, error.data["by"]) == ("claudecode.permission_resolved", "anna")
        error = await refusal(caller(hub, "bert").call("claudecode.permit", **permit))
        assert error.kind == "claudecode.permission_resolved"
    assert len([event for event in rest if event["type"] == "permission_resolved"]) == 1


async def test_an_answer_that_does_not_fit_is_refused_and_the_request_waits_on(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add(bash("touch a && echo b > c"), "Done.")  # Claude Code suggests nothing for such a command
    await create(hub, workspace)
    async with asked(hub) as turn:
        assert turn.request["suggestions"] == []
        wrong: dict[str, dict[str, Any]] = {
            "$.decision": {"decision": "allow_always"},
            "$.message": {"decision": "allow", "message": "why not"},
            "$.interrupt": {"decision": "allow", "interrupt": True},
            "$.updated_input": {"decision": "deny", "updated_input": {}},
            "$.answers": {"decision": "allow", "answers": {"Which?": "This."}},
            "$.suggestions": {"decision": "allow", "suggestions": [0]},
        }
        for path, params in wrong.items():
            error = await refusal(hub.client.call("claudecode.permit", request_id=turn.request["request_id"], **params))
            assert (error.kind, error.data["path"]) == ("invalid_params", path)
        error = await refusal(
            hub.client.call("claudecode.permit", request_id=turn.request["request_id"], decision="perhaps")
        )
        assert error.kind == "invalid_params"
        (waiting,) = await hub.client.call("claudecode.permissions")
        assert waiting["request_id"] == turn.request["request_id"]
        await hub.client.call("claudecode.permit", request_id=turn.request["request_id"], decision="allow")
        assert (await turn.rest())[-1]["outcome"] == "complete"


async def test_an_unknown_request_is_not_found(hub: TestHost) -> None:
    error = await refusal(hub.client.call("claudecode.permit", request_id="perm_none", decision="allow"))
    assert error.kind == "not_found"
    assert (await refusal(hub.client.call("claudecode.permissions", name="nobody"))).kind == "not_found"
