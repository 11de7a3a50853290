"""Forks: any message of a session is the beginning of another one."""

from pathlib import Path
from typing import Any

import pytest

from clonk_claudecode.testing.script import Reply, Rule, Text, ToolUse, Wait
from clonk_core.plugin import Conflict, Forbidden, InvalidParams, NotFound
from clonk_core.testing.host import open_host
from tests.claudecode.sessions.conftest import claudecode_settings


async def test_a_fork_goes_on_from_its_message_and_the_parent_is_as_before(talk: Any) -> None:
    await talk.create()
    first = await talk.say("first")
    await talk.say("second")
    before = await talk.history()

    fork = await talk.call("fork", name="one", snapshot_id=first["snapshot_id"], new_name="two")

    parent = await talk.call("get", name="one")
    assert fork["name"] == "two"
    assert fork["message_count"] == 2
    assert fork["snapshot_id"] == first["snapshot_id"]
    assert fork["tree_id"] == parent["tree_id"]
    assert fork["claude_session_id"] != parent["claude_session_id"]
    assert fork["working_dir"] == parent["working_dir"]
    assert fork["forked_from"] == {
        "session": "one",
        "session_id": parent["id"],
        "snapshot_id": first["snapshot_id"],
        "files": "shared",
    }
    assert await talk.call("get", name="two") == fork
    assert await talk.history("two") == before[:2]

    assert await talk.told("third", "two") == [
        ("user", "first"),
        ("assistant", "You said: first"),
        ("user", "third"),
    ]
    assert await talk.history() == before
    assert await talk.told("fourth", "one") == [
        ("user", "first"),
        ("assistant", "You said: first"),
        ("user", "second"),
        ("assistant", "You said: second"),
        ("user", "fourth"),
    ]
    children = await talk.hub.client.call("arbor.node_children", node_id=first["snapshot_id"])
    assert [child["content"]["content"] for child in children] == ["second", "third"]


async def test_a_fork_needs_neither_its_parent_nor_the_running_server(talk: Any, open_hub: Any, model: Any) -> None:
    await talk.create()
    done = await talk.say("first")
    await talk.call("fork", name="one", snapshot_id=done["snapshot_id"], new_name="two")
    await talk.call("delete", name="one")
    assert await talk.told("second", "two") == [("user", "first"), ("assistant", "You said: first"), ("user", "second")]
    again = await talk.call("fork", name="two", snapshot_id=done["snapshot_id"])
    assert again["name"] == "two-fork"
    assert (await talk.call("fork", name="two", snapshot_id=done["snapshot_id"]))["name"] == "two-fork-2"
    assert await talk.told("third", "two-fork-2") == [
        ("user", "first"),
        ("assistant", "You said: first"),
        ("user", "third"),
    ]


async def test_a_parked_session_is_forked_after_a_restart(open_hub: Any, workspace: Path, model: Any) -> None:
    async with open_hub() as hub:
        await hub.client.call("claudecode.create", name="one")
        events = await hub.client.events("claudecode.chat", name="one", prompt="first")
    async with open_hub() as hub:
        snapshot_id = events[-1]["snapshot_id"]
        await hub.client.call("claudecode.fork", name="one", snapshot_id=snapshot_id, new_name="two")
        await hub.client.events("claudecode.chat", name="two", prompt="second")
    assert [message["role"] for message in model.turns[-1].messages if message["role"] != "system"] == [
        "user",
        "assistant",
        "user",
    ]


async def test_the_point_may_be_a_prompt_or_inside_a_tool_call(talk: Any, model: Any, workspace: Path) -> None:
    (workspace / "a.txt").write_text("contents\n")
    read = ToolUse("Read", {"file_path": str(workspace / "a.txt")})
    model.add(Rule("look", [Reply((Text("I look"), read, ToolUse("Bash", {"command": "echo hi"}))), Text("seen")]))
    await talk.create(folder=workspace)
    await talk.say("look")
    history = await talk.history()
    kinds = [one["content"] if isinstance(one["content"], str) else one["content"][0]["type"] for one in history]
    assert kinds == ["look", "text", "tool_use", "tool_use", "tool_result", "tool_result", "text"]

    begin = [("user", "look")]
    used = [*begin, ("assistant", "I look"), ("assistant", "tool_use")]
    closed = ("assistant", "No response requested.")
    end = ("user", "go on")
    for number, expected in {
        1: [*begin, closed, end],
        3: [*used, ("user", "tool_result [interrupted]"), closed, end],
        5: [
            *used,
            ("assistant", "tool_use"),
            ("user", "tool_result 1\tcontents\n2"),
            ("user", "tool_result [interrupted]"),
            closed,
            end,
        ],
    }.items():
        name = f"at-{number}"
        await talk.call("fork", name="one", snapshot_id=history[number - 1]["snapshot_id"], new_name=name)
        told = [(role, _short(text)) for role, text in await talk.told("go on", name)]
        assert told == expected, number
        assert len(await talk.history(name)) == number + 2


