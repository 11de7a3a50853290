"""What a session's tools may never do, and what they may do no longer."""

from typing import Any

import pytest
import trio

from clonk_claudecode.messages import StoredSession
from clonk_claudecode.testing.script import Reply, ToolUse
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_claudecode.tools.patterns import is_allowed
from clonk_core.plugin import CallError
from tests.claudecode.tools.conftest import House, OpenHouse, activations_of, key_settings, tool_results

ROLL = "mcp__clonk__dice_roll"
CALL = "mcp__clonk__meddler_call"


def _meddle(method: str, **params: Any) -> Reply:
    return Reply([ToolUse(CALL, {"method_name": method, "params": params})])


@pytest.mark.parametrize(
    ("method", "allowed", "may"),
    [
        ("dice.roll", ["dice.*"], True),
        ("dice.roll", ["dice.roll"], True),
        ("dice.roll", [], False),
        ("dice.roll", ["dic.*", "dice.rol", "dice.roll.*"], False),
        ("dice.red.roll", ["dice.*"], True),
        ("keys.create", ["keys.*"], False),
        ("secrets.list", ["secrets.*"], False),
        ("arbor.context_get", ["arbor.*"], False),
        ("arbor.context_get", ["arbor.context_get"], True),
        ("hub.info", ["hub.*"], False),
        ("hub.info", ["hub.info"], True),
        ("claudecode.chat", ["claudecode.*"], False),
        ("claudecode.chat", ["claudecode.chat"], True),
        ("claudecode.permit", ["claudecode.permit"], False),
        ("claudecode.update", ["claudecode.update"], False),
        ("claudecode.create", ["claudecode.create"], False),
        ("claudecode.share", ["claudecode.share"], False),
    ],
)
def test_what_the_configuration_lets_be_given(method: str, allowed: list[str], may: bool) -> None:
    assert is_allowed(method, allowed) is may


async def test_tools_beyond_the_allowlist_or_the_callers_scopes_are_refused_with_a_path(open_house: OpenHouse) -> None:
    key = key_settings("ci", ["claudecode:*", "dice:read"])
    async with open_house(
        allowed=["dice.*", "claudecode.permit", "claudecode.update", "claudecode.get", "keys.create"], keys=[key]
    ) as house:
        for tools, kind, path in [
            (["dice.roll", "meddler.call"], "forbidden", "$.tools[1]"),
            (["meddler.*"], "forbidden", "$.tools[0]"),
            (["dice.*"], "forbidden", "$.tools[0]"),  # dice.hang needs dice:write
            (["keys.create"], "forbidden", "$.tools[0]"),
            (["keys.*"], "forbidden", "$.tools[0]"),
            (["auth.authenticate"], "forbidden", "$.tools[0]"),
            (["claudecode.update"], "forbidden", "$.tools[0]"),
            (["claudecode.*"], "forbidden", "$.tools[0]"),
            (["dice.nothing"], "invalid_params", "$.tools[0]"),
            (["nothing.*"], "invalid_params", "$.tools[0]"),
            (["*"], "invalid_params", "$.tools[0]"),
            (["dice.roll", "Dice.roll"], "invalid_params", "$.tools[1]"),
            ([5], "invalid_params", "$.tools[0]"),
            ("dice.roll", "invalid_params", "$.tools"),
            (["dice.roll"] * 101, "invalid_params", "$.tools"),
        ]:
            with pytest.raises(CallError) as refused:
                await house.create(house.key("ci"), tools=tools)
            assert (refused.value.kind, refused.value.data["path"]) == (kind, path), tools
        assert await house.local.call("claudecode.list") == []
        await house.create(house.key("ci"), tools=["dice.roll", "claudecode.get"])
        with pytest.raises(CallError) as refused:
            await house.key("ci").call("claudecode.update", name="w", tools=["dice.hang"])
        assert (refused.value.kind, refused.value.data["path"]) == ("forbidden", "$.tools[0]")
        assert (await house.local.call("claudecode.get", name="w"))["tools"] == ["dice.roll", "claudecode.get"]


async def test_without_an_allowlist_nothing_can_be_given(open_house: OpenHouse) -> None:
    async with open_house(allowed=[]) as house:
        with pytest.raises(CallError) as refused:
            await house.create(tools=["dice.roll"])
        assert refused.value.kind == "forbidden"


