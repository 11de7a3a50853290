"""claudecode through a whole host: sessions, their history and their tree, on the real binary."""

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_claudecode.testing.script import Fail, Hang, LongText, Reply, ToolUse, Wait
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.interfaces.door import Connection
from clonk_core.messages import Caller, Request
from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost

OpenHub = Callable[..., AbstractAsyncContextManager[TestHost]]


async def _error(call: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await call
    return caught.value


async def _chat(hub: TestHost, name: str, prompt: str) -> list[Any]:
    return await hub.client.events("claudecode.chat", name=name, prompt=prompt)


def _text(events: list[Any]) -> str:
    return "".join(event["text"] for event in events if event["type"] == "text_delta")


# ── create ────────────────────────────────────────────────────────────────────


async def test_create_answers_the_fields_of_the_specification(hub: TestHost, workspace: Path) -> None:
    created = await hub.client.call(
        "claudecode.create",
        name="feature-auth",
        working_dir=str(workspace),
        model="sonnet",
        system_prompt="You are helping implement authentication.",
    )
    assert set(created) == {"name", "id", "created_at", "working_dir", "model"}
    assert created["name"] == "feature-auth"
    assert re.fullmatch(r"sess_[0-9a-z]+", created["id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", created["created_at"])
    assert created["working_dir"] == str(workspace)
    assert created["model"] == "sonnet"
    got = await hub.client.call("claudecode.get", name="feature-auth")
    assert got["system_prompt"] == "You are helping implement authentication."
    assert got["created_at"] == created["created_at"]
    assert got["state"] == "parked"


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "x" * 64])
async def test_names_of_letters_digits_dot_underscore_and_dash_are_good(hub: TestHost, name: str) -> None:
    assert (await hub.client.call("claudecode.create", name=name))["name"] == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a/b", "é", "a\n", "a\0"])
async def test_other_names_are_refused_with_their_path(hub: TestHost, name: str) -> None:
    error = await _error(hub.client.call("claudecode.create", name=name))
    assert error.kind == "invalid_params"
    assert error.data["path"] == "$.name"


async def test_a_name_is_taken_once_also_by_many_at_the_same_time(hub: TestHost) -> None:
    kinds: list[str] = []

    async def create() -> None:
        try:
            await hub.client.call("claudecode.create", name="wanted")
            kinds.append("created")
        except CallError as error:
            kinds.append(error.kind)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(create)
    assert sorted(kinds) == ["conflict"] * 9 + ["created"]


@pytest.mark.parametrize(
    "model_name", ["sonnet", "opus", "haiku", "claude-sonnet-4-5-20250929", "us.anthropic.claude-x:0"]
)
async def test_aliases_and_full_names_of_models_are_good(hub: TestHost, model_name: str) -> None:
    assert (await hub.client.call("claudecode.create", name="m", model=model_name))["model"] == model_name


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"model": "--dangerous"}, "$.model"),
        ({"model": ""}, "$.model"),
        ({"working_dir": "relative"}, "$.working_dir"),
        ({"working_dir": "/etc"}, "$.working_dir"),
        ({"working_dir": "/no/such/folder"}, "$.working_dir"),
        ({"working_dir": "/tmp/\0"}, "$.working_dir"),
        ({"working_dir": 5}, "$.working_dir"),
        ({"permission_mode": "root"}, "$.permission_mode"),
        ({"system_prompt": "x" * 100_001}, "$.system_prompt"),
        ({"colour": "red"}, "$.colour"),
    ],
)
async def test_wrong_arguments_are_refused_with_their_path(hub: TestHost, arguments: dict[str, Any], path: str) -> None:
    error = await _error(hub.client.call("claudecode.create", name="wrong", **arguments))
    assert error.kind == "invalid_params"
    assert error.data["path"] == path
    assert await hub.client.call("claudecode.list") == []


