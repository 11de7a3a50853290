"""Where sessions may work, looked at again when they go on: folders, links and roots change."""

import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost

OpenHub = Callable[..., AbstractAsyncContextManager[TestHost]]


async def _refused(hub: TestHost, name: str) -> CallError:
    with pytest.raises(CallError) as caught:
        await hub.client.events("claudecode.chat", name=name, prompt="hello")
    assert caught.value.kind == "claudecode.working_dir_lost"
    return caught.value


@pytest.fixture
def folder(workspace: Path) -> Path:
    path = workspace / "project"
    path.mkdir()
    return path


async def _chat(hub: TestHost) -> Any:
    return (await hub.client.events("claudecode.chat", name="one", prompt="hello"))[-1]["outcome"]


async def test_a_folder_that_is_gone_is_told_and_works_again_when_it_is_back(hub: TestHost, folder: Path) -> None:
    await hub.client.call("claudecode.create", name="one", working_dir=str(folder))
    folder.rmdir()
    error = await _refused(hub, "one")
    assert error.data["working_dir"] == str(folder)
    assert await hub.client.call("claudecode.history", name="one") == []
    folder.mkdir()
    assert await _chat(hub) == "complete"


@pytest.mark.parametrize("is_warm", [True, False])
async def test_a_link_out_of_the_roots_in_the_folders_place_is_refused(
    hub: TestHost, folder: Path, tmp_path: Path, is_warm: bool
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    await hub.client.call("claudecode.create", name="one", working_dir=str(folder))
    if is_warm:
        assert await _chat(hub) == "complete"
    shutil.rmtree(folder)
    folder.symlink_to(outside)
    await _refused(hub, "one")


async def test_a_link_above_the_folder_is_refused_too(hub: TestHost, folder: Path, tmp_path: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    await hub.client.call("claudecode.create", name="one", working_dir=str(inner))
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    await _refused(hub, "one")


async def test_a_file_in_the_folders_place_is_refused(hub: TestHost, folder: Path) -> None:
    await hub.client.call("claudecode.create", name="one", working_dir=str(folder))
    folder.rmdir()
    folder.write_text("no folder")
    await _refused(hub, "one")


async def test_a_folder_that_is_no_longer_allowed_is_refused(open_hub: OpenHub, workspace: Path) -> None:
    async with open_hub(session={"working_dir": str(workspace.parent / "other")}) as hub:
        (workspace.parent / "other").mkdir()
        await hub.client.call("claudecode.create", name="one", working_dir=str(workspace.parent / "other"))
    async with open_hub() as hub:
        await _refused(hub, "one")
        assert len(await hub.client.call("claudecode.list")) == 1


async def test_a_name_that_is_taken_leaves_no_folder_behind(hub: TestHost, tmp_path: Path) -> None:
    await hub.client.call("claudecode.create", name="one")
    with pytest.raises(CallError):
        await hub.client.call("claudecode.create", name="one")
    assert len(list((tmp_path / "data" / "workspaces").iterdir())) == 1