def _short(text: str) -> str:
    """Without the words of the binary's version."""
    return "tool_result [interrupted]" if text.startswith("tool_result [Tool call interrupted") else text


async def test_a_session_is_forked_while_it_answers(talk: Any, model: Any, workspace: Path) -> None:
    gate, echo = Wait("gate"), ToolUse("Bash", {"command": "echo hi"})
    model.add(Rule("look", [Reply((Text("I look"), echo)), Reply((Text("seen "), gate, Text("it")))]))
    await talk.create(folder=workspace)
    async with talk.hub.client.stream("claudecode.chat", name="one", prompt="look") as stream:
        async for _seq, event in stream:
            if event["type"] == "tool_result":
                break
        await model.wait_reached("gate")
        history = await talk.history()
        fork = await talk.call("fork", name="one", snapshot_id=history[-1]["snapshot_id"], new_name="two")
        assert fork["message_count"] == len(history)
        assert (await talk.call("get", name="one"))["state"] == "busy"
        model.release("gate")
        events = [event async for _seq, event in stream]
    assert events[-1]["outcome"] == "complete"
    told = await talk.told("go on", "two")
    assert told[-3:] == [("user", "tool_result hi"), ("assistant", "No response requested."), ("user", "go on")]


async def test_a_copied_folder_is_the_fork_s_own(talk: Any, workspace: Path, tmp_path: Path) -> None:
    (workspace / "deep").mkdir()
    (workspace / "deep/a.txt").write_text("one\n")
    (workspace / "out").symlink_to(tmp_path)
    await talk.create(folder=workspace)
    done = await talk.say("first")
    fork = await talk.call("fork", name="one", snapshot_id=done["snapshot_id"], files="copy")
    copy = Path(fork["working_dir"])
    assert copy.parent == (tmp_path / "data/workspaces").resolve()
    (copy / "deep/a.txt").write_text("two\n")
    assert (workspace / "deep/a.txt").read_text() == "one\n"
    assert (copy / "out").readlink() == tmp_path
    await talk.say("second", fork["name"])
    assert talk.model.turns[-1].working_dir is not None
    await talk.call("delete", name=fork["name"])
    assert not copy.exists()


async def test_what_a_tool_has_left_beside_the_transcript_outlives_the_parent(
    talk: Any, model: Any, workspace: Path
) -> None:
    model.add(Rule("count", [ToolUse("Bash", {"command": "seq 1 20000"}), Text("counted")]))
    await talk.create(folder=workspace)
    done = await talk.say("count")
    await talk.call("fork", name="one", snapshot_id=done["snapshot_id"], new_name="two", files="copy")
    await talk.call("delete", name="one")
    told = await talk.told("go on", "two")
    (result,) = [text for _role, text in told if "Full output saved to" in text]
    path = Path(result.split("saved to: ")[1].split("\n")[0])
    assert path.read_text().split()[-1] == "20000"


async def test_what_cannot_be_forked_is_told_and_leaves_nothing(talk: Any, workspace: Path, tmp_path: Path) -> None:
    await talk.create(folder=workspace)
    await talk.create("other")
    done = await talk.say("first")
    snapshot_id = done["snapshot_id"]
    for name, snapshot in (("one", "node_none"), ("other", snapshot_id), ("nobody", snapshot_id)):
        with pytest.raises(NotFound):
            await talk.call("fork", name=name, snapshot_id=snapshot)
    with pytest.raises(Conflict):
        await talk.call("fork", name="one", snapshot_id=snapshot_id, new_name="other")
    with pytest.raises(InvalidParams):
        await talk.call("fork", name="one", snapshot_id=snapshot_id, files="stolen")
    with pytest.raises(Conflict) as refused:
        await talk.call("fork", name="one", snapshot_id=snapshot_id, files="worktree")
    assert refused.value.kind == "claudecode.no_checkpoint"
    (workspace / ".git").write_text(f"gitdir: {tmp_path}/elsewhere\n")
    with pytest.raises(Conflict) as refused:
        await talk.call("fork", name="one", snapshot_id=snapshot_id, files="copy")
    assert refused.value.kind == "claudecode.not_copyable"
    assert [one["name"] for one in await talk.call("list")] == ["other", "one"]
    assert list((tmp_path / "data/workspaces").glob("*")) == [
        Path((await talk.call("get", name="other"))["working_dir"])
    ]
    assert len(list((tmp_path / "data/claudecode/claude/projects").glob("*/*.jsonl"))) == 1