async def test_the_tools_of_a_key_that_was_revoked_work_no_more_and_that_is_written_down(
    open_house: OpenHouse, model: ScriptedModel
) -> None:
    async with open_house() as house:
        made = await house.local.call("keys.create", id="ci", scopes=["claudecode:*", "dice:*"])
        await house.create(house.key("ci", made["key"]), tools=["dice.roll"])
        model.add(Reply([ToolUse(ROLL, {})]), "One.", Reply([ToolUse(ROLL, {})]), "Two.")
        assert tool_results(await house.chat()) == [('{"sides":6,"value":5}', False)]  # another's prompt, ci's tool
        (caller,) = house.dice.callers
        assert (caller.id, caller.scopes) == ("ci", frozenset({"dice:read"}))
        await house.local.call("keys.revoke", id="ci")
        ((text, is_error),) = tool_results(await house.chat())
        assert is_error
        assert text.startswith("forbidden: ")
        assert len(house.dice.callers) == 1
        rows = await house.rows(kind="call", action="dice.roll")
        assert [(row["caller"], row["outcome"]) for row in rows] == [("ci", "ok"), ("ci", "forbidden")]


async def test_a_key_that_lost_a_scope_lost_its_sessions_tool(open_house: OpenHouse, model: ScriptedModel) -> None:
    async with open_house(keys=[key_settings("ci", ["claudecode:*", "dice:*"])]) as house:
        await house.create(house.key("ci"), tools=["dice.roll", "dice.hang"])
    async with open_house(keys=[key_settings("ci", ["claudecode:*", "dice:write"])]) as house:
        model.add(Reply([ToolUse(ROLL, {})]), "Done.")
        ((_, is_error),) = tool_results(await house.chat())
        assert is_error
        turn = next(request for request in model.requests if request.kind == "turn")
        shown = [tool["name"] for tool in turn.body["tools"] if tool["name"].startswith("mcp__")]
        assert shown == ["mcp__clonk__dice_hang"]


async def test_tools_count_against_their_owners_limit(open_house: OpenHouse, model: ScriptedModel) -> None:
    key = key_settings("ci", ["claudecode:*", "dice:*"], rate_limit="4/h")
    async with open_house(keys=[key]) as house:
        client = house.key("ci")
        await house.create(client, tools=["dice.roll"])
        model.add(*(Reply([ToolUse(ROLL, {"sides": sides})]) for sides in (4, 5, 6)), "Done.")
        results = tool_results(await house.chat(client))
        assert [is_error for _, is_error in results] == [False, False, True]
        assert results[2][0].startswith("rate_limited: ")
        with pytest.raises(CallError) as refused:
            await client.call("claudecode.get", name="w")
        assert refused.value.kind == "rate_limited"


async def test_a_tool_reaches_no_session_neither_its_own_nor_another_by_whatever_way(
    house: House, model: ScriptedModel
) -> None:
    await house.create(name="other")
    await house.create(tools=["meddler.*"])
    tries: list[tuple[str, dict[str, Any]]] = [
        ("claudecode.get", {"name": "w"}),
        ("claudecode.get", {"name": "other"}),
        ("claudecode.history", {"name": "other"}),
        ("claudecode.list", {}),
        ("claudecode.interrupt", {"name": "w"}),
        ("claudecode.update", {"name": "w", "permission_mode": "bypassPermissions"}),
        ("claudecode.update", {"name": "w", "tools": ["dice.*"]}),
        ("claudecode.create", {"name": "mine", "permission_mode": "acceptEdits"}),
        ("claudecode.share", {"name": "w", "access": "chat"}),
        ("claudecode.delete", {"name": "other"}),
        ("claudecode.usage", {}),
    ]
    model.add(*(_meddle(method, **params) for method, params in tries), "Done.")
    results = tool_results(await house.chat())
    assert results == [("REFUSED forbidden", False)] * len(tries)
    assert [session["name"] for session in await house.local.call("claudecode.list")] == ["w", "other"]


async def test_another_session_is_reached_when_that_was_given(open_house: OpenHouse, model: ScriptedModel) -> None:
    async with open_house(allowed=["claudecode.history", "claudecode.chat", "meddler.*"]) as house:
        await house.create(name="other")
        await house.create(tools=["claudecode.history", "claudecode.chat", "meddler.*"])
        model.add(
            Reply([ToolUse("mcp__clonk__claudecode_chat", {"name": "other", "prompt": "Who are you?"})]),
            "I am the other.",
            Reply([ToolUse("mcp__clonk__claudecode_history", {"name": "other"})]),
            _meddle("claudecode.delete", name="other"),
            "Done.",
        )
        (chatted, failed), (history, _), (deleted, _) = tool_results(await house.chat())
        assert not failed
        assert "I am the other." in chatted
        assert "Who are you?" in history
        assert deleted == "REFUSED forbidden"


