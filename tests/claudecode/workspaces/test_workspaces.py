"""The folders that sessions work in: their own, shared by name, given; and how much they may hold."""

import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_claudecode.workspaces.quota import measure
from clonk_core.errors import CallError
from clonk_core.testing.host import TestHost
from tests.claudecode.sessions.conftest import OpenHub
from tests.claudecode.sharing.conftest import ClientOf

TRANSCRIPT = orjson.dumps(
    {
        "type": "user",
        "uuid": "00000000-0000-4000-8000-000000000001",
        "parentUuid": None,
        "sessionId": "00000000-0000-4000-8000-000000000002",
        "timestamp": "2026-01-01T00:00:00Z",
        "message": {"role": "user", "content": "Hello."},
    }
).decode()


async def test_a_session_that_names_no_folder_gets_one_of_its_own(hub: TestHost, tmp_path: Path) -> None:
    session = await hub.client.call("claudecode.create", name="w")
    assert session["working_dir"] == str(tmp_path / "data" / "workspaces" / session["id"])
    found = await hub.client.call("claudecode.workspace", name="w")
    assert (found["path"], found["kind"], found["files"], found["bytes"]) == (session["working_dir"], "own", 0, 0)


async def test_sessions_share_a_folder_by_its_name_and_it_stays_when_they_go(hub: TestHost, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "workspaces" / "shared" / "site"
    for name in ("a", "b"):
        session = await hub.client.call("claudecode.create", name=name, workspace="site")
        assert session["working_dir"] == str(folder)
    (folder / "file").write_text("precious")
    assert (await hub.client.call("claudecode.workspace", name="b"))["kind"] == "shared"
    for name in ("a", "b"):
        await hub.client.call("claudecode.delete", name=name)
    assert (folder / "file").read_text() == "precious"


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../up", "x" * 65, "a b", "ä", 7, None])
async def test_a_workspace_has_a_plain_name(hub: TestHost, tmp_path: Path, name: Any) -> None:
    if name is None:
        await hub.client.call("claudecode.create", name="w", workspace=None)  # as left out
        return
    with pytest.raises(CallError) as refused:
        await hub.client.call("claudecode.create", name="w", workspace=name)
    assert refused.value.kind == "invalid_params"
    assert not (tmp_path / "data" / "workspaces" / "shared").exists()


async def test_a_folder_is_given_or_shared_not_both(hub: TestHost, workspace: Path) -> None:
    with pytest.raises(CallError) as refused:
        await hub.client.call("claudecode.create", name="w", workspace="site", working_dir=str(workspace))
    assert refused.value.data["path"] == "$.workspace"


async def test_a_link_in_the_place_of_a_shared_folder_is_refused(hub: TestHost, tmp_path: Path) -> None:
    shared = tmp_path / "data" / "workspaces" / "shared"
    shared.mkdir(parents=True)
    (shared / "site").symlink_to(tmp_path)
    with pytest.raises(CallError) as refused:
        await hub.client.call("claudecode.create", name="w", workspace="site")
    assert refused.value.kind == "invalid_params"
    assert await hub.client.call("claudecode.list") == []


@pytest.mark.parametrize("inside", ["", "shared"])
async def test_the_folder_that_holds_the_sessions_own_is_given_to_none(
    hub: TestHost, tmp_path: Path, inside: str
) -> None:
    await hub.client.call("claudecode.create", name="w", workspace="site")
    with pytest.raises(CallError) as refused:
        await hub.client.call(
            "claudecode.create", name="all", working_dir=str(tmp_path / "data" / "workspaces" / inside)
        )
    assert refused.value.data["path"] == "$.working_dir"


async def test_a_folder_made_for_a_session_is_given_to_those_alone_who_may_read_that(
    hub: TestHost, client_of: ClientOf
) -> None:
    hers = await hub.client.call("claudecode.create", name="hers")
    inside = Path(hers["working_dir"], "inside")
    inside.mkdir()
    nosy = client_of(hub, "nosy", "claudecode:create", "claudecode:read@mine-*", "claudecode:chat@mine-*")
    for method, more in {"create": {}, "import": {"transcript": TRANSCRIPT}}.items():
        for folder in (hers["working_dir"], str(inside)):
            with pytest.raises(CallError) as refused:
                await nosy.call(f"claudecode.{method}", name="mine-1", working_dir=folder, **more)
            assert refused.value.kind == "forbidden"
    assert [one["name"] for one in await hub.client.call("claudecode.list")] == ["hers"]
    reader = client_of(hub, "reader", "claudecode:create", "claudecode:read")
    made = await reader.call("claudecode.create", name="beside", working_dir=str(inside))
    assert made["working_dir"] == str(inside)


@pytest.mark.parametrize("what", ["a file", "a link to nothing"])
async def test_what_is_no_folder_in_the_place_of_a_shared_one_is_told(hub: TestHost, tmp_path: Path, what: str) -> None:
    shared = tmp_path / "data" / "workspaces" / "shared"
    shared.mkdir(parents=True)
    if what == "a file":
        (shared / "site").touch()
    else:
        (shared / "site").symlink_to("/nonexistent/clonk")
    with pytest.raises(CallError) as refused:
        await hub.client.call("claudecode.create", name="w", workspace="site")
    assert (refused.value.kind, refused.value.data["path"]) == ("invalid_params", "$.workspace")


@pytest.mark.parametrize("limit", [{"max_bytes": 100_000}, {"max_files": 3}])
async def test_a_folder_beyond_its_limit_takes_no_prompts_until_there_is_room(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path, limit: dict[str, int]
) -> None:
    async with open_hub(workspaces=limit) as hub:
        own = Path((await hub.client.call("claudecode.create", name="own"))["working_dir"])
        await hub.client.call("claudecode.create", name="given", working_dir=str(workspace))
        for folder in (own, workspace):
            for number in range(4):
                (folder / f"file{number}").write_bytes(b"x" * 40_000)
        with pytest.raises(CallError) as refused:
            await hub.client.events("claudecode.chat", name="own", prompt="go")
        assert refused.value.kind == "claudecode.workspace_full"
        assert refused.value.data["files"] == 4
        assert refused.value.data["bytes"] >= 160_000
        assert model.requests == []
        found = await hub.client.call("claudecode.workspace", name="own")
        assert {name: found[name] for name in limit} == limit
        for number in range(3):
            (own / f"file{number}").unlink()
        assert (await hub.client.events("claudecode.chat", name="own", prompt="go"))[-1]["outcome"] == "complete"
        # A folder that was there before is nobody's to limit.
        assert (await hub.client.events("claudecode.chat", name="given", prompt="go"))[-1]["outcome"] == "complete"


def test_what_a_folder_holds_is_counted_once_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "large").write_bytes(b"x" * 1_000_000)
    folder = tmp_path / "folder"
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "deep" / "file").write_bytes(b"x" * 50_000)
    os.link(folder / "deep" / "file", folder / "deep" / "deeper" / "again")
    (folder / "link").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "sparse").touch()
    os.truncate(folder / "sparse", 10**9)
    found = measure(folder)
    assert (found.files, found.complete) == (7, True)
    assert 50_000 <= found.bytes < 200_000
    assert (measure(folder, at_most=3).files, measure(folder, at_most=3).complete) == (3, False)
    assert measure(tmp_path / "gone").files == 0