async def test_a_copy_over_its_limit_is_refused_and_removed(open_hub: Any, workspace: Path, tmp_path: Path) -> None:
    (workspace / "large").write_bytes(b"x" * 2000)
    (workspace / "deep").mkdir(mode=0o700)
    for number in range(20):
        (workspace / f"deep/{number}").touch()
    for limits in ({"max_copy_bytes": 1999}, {"max_copy_files": 21}):
        async with open_hub(forks=limits) as hub:
            name = next(iter(limits))
            await hub.client.call("claudecode.create", name=name, working_dir=str(workspace))
            events = await hub.client.events("claudecode.chat", name=name, prompt="first")
            with pytest.raises(Exception, match=str(next(iter(limits.values())))) as refused:
                await hub.client.call("claudecode.fork", name=name, snapshot_id=events[-1]["snapshot_id"], files="copy")
            assert getattr(refused.value, "kind", None) == "too_large"
        assert list((tmp_path / "data/workspaces").glob("sess_*")) == []


async def test_without_arbor_there_is_nothing_to_fork_at(open_hub: Any) -> None:
    async with open_hub(packages=("claudecode",)) as hub:
        await hub.client.call("claudecode.create", name="one")
        events = await hub.client.events("claudecode.chat", name="one", prompt="first")
        assert events[-1]["snapshot_id"] is None
        with pytest.raises(NotFound):
            await hub.client.call("claudecode.fork", name="one", snapshot_id="node_1")


async def test_a_narrowed_key_forks_what_it_reaches_to_what_it_reaches(
    open_hub: Any, client_of: Any, workspace: Path, tmp_path: Path, model: Any
) -> None:
    async with open_hub() as hub:
        for name in ("ci-1", "own"):
            await hub.client.call("claudecode.create", name=name, working_dir=str(workspace))
        events = await hub.client.events("claudecode.chat", name="ci-1", prompt="first")
        snapshot_id = events[-1]["snapshot_id"]
        narrowed = client_of(hub, "ci", "claudecode:fork@ci-*", "claudecode:rewind@ci-*")
        fork = await narrowed.call("claudecode.fork", name="ci-1", snapshot_id=snapshot_id)
        assert fork["name"] == "ci-1-fork"
        assert fork["owner"] == "ci"
        for params in ({"name": "ci-1", "new_name": "mine"}, {"name": "own"}):
            with pytest.raises(Forbidden):
                await narrowed.call("claudecode.fork", snapshot_id=snapshot_id, **params)
        with pytest.raises(Forbidden):
            await narrowed.call("claudecode.rewind", name="own", snapshot_id=snapshot_id)
        chats = client_of(hub, "chats", "claudecode:chat")
        for method in ("fork", "rewind"):
            with pytest.raises(Forbidden):
                await chats.call(f"claudecode.{method}", name="ci-1", snapshot_id=snapshot_id)
        assert await chats.call("claudecode.checkpoints", name="ci-1") == []

        # One that is put aside can be forked, and not be taken back.
        await hub.client.call("claudecode.archive", name="ci-1")
        with pytest.raises(Conflict) as refused:
            await hub.client.call("claudecode.rewind", name="ci-1", snapshot_id=snapshot_id)
        assert refused.value.kind == "claudecode.session_archived"
        fork = await hub.client.call("claudecode.fork", name="ci-1", snapshot_id=snapshot_id, new_name="ci-2")
        assert fork["archived_at"] is None


async def test_a_fork_shows_nothing_to_whom_its_parent_shows_nothing(
    open_hub: Any, client_of: Any, workspace: Path
) -> None:
    async with open_hub() as hub:
        await hub.client.call("claudecode.create", name="hers", working_dir=str(workspace))
        snapshot_id = (await hub.client.events("claudecode.chat", name="hers", prompt="hush"))[-1]["snapshot_id"]
        fork = {"name": "hers", "snapshot_id": snapshot_id, "new_name": "mine-1"}
        for verb in ("read", "chat"):
            nosy = client_of(hub, "nosy", "claudecode:fork", f"claudecode:{verb}@mine-*")
            with pytest.raises(Forbidden):
                await nosy.call("claudecode.fork", **fork)
        reader = client_of(hub, "reader", "claudecode:fork", "claudecode:read", "claudecode:chat@mine-*")
        assert (await reader.call("claudecode.fork", **fork))["owner"] == "reader"


async def test_a_fork_bypasses_permissions_for_those_alone_who_may_have_that(
    tmp_path: Path, model: Any, claude: object, client_of: Any
) -> None:
    async with open_host(
        tmp_path / "data", packages=("arbor", "claudecode"), settings={"claudecode": claudecode_settings(model)}
    ) as hub:
        await hub.client.call("claudecode.create", name="one", permission_mode="bypassPermissions")
        done = (await hub.client.events("claudecode.chat", name="one", prompt="first"))[-1]
        fork = {"name": "one", "snapshot_id": done["snapshot_id"]}
        plain = client_of(hub, "plain", "claudecode:fork", "claudecode:read", "claudecode:chat")
        with pytest.raises(Forbidden) as refused:
            await plain.call("claudecode.fork", **fork)
        assert refused.value.data["scope"] == "claudecode:bypass"
        trusted = client_of(hub, "trusted", "claudecode:fork", "claudecode:bypass")
        assert (await trusted.call("claudecode.fork", **fork))["permission_mode"] == "bypassPermissions"