async def test_a_tool_that_tries_to_approve_a_request_of_its_own_session_or_anothers_is_refused(
    house: House, model: ScriptedModel
) -> None:
    secret = house.workspace.parent / "secret.txt"
    secret.write_text("the secret")
    read = ToolUse("Read", {"file_path": str(secret)})
    await house.create(tools=["meddler.*"])
    await house.create(name="second", tools=["meddler.*"])
    model.add(Reply([read, ToolUse("mcp__clonk__meddler_approve", {})]))
    (meddler,) = house.meddlers
    events = []
    async with house.local.stream("claudecode.chat", name="w", prompt="go") as stream:
        async for _, event in stream:
            events.append(event)
            if event["type"] != "permission_request":
                continue
            assert event["tool"] == "Read"
            meddler.request_id = event["request_id"]
            meddler.asked.set()
            with trio.fail_after(20):
                await meddler.tried.wait()
            permit = {"request_id": event["request_id"], "decision": "allow"}
            model.add(_meddle("claudecode.permit", **permit), _meddle("claudecode.permissions"), "No.", "Done.")
            assert tool_results(await house.chat(name="second")) == [("REFUSED forbidden", False)] * 2
            (waiting,) = await house.local.call("claudecode.permissions")
            assert waiting["request_id"] == event["request_id"]
            await house.local.call("claudecode.permit", request_id=event["request_id"], decision="deny")
    results = tool_results(events)
    assert ("REFUSED forbidden", False) in results
    assert not any("the secret" in text for text, _ in results)


async def test_tools_that_cannot_be_given_of_sessions_are_refused_by_name_too(open_house: OpenHouse) -> None:
    async with open_house(allowed=["claudecode.permit", "claudecode.update", "claudecode.create"]) as house:
        for tool in ("claudecode.permit", "claudecode.update", "claudecode.create"):
            with pytest.raises(CallError) as refused:
                await house.create(tools=[tool])
            assert refused.value.kind == "forbidden"


async def test_who_is_given_tools_by_another_gets_no_more_than_both_may(open_house: OpenHouse) -> None:
    keys = [key_settings("ann", ["claudecode:*", "dice:read"]), key_settings("bob", ["claudecode:*", "dice:*"])]
    async with open_house(keys=keys) as house:
        await house.create(house.key("ann"), name="hers")
        await house.create(house.key("bob"), name="his")
        await house.key("bob").call("claudecode.update", name="hers", tools=["dice.*"])
        await house.key("ann").call("claudecode.update", name="his", tools=["dice.roll"])
        stored = {name: await _stored(house, name) for name in ("hers", "his")}
        assert stored["hers"].tools_scopes == ("claudecode:*", "dice:read")
        assert stored["his"].tools_scopes == ("claudecode:*", "dice:read")
        assert (stored["hers"].tools_owner, stored["his"].tools_owner) == ("ann", "bob")


async def test_a_fork_has_the_tools_when_its_owner_makes_it_and_not_when_somebody_else_does(
    open_house: OpenHouse, model: ScriptedModel
) -> None:
    keys = [key_settings("ann", ["claudecode:*", "dice:*"]), key_settings("bob", ["claudecode:*"])]
    async with open_house(keys=keys, packages=["arbor", "claudecode"]) as house:
        await house.create(house.key("ann"), tools=["dice.roll"])
        model.add("Hello.")
        snapshot = (await house.chat(house.key("ann")))[-1]["snapshot_id"]
        for who, tools in [("ann", ["dice.roll"]), ("bob", [])]:
            fork = {"name": "w", "snapshot_id": snapshot, "new_name": f"of-{who}"}
            await house.key(who).call("claudecode.fork", **fork)
            assert (await house.local.call("claudecode.get", name=f"of-{who}"))["tools"] == tools
        with pytest.raises(CallError) as refused:
            await house.key("bob").call("claudecode.update", name="of-bob", tools=["dice.roll"])
        assert refused.value.kind == "forbidden"
        model.add(Reply([ToolUse(ROLL, {})]), "Done.")
        assert tool_results(await house.chat(name="of-ann")) == [('{"sides":6,"value":5}', False)]
        model.add(Reply([ToolUse(ROLL, {})]), "Done.")
        ((_, is_error),) = tool_results(await house.chat(name="of-bob"))
        assert is_error
        assert [caller.id for caller in house.dice.callers] == ["ann"]


async def test_a_tool_that_is_disallowed_stays_so(house: House, model: ScriptedModel) -> None:
    await house.create(tools=["dice.*"], disallowed_tools=[ROLL])
    model.add(Reply([ToolUse(ROLL, {})]), Reply([ToolUse("mcp__clonk__dice_shout", {"length": 1})]), "Done.")
    (_, refused), (shouted, _) = tool_results(await house.chat())
    assert refused
    assert shouted == "ä"
    assert house.dice.callers == []


async def _stored(house: House, name: str) -> StoredSession:
    (activation,) = activations_of(house, "claudecode")
    session: StoredSession = await activation._sessions.find(name)
    return session
