"""Folders over a real database and a real file system."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clonk_core.plugin import Database, InvalidParams
from clonk_core.storage.sqlite import open_sqlite
from clonk_gitsync.errors import AlreadyRegistered
from clonk_gitsync.messages import WorkspaceConfig
from clonk_gitsync.policy import Policy
from clonk_gitsync.settings import GitSyncSettings
from clonk_gitsync.workspaces import Workspaces

REMOTE = "git@github.com:org/repo.git"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_sqlite(tmp_path / "gitsync.db", "gitsync", migrations=["clonk_gitsync.migrations"]) as opened:
        yield opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The one allowed folder, with three workspaces in it."""
    root = tmp_path.resolve() / "root"
    for name in ("a", "b", "c"):
        (root / name).mkdir(parents=True)
    return root


@pytest.fixture
def workspaces(database: Database, root: Path) -> Workspaces:
    return Workspaces(database, [root], Policy(GitSyncSettings(), [root]))


async def register(workspaces: Workspaces, path: Path, remote: str, branch: str) -> WorkspaceConfig:
    return await workspaces.register(WorkspaceConfig(path=path, remote=remote, branch=branch))


async def test_a_registered_folder_is_listed(workspaces: Workspaces, root: Path) -> None:
    config = await register(workspaces, root / "a", REMOTE, "main")
    assert config == WorkspaceConfig(path=root / "a", remote=REMOTE, branch="main", auto_commit=False, auto_push=False)
    assert await workspaces.list(10, None) == (config,)


async def test_registering_the_same_again_changes_nothing(workspaces: Workspaces, root: Path) -> None:
    first = await register(workspaces, root / "a", REMOTE, "main")
    assert await register(workspaces, root / "b" / ".." / "a", REMOTE, "main") == first
    assert len(await workspaces.list(10, None)) == 1


@pytest.mark.parametrize(("remote", "branch"), [(REMOTE, "other"), ("git@github.com:org/other.git", "main")])
async def test_a_folder_belongs_to_one_branch(workspaces: Workspaces, root: Path, remote: str, branch: str) -> None:
    first = await register(workspaces, root / "a", REMOTE, "main")
    with pytest.raises(AlreadyRegistered) as caught:
        await register(workspaces, root / "a", remote, branch)
    assert (caught.value.data["remote"], caught.value.data["branch"]) == (REMOTE, "main")
    assert await workspaces.list(10, None) == (first,)


async def test_an_unregistered_folder_is_gone_and_may_be_registered_anew(workspaces: Workspaces, root: Path) -> None:
    await register(workspaces, root / "a", REMOTE, "main")
    assert await workspaces.unregister(root / "a")
    assert not await workspaces.unregister(root / "a")
    assert await workspaces.list(10, None) == ()
    await register(workspaces, root / "a", REMOTE, "other")


async def test_a_folder_that_was_deleted_can_be_unregistered(workspaces: Workspaces, root: Path) -> None:
    await register(workspaces, root / "a", REMOTE, "main")
    (root / "a").rmdir()
    assert await workspaces.unregister(root / "a")


async def test_a_folder_that_became_a_link_is_unregistered_by_the_path_in_the_list(
    workspaces: Workspaces, root: Path
) -> None:
    await register(workspaces, root / "a", REMOTE, "main")
    (root / "a").rmdir()
    (root / "a").symlink_to(root / "b")
    assert await workspaces.unregister(root / "a")
    assert await workspaces.list(10, None) == ()


async def test_a_link_inside_the_roots_registers_what_it_leads_to(workspaces: Workspaces, root: Path) -> None:
    (root / "link").symlink_to(root / "a")
    config = await register(workspaces, root / "link", REMOTE, "main")
    assert config.path == root / "a"
    assert await workspaces.unregister(root / "link")


async def test_paths_that_lead_outside_the_roots_are_refused(
    workspaces: Workspaces, root: Path, tmp_path: Path
) -> None:
    (root / "out").symlink_to(tmp_path)
    (tmp_path / "root-too").mkdir()
    outside = [
        tmp_path, Path("/"), Path("/etc"), root / "..", root / "a" / ".." / "..", root / "out",
        root / "out" / "root-too", tmp_path / "root-too", tmp_path / "missing",
    ]  # fmt: skip
    for path in outside:
        with pytest.raises(InvalidParams, match="outside") as caught:
            await register(workspaces, path, REMOTE, "main")
        assert caught.value.path == "$.path"
    assert await workspaces.list(10, None) == ()


async def test_a_root_itself_may_be_registered(workspaces: Workspaces, root: Path) -> None:
    assert (await register(workspaces, root, REMOTE, "main")).path == root


async def test_what_is_no_folder_is_refused(workspaces: Workspaces, root: Path) -> None:
    (root / "file").touch()
    (root / "dangling").symlink_to(root / "nowhere")
    for name in ("missing", "file", "file/below", "dangling", "x" * 300):
        with pytest.raises(InvalidParams, match="no such folder"):
            await register(workspaces, root / name, REMOTE, "main")


async def test_paths_that_cannot_be_followed_are_refused(workspaces: Workspaces, root: Path) -> None:
    not_utf8 = os.fsdecode(os.fsencode(root) + b"/\xff")
    Path(not_utf8).mkdir()
    (root / "strange").symlink_to(not_utf8)
    for path in (Path("a"), Path("../a"), root / "nul\x00", root / "strange"):
        for act in (
            lambda path=path: register(workspaces, path, REMOTE, "main"),
            lambda path=path: workspaces.unregister(path),
        ):
            with pytest.raises(InvalidParams) as caught:
                await act()
            assert caught.value.path == "$.path"


async def test_a_loop_of_links_is_refused(workspaces: Workspaces, root: Path) -> None:
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(InvalidParams):
        await register(workspaces, root / "loop", REMOTE, "main")


@pytest.mark.parametrize(
    ("remote", "branch", "path"),
    [
        ("ext::sh -c id", "main", "$.remote"),
        ("https://u:p@example.com/r", "main", "$.remote"),
        (REMOTE, "-d", "$.branch"),
    ],
)
async def test_remotes_and_branches_that_may_not_be_used_are_refused(
    workspaces: Workspaces, root: Path, remote: str, branch: str, path: str
) -> None:
    with pytest.raises(InvalidParams) as caught:
        await register(workspaces, root / "a", remote, branch)
    assert caught.value.path == path
    assert await workspaces.list(10, None) == ()


async def test_folders_are_listed_by_path_page_by_page_each_once(workspaces: Workspaces, root: Path) -> None:
    for name in ("c", "a", "b"):
        await register(workspaces, root / name, REMOTE, name)
    first = await workspaces.list(2, None)
    rest = await workspaces.list(2, first[-1].path)
    assert [config.path.name for config in (*first, *rest)] == ["a", "b", "c"]