async def test_links_out_of_the_allowed_roots_are_refused(hub: TestHost, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (workspace / "link").symlink_to(tmp_path / "elsewhere")
    (workspace / "loop").symlink_to(workspace / "loop")
    for given in ("link", "loop", "..", "link/../../elsewhere"):
        error = await _error(hub.client.call("claudecode.create", name="x", working_dir=str(workspace / given)))
        assert error.data["path"] == "$.working_dir", given


async def test_a_session_without_a_working_directory_gets_a_folder_of_its_own(hub: TestHost) -> None:
    created = await hub.client.call("claudecode.create", name="own")
    folder = Path(created["working_dir"])
    assert folder.is_dir()
    assert folder.name == created["id"]
    assert folder.parent.name == "workspaces"


async def test_bypassing_permissions_needs_a_scope_of_its_own(hub: TestHost) -> None:
    caller = Caller(id="ci", scopes=frozenset({"claudecode:create"}))
    connection = Connection(transport="inside", peer="test", id="conn_test", caller=caller)
    params = {"name": "b", "permission_mode": "bypassPermissions"}
    error = await _error(hub.dispatch(Request(method="claudecode.create", params=params, id=1), connection))
    assert error.kind == "forbidden"
    assert error.data["scope"] == "claudecode:bypass"


# ── chat ──────────────────────────────────────────────────────────────────────


async def test_a_prompt_is_answered_and_kept(hub: TestHost, model: ScriptedModel) -> None:
    model.add("Hello from the model.")
    created = await hub.client.call("claudecode.create", name="one")
    events = await _chat(hub, "one", "Say hello")
    assert events[0]["type"] == "started"
    assert events[0]["session_id"] == created["id"]
    assert _text(events) == "Hello from the model."
    (message,) = [event for event in events if event["type"] == "assistant_message"]
    assert message["content"] == "Hello from the model."
    assert events[-1]["outcome"] == "complete"
    assert events[-1]["error"] is None
    assert events[-1]["usage"]["output_tokens"] > 0
    history = await hub.client.call("claudecode.history", name="one")
    assert [one["role"] for one in history] == ["user", "assistant"]
    assert history[0]["content"] == "Say hello"
    assert history[1]["content"] == [{"type": "text", "text": "Hello from the model."}]
    assert history[1]["snapshot_id"] == events[-1]["snapshot_id"]


async def test_every_message_is_a_node_of_the_sessions_tree(hub: TestHost) -> None:
    await hub.client.call("claudecode.create", name="one")
    await _chat(hub, "one", "first")
    events = await _chat(hub, "one", "second")
    head = events[-1]["snapshot_id"]
    ancestors = await hub.client.call("arbor.node_ancestors", node_id=head)
    nodes = [await hub.client.call("arbor.node_get", node_id=head), *ancestors]
    contents = [node["content"]["content"] for node in nodes]
    assert len(contents) == 4
    assert "first" in contents
    assert "second" in contents
    session = await hub.client.call("claudecode.get", name="one")
    assert {node["tree_id"] for node in nodes} == {session["tree_id"]}


async def test_a_message_too_large_for_a_node_is_whole_in_the_history_and_a_node_without_content(
    open_hub: OpenHub, workspace: Path
) -> None:
    async with open_hub(arbor={"max_content_bytes": 2**20}) as hub:
        await hub.client.call("claudecode.create", name="one")
        prompt = "ü" * 600_000
        events = await _chat(hub, "one", prompt)
        assert events[-1]["outcome"] == "complete"
        history = await hub.client.call("claudecode.history", name="one")
        assert history[0]["content"] == prompt
        node = await hub.client.call("arbor.node_get", node_id=history[0]["snapshot_id"])
        assert (node["content"]["content"], node["content"]["left_out"]) == (None, True)


async def test_without_arbor_everything_works_but_the_tree(open_hub: OpenHub, workspace: Path) -> None:
    async with open_hub(packages=["claudecode"]) as hub:
        await hub.client.call("claudecode.create", name="one")
        events = await _chat(hub, "one", "hello")
        assert events[-1]["outcome"] == "complete"
        assert events[-1]["snapshot_id"] is None
        assert len(await hub.client.call("claudecode.history", name="one")) == 2
        assert (await hub.client.call("claudecode.get", name="one"))["tree_id"] is None


async def test_arbor_installed_later_gets_the_tree_from_then_on(open_hub: OpenHub, workspace: Path) -> None:
    async with open_hub(packages=["claudecode"]) as hub:
        await hub.client.call("claudecode.create", name="one")
        await _chat(hub, "one", "hello")
    async with open_hub() as hub:
        events = await _chat(hub, "one", "again")
        assert events[-1]["snapshot_id"] is not None
        assert len(await hub.client.call("claudecode.history", name="one")) == 4


async def test_a_tool_writes_a_file_in_the_working_directory(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    target = workspace / "hello.txt"
    model.add(Reply([ToolUse("Write", {"file_path": str(target), "content": "hi"})]), "Written.")
    await hub.client.call("claudecode.create", name="w", working_dir=str(workspace), permission_mode="acceptEdits")
    events = await _chat(hub, "w", "Write a file")
    assert target.read_text() == "hi"
    (use,) = [event for event in events if event["type"] == "tool_use"]
    (result,) = [event for event in events if event["type"] == "tool_result"]
    assert use["tool"] == "Write"
    assert use["input"]["file_path"] == str(target)
    assert result["tool_use_id"] == use["tool_use_id"]
    assert result["is_error"] is False
    assert events[-1]["outcome"] == "complete"


async def test_a_second_prompt_while_one_is_answered_is_told_the_running_subscription(
    hub: TestHost, model: ScriptedModel
) -> None:
    model.add(Reply(["before ", Wait("gate"), "after"]))
    await hub.client.call("claudecode.create", name="one")
    async with hub.client.stream("claudecode.chat", name="one", prompt="first") as stream:
        await model.wait_reached("gate")
        error = await _error(_chat(hub, "one", "second"))
        assert error.kind == "claudecode.session_busy"
        assert error.data["subscription"] == stream.subscription
        session = await hub.client.call("claudecode.get", name="one")
        assert session["state"] == "busy"
        assert session["subscription"] == stream.subscription
        model.release("gate")
        assert [event async for _seq, event in stream][-1]["outcome"] == "complete"


async def test_an_unknown_session_is_not_found_before_anything_starts(hub: TestHost) -> None:
    for method, extra in (("chat", {"prompt": "x"}), ("get", {}), ("history", {}), ("interrupt", {}), ("delete", {})):
        error = await _error(hub.client.call(f"claudecode.{method}", name="nobody", **extra))
        assert error.kind == "not_found"
    assert await hub.client.call("rpc.subscriptions") == []


@pytest.mark.parametrize("prompt", ["", "x" * 1_000_001, 5, None])
async def test_a_prompt_that_is_no_prompt_is_refused(hub: TestHost, prompt: Any) -> None:
    await hub.client.call("claudecode.create", name="one")
    error = await _error(hub.client.call("claudecode.chat", name="one", prompt=prompt))
    assert error.kind == "invalid_params"
    assert error.data["path"] == "$.prompt"


async def test_the_turn_goes_on_without_its_reader_and_is_read_again_from_any_point(
    hub: TestHost, model: ScriptedModel
) -> None:
    model.add(Reply(["one ", "two ", Wait("gate"), "three"]))
    await hub.client.call("claudecode.create", name="one")
    seen: list[tuple[int, Any]] = []
    async with hub.client.stream("claudecode.chat", name="one", prompt="count") as stream:
        subscription = stream.subscription
        while not seen or seen[-1][1]["type"] != "text_delta":
            seen.append(await stream.next())
    model.release("gate")
    async with hub.client.stream("rpc.resume", subscription=subscription, after=seen[-1][0]) as stream:
        seen += [item async for item in stream]
    assert [seq for seq, _event in seen] == list(range(1, len(seen) + 1))
    events = [event for _seq, event in seen]
    assert _text(events) == "one two three"
    assert events[-1]["outcome"] == "complete"


@pytest.mark.parametrize("how", ["rpc.cancel", "claudecode.interrupt"])
async def test_a_turn_is_stopped_and_the_next_one_begins_afresh(hub: TestHost, model: ScriptedModel, how: str) -> None:
    model.add(Reply(["never ", Wait("gate"), "ends"]), "fresh")
    await hub.client.call("claudecode.create", name="one")
    async with hub.client.stream("claudecode.chat", name="one", prompt="first") as stream:
        await model.wait_reached("gate")
        arguments = {"subscription": stream.subscription} if how == "rpc.cancel" else {"name": "one"}
        await hub.client.call(how, **arguments)
        events = [event async for _seq, event in stream]
    assert events[-1]["outcome"] == "cancelled"
    assert events[-1]["error"]["code"] == 499
    events = await _chat(hub, "one", "second")
    assert _text(events) == "fresh"
    assert events[-1]["outcome"] == "complete"


@pytest.mark.parametrize("status", [401, 429, 500, 529])
async def test_an_error_of_the_api_fails_the_turn_and_says_which(
    hub: TestHost, model: ScriptedModel, status: int
) -> None:
    model.add(*[Fail(status)] * 8)
    await hub.client.call("claudecode.create", name="one")
    events = await _chat(hub, "one", "hello")
    assert events[-1]["outcome"] == "failed"
    assert events[-1]["error"]["data"]["kind"] == "claudecode.api_error"
    assert events[-1]["error"]["data"]["status"] == status


async def test_a_silent_api_is_noticed_by_the_watchdog(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path
) -> None:
    model.add(Hang(), "back again")
    async with open_hub(turn={"idle_timeout_s": 1.0}) as hub:
        await hub.client.call("claudecode.create", name="one")
        events = await _chat(hub, "one", "hello")
        assert events[-1]["outcome"] == "limited"
        assert events[-1]["error"]["data"]["kind"] == "claudecode.turn_stalled"
        assert _text(await _chat(hub, "one", "still there?")) == "back again"


async def test_a_very_long_reply_is_relayed_whole(hub: TestHost, model: ScriptedModel) -> None:
    model.add(LongText(20_000))
    await hub.client.call("claudecode.create", name="one")
    events = await _chat(hub, "one", "write a lot")
    (message,) = [event for event in events if event["type"] == "assistant_message"]
    assert _text(events) == message["content"]
    assert sum(event["type"] == "text_delta" for event in events) == 20_000


# ── list, history, delete ─────────────────────────────────────────────────────


async def test_sessions_are_listed_newest_first_in_pages(hub: TestHost) -> None:
    for number in range(7):
        await hub.client.call("claudecode.create", name=f"s{number}")
    names: list[str] = []
    after = None
    while page := await hub.client.call("claudecode.list", limit=3, after=after):
        names += [session["name"] for session in page]
        after = names[-1]
    assert sorted(names) == [f"s{number}" for number in range(7)]
    assert names[0] == "s6"
    assert (await _error(hub.client.call("claudecode.list", after="nobody"))).kind == "not_found"
    assert (await _error(hub.client.call("claudecode.list", limit=0))).kind == "invalid_params"
    assert (await _error(hub.client.call("claudecode.list", limit=1001))).kind == "invalid_params"


async def test_history_comes_in_pages(hub: TestHost) -> None:
    await hub.client.call("claudecode.create", name="one")
    for number in range(3):
        await _chat(hub, "one", f"prompt {number}")
    first = await hub.client.call("claudecode.history", name="one", limit=4)
    rest = await hub.client.call("claudecode.history", name="one", limit=4, after=first[-1]["seq"])
    assert [one["seq"] for one in first + rest] == [1, 2, 3, 4, 5, 6]
    prompts = [one["content"] for one in first + rest if one["role"] == "user"]
    assert prompts == ["prompt 0", "prompt 1", "prompt 2"]
    for method in ("history", "checkpoints"):
        assert await hub.client.call(f"claudecode.{method}", name="one", after=2**63 - 1) == []
        for wrong in (-1, 2**63, "1"):
            error = await _error(hub.client.call(f"claudecode.{method}", name="one", after=wrong))
            assert (error.kind, error.data["path"]) == ("invalid_params", "$.after")


async def test_delete_stops_a_running_turn_and_leaves_nothing_but_the_files(
    hub: TestHost, model: ScriptedModel, workspace: Path, tmp_path: Path
) -> None:
    model.add(Reply(["never ", Wait("gate"), "ends"]))
    (workspace / "kept.txt").write_text("kept")
    await hub.client.call("claudecode.create", name="one", working_dir=str(workspace))
    session = await hub.client.call("claudecode.get", name="one")
    async with hub.client.stream("claudecode.chat", name="one", prompt="first") as stream:
        await model.wait_reached("gate")
        assert await hub.client.call("claudecode.delete", name="one") is True
        assert [event async for _seq, event in stream][-1]["outcome"] == "cancelled"
    assert (await _error(hub.client.call("claudecode.get", name="one"))).kind == "not_found"
    assert (await _error(hub.client.call("claudecode.delete", name="one"))).kind == "not_found"
    assert (workspace / "kept.txt").read_text() == "kept"
    assert not list((tmp_path / "data").rglob(f"*{session['claude_session_id']}*"))
    again = await hub.client.call("claudecode.create", name="one")
    assert again["id"] != session["id"]
    assert await hub.client.call("claudecode.history", name="one") == []


# ── restarts ──────────────────────────────────────────────────────────────────


async def test_a_session_goes_on_after_a_restart_of_the_hub(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path
) -> None:
    async with open_hub() as hub:
        await hub.client.call("claudecode.create", name="one")
        await _chat(hub, "one", "remember the word xyzzy")
    async with open_hub() as hub:
        events = await _chat(hub, "one", "which word?")
        assert events[-1]["outcome"] == "complete"
        assert len(await hub.client.call("claudecode.history", name="one")) == 4
    assert "xyzzy" in str(model.turns[-1].body["messages"])


async def test_a_hub_that_is_closed_in_mid_turn_ends_it_honestly(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path
) -> None:
    model.add(Reply(["before ", Wait("gate"), "after"]), "fresh")
    async with open_hub() as hub:
        await hub.client.call("claudecode.create", name="one")
        async with hub.client.stream("claudecode.chat", name="one", prompt="first") as stream:
            subscription = stream.subscription
            await model.wait_reached("gate")
    async with open_hub() as hub:
        async with hub.client.stream("rpc.resume", subscription=subscription) as stream:
            events = [event async for _seq, event in stream]
        assert events[-1]["outcome"] == "failed"
        assert events[-1]["error"]["data"]["kind"] == "server_restarted"
        assert _text(await _chat(hub, "one", "second")) == "fresh"


async def test_sessions_beyond_the_limit_are_parked_and_resumed(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path
) -> None:
    async with open_hub(session={"max_concurrent": 1}) as hub:
        for name in ("one", "two", "one"):
            if name not in {session["name"] for session in await hub.client.call("claudecode.list")}:
                await hub.client.call("claudecode.create", name=name)
            assert (await _chat(hub, name, f"hello {name}"))[-1]["outcome"] == "complete"
        states = {session["name"]: session["state"] for session in await hub.client.call("claudecode.list")}
        assert states == {"one": "idle", "two": "parked"}
    assert "hello one" in str(model.turns[-1].body["messages"][0])


async def test_a_missing_binary_answers_unavailable_and_the_rest_works(open_hub: OpenHub, workspace: Path) -> None:
    async with open_hub(binary_path="/nonexistent/claude") as hub:
        await hub.client.call("claudecode.create", name="one")
        error = await _error(_chat(hub, "one", "hello"))
        assert error.kind == "claudecode.binary_missing"
        assert len(await hub.client.call("claudecode.list")) == 1
        assert await hub.client.call("claudecode.history", name="one") == []
