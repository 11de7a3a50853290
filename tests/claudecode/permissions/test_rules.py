"""Rules about tools: of a session and of the configuration."""

from pathlib import Path
from typing import Any

import pytest

from clonk_claudecode.engine.tool_rules import MAX_RULE_CHARS, MAX_RULES, complaint
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.errors import ConfigError
from clonk_core.testing.host import TestHost
from tests.claudecode.permissions.asking import OpenHub, asked, bash, create, one, refusal, write


async def test_allowed_tools_do_not_ask_and_disallowed_ones_are_refused(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add(bash("touch a,b"), bash("git init"), bash("mkdir c"), "Done.")
    rules: dict[str, Any] = {
        "allowed_tools": ["Bash(touch *)", "Bash(echo (a, b))"],
        "disallowed_tools": ["Bash(git *)", "mcp__x__y"],
    }
    await create(hub, workspace, **rules)
    session = await hub.client.call("claudecode.get", name="w")
    assert {name: session[name] for name in rules} == rules
    async with asked(hub) as turn:
        assert turn.request["input"] == {"command": "mkdir c"}
        touched, refused = [event for event in turn.events if event["type"] == "tool_result"]
        assert (touched["is_error"], refused["is_error"]) == (False, True)
        assert "git init has been denied" in refused["content"]
        assert [path.name for path in workspace.iterdir()] == ["a,b"]
        await hub.client.call("claudecode.permit", request_id=turn.request["request_id"], decision="deny")
        await turn.rest()
    rows = await hub.client.call("audit.query", kind="tool", after=0)
    assert [row["outcome"] for row in rows] == ["ok", "denied", "denied"]
    assert "decided_by" not in rows[1]["detail"]


async def test_a_session_cannot_lift_what_the_configuration_disallows(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path
) -> None:
    model.add(bash("touch a"), write(workspace / "b"), "Done.")
    async with open_hub(session={"allowed_tools": ["Write"], "disallowed_tools": ["Bash(touch *)"]}) as hub:
        await create(hub, workspace, allowed_tools=["Bash(touch *)", "Bash"], permission_mode="bypassPermissions")
        events = await hub.client.events("claudecode.chat", name="w", prompt="go")
        refused, written = [event for event in events if event["type"] == "tool_result"]
        assert refused["is_error"]
        assert [path.name for path in workspace.iterdir()] == ["b"]
        assert not written["is_error"]


async def test_a_tool_that_is_disallowed_as_a_whole_is_not_there(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add(bash("touch a"), "Done.")
    await create(hub, workspace, disallowed_tools=["Bash"], permission_mode="bypassPermissions")
    events = await hub.client.events("claudecode.chat", name="w", prompt="go")
    assert one(events, "tool_result")["is_error"]
    assert list(workspace.iterdir()) == []
    assert "Bash" not in {tool["name"] for tool in model.turns[0].body["tools"]}
    (row,) = await hub.client.call("audit.query", kind="tool", after=0)
    assert row["outcome"] == "denied"


@pytest.mark.parametrize(
    "rule",
    [
        "Bash",
        "Bash(git *)",
        "Bash(echo (a), (b))",
        "Edit(./src/**)",
        "WebFetch(domain:x.org)",
        "mcp__a-b__c",
        "mcp__a__*",
    ],
)
def test_rules_of_claude_code_are_taken(rule: str) -> None:
    assert complaint(rule) is None


WRONG = (
    "",
    " ",
    "bash",
    "-x",
    "--model",
    "Bash(",
    "Bash()",
    "Bash( )",
    "Bash(a) Write(b)",
    "Bash(a),Edit",
    "Bash Edit",
    "Bash(a))",
    "Bash((a)",
    "Bash(a\nb)",
    "Bash(a\0)",
    "mcp__a(b)",
    "(a)",
    "B" * (MAX_RULE_CHARS + 1),
)


async def test_a_rule_with_a_slip_in_it_is_an_error_that_says_where(hub: TestHost) -> None:
    for rule in WRONG:
        assert complaint(rule) is not None, rule
        for member in ("allowed_tools", "disallowed_tools"):
            error = await refusal(hub.client.call("claudecode.create", name="w", **{member: ["Read", rule]}))
            assert (error.kind, error.data["path"]) == ("invalid_params", f"$.{member}[1]")
    assert await hub.client.call("claudecode.list") == []


async def test_rules_are_changed_and_what_was_granted_is_taken_back(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    command = "python3 -c 'print(3)'"
    model.add(bash(command), "Done.", bash(command), bash("mkdir a"), bash("touch b"), "Done.")
    await create(hub, workspace, disallowed_tools=["Read"])
    async with asked(hub) as turn:
        await hub.client.call("claudecode.permit", request_id=turn.request["request_id"], decision="allow_always")
        await turn.rest()
    wrong = await refusal(hub.client.call("claudecode.update", name="w", disallowed_tools=["bash"], allowed_tools=[]))
    assert (wrong.kind, wrong.data["path"]) == ("invalid_params", "$.disallowed_tools[0]")
    changed = await hub.client.call(
        "claudecode.update",
        name="w",
        allowed_tools=["Bash(mkdir *)"],
        disallowed_tools=["Bash(touch *)"],
        forget_granted=True,
    )
    assert (changed["granted_tools"], changed["allowed_tools"]) == ([], ["Bash(mkdir *)"])
    async with asked(hub) as turn:
        assert turn.request["input"] == {"command": command}
        await hub.client.call("claudecode.permit", request_id=turn.request["request_id"], decision="deny")
        rest = await turn.rest()
    assert [event["is_error"] for event in rest if event["type"] == "tool_result"] == [True, False, True]
    assert [path.name for path in workspace.iterdir()] == ["a"]


async def test_too_many_rules_are_refused(hub: TestHost) -> None:
    error = await refusal(hub.client.call("claudecode.create", name="w", allowed_tools=["Read"] * (MAX_RULES + 1)))
    assert error.kind == "invalid_params"


async def test_a_wrong_rule_in_the_configuration_stops_the_start(open_hub: OpenHub) -> None:
    with pytest.raises(ConfigError, match="disallowed_tools"):
        async with open_hub(session={"disallowed_tools": ["bash"]}):
            pass
