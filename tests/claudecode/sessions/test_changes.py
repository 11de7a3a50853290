"""Changing, archiving and deleting sessions."""

from pathlib import Path
from typing import Any

import pytest

from clonk_claudecode.testing.script import Reply, Wait
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.errors import CallError
from clonk_core.testing.host import TestHost
from tests.claudecode.sessions.conftest import OpenHub


async def _refusal(hub: TestHost, method: str, **params: Any) -> str:
    with pytest.raises(CallError) as refused:
        await hub.client.call(method, **params)
    return refused.value.kind


async def test_a_session_is_changed_and_the_next_turn_is_as_it_says(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add("One.", "Two.")
    await hub.client.call("claudecode.create", name="w", working_dir=str(workspace), metadata={"ticket": "7"})
    await hub.client.events("claudecode.chat", name="w", prompt="a")
    session = await hub.client.call(
        "claudecode.update", name="w", model="opus", system_prompt="Speak softly.", permission_mode="acceptEdits"
    )
    assert (session["model"], session["permission_mode"]) == ("opus", "acceptEdits")
    assert session["metadata"] == {"ticket": "7"}
    events = await hub.client.events("claudecode.chat", name="w", prompt="b")
    assert (events[0]["model"], events[-1]["outcome"]) == ("opus", "complete")
    first, last = model.requests[0], model.requests[-1]
    assert "opus" in last.body["model"]
    assert "opus" not in first.body["model"]
    assert "Speak softly." in str(last.body["system"])
    assert "One." in str(last.body["messages"])  # the conversation goes on


async def test_a_new_name_keeps_everything_and_frees_the_old_one(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    model.add("One.", "Two.")
    old = await hub.client.call("claudecode.create", name="w", working_dir=str(workspace))
    await hub.client.events("claudecode.chat", name="w", prompt="a")
    assert (await hub.client.call("claudecode.update", name="w", new_name="v"))["id"] == old["id"]
    assert await _refusal(hub, "claudecode.get", name="w") == "not_found"
    # Who may see trees of the old name sees it no more.
    (tree,) = await hub.client.call("arbor.tree_list")
    assert tree["name"] == "v"
    await hub.client.call("claudecode.create", name="w", working_dir=str(workspace))
    assert await _refusal(hub, "claudecode.update", name="v", new_name="w") == "conflict"
    await hub.client.events("claudecode.chat", name="v", prompt="b")
    assert [message["role"] for message in await hub.client.call("claudecode.history", name="v")] == [
        "user",
        "assistant",
        "user",
        "assistant",
    ]


@pytest.mark.parametrize(
    "params",
    [
        {"metadata": {"": "x"}},
        {"metadata": {"n" * 65: "x"}},
        {"metadata": {"n": "x" * 1001}},
        {"metadata": {str(number): "x" for number in range(51)}},
        {"metadata": {"n": 1}},
        {"new_name": "with blank"},
        {"model": ""},
        {"permission_mode": "all"},
        {"system_prompt": "x" * 100_001},
    ],
)
async def test_what_is_against_the_rules_changes_nothing(
    hub: TestHost, workspace: Path, params: dict[str, Any]
) -> None:
    await hub.client.call("claudecode.create", name="w", working_dir=str(workspace), metadata={"a": "b"})
    before = await hub.client.call("claudecode.get", name="w")
    assert await _refusal(hub, "claudecode.update", name="w", **params) == "invalid_params"
    assert await hub.client.call("claudecode.get", name="w") == before


async def test_empty_values_remove(hub: TestHost, workspace: Path) -> None:
    await hub.client.call(
        "claudecode.create", name="w", working_dir=str(workspace), metadata={"a": "b"}, system_prompt="Hm."
    )
    session = await hub.client.call("claudecode.update", name="w", metadata={}, system_prompt="")
    assert (session["metadata"], session["system_prompt"]) == ({}, None)


async def test_an_archived_session_is_kept_whole_and_takes_no_prompts(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path
) -> None:
    model.add("One.", "Two.")
    async with open_hub() as hub:
        await hub.client.call("claudecode.create", name="w", working_dir=str(workspace))
        await hub.client.events("claudecode.chat", name="w", prompt="a")
        session = await hub.client.call("claudecode.archive", name="w")
        assert session["archived_at"]
        assert session["state"] == "parked"
        assert await hub.client.call("claudecode.archive", name="w") == session  # twice is once
    async with open_hub() as hub:
        assert await hub.client.call("claudecode.list") == []
        assert [one["name"] for one in await hub.client.call("claudecode.list", archived=True)] == ["w"]
        assert len(await hub.client.call("claudecode.history", name="w")) == 2
        assert await _refusal(hub, "claudecode.chat", name="w", prompt="b") == "claudecode.session_archived"
        assert (await hub.client.call("claudecode.archive", name="w", archived=False))["archived_at"] is None
        events = await hub.client.events("claudecode.chat", name="w", prompt="b")
        assert events[-1]["outcome"] == "complete"


async def test_a_session_that_answers_is_not_archived(hub: TestHost, model: ScriptedModel, workspace: Path) -> None:
    model.add(Reply(["Wait ", Wait("gate"), "for it."]))
    await hub.client.call("claudecode.create", name="w", working_dir=str(workspace))
    async with hub.client.stream("claudecode.chat", name="w", prompt="a") as events:
        await events.next()
        assert await _refusal(hub, "claudecode.archive", name="w") == "conflict"
        model.release("gate")


@pytest.mark.parametrize("keep", [True, False])
async def test_the_folder_made_for_a_session_goes_with_it_unless_it_is_kept(
    open_hub: OpenHub, tmp_path: Path, keep: bool
) -> None:
    async with open_hub() as hub:
        session = await hub.client.call("claudecode.create", name="w")
        folder, outside = Path(session["working_dir"]), tmp_path / "outside"
        outside.mkdir()
        (outside / "file").write_text("precious")
        (folder / "made").mkdir()
        (folder / "made" / "file").write_text("x")
        (folder / "link").symlink_to(outside)
        assert await hub.client.call("claudecode.delete", name="w", keep_workspace=keep) is True
    assert folder.exists() is keep
    assert (outside / "file").read_text() == "precious"


async def test_a_folder_that_a_session_was_given_stays(hub: TestHost, workspace: Path) -> None:
    (workspace / "file").write_text("precious")
    await hub.client.call("claudecode.create", name="w", working_dir=str(workspace))
    await hub.client.call("claudecode.delete", name="w")
    assert (workspace / "file").read_text() == "precious"


async def test_whoever_creates_a_session_is_its_owner(hub: TestHost, workspace: Path) -> None:
    await hub.client.call("claudecode.create", name="w", working_dir=str(workspace))
    assert (await hub.client.call("claudecode.get", name="w"))["owner"] == "local"


async def test_the_tree_of_a_session_is_claimed_and_goes_with_it(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    await hub.client.call("claudecode.create", name="w", working_dir=str(workspace))
    await hub.client.events("claudecode.chat", name="w", prompt="a")
    tree = (await hub.client.call("claudecode.get", name="w"))["tree_id"]
    for method in ("arbor.tree_delete", "arbor.tree_archive"):
        assert await _refusal(hub, method, id=tree) == "arbor.tree_claimed"
    await hub.client.call("claudecode.delete", name="w")
    assert await _refusal(hub, "arbor.tree_get", id=tree) == "arbor.tree_not_found"


async def test_a_tree_that_somebody_else_claims_stays_when_its_session_goes(
    hub: TestHost, model: ScriptedModel, workspace: Path
) -> None:
    await hub.client.call("claudecode.create", name="w", working_dir=str(workspace))
    await hub.client.events("claudecode.chat", name="w", prompt="a")
    tree = (await hub.client.call("claudecode.get", name="w"))["tree_id"]
    await hub.client.call("arbor.tree_claim", id=tree, owner="audit")
    await hub.client.call("claudecode.delete", name="w")
    assert (await hub.client.call("arbor.tree_get", id=tree))["id"] == tree
