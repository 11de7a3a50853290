"""Disks that fill up: of the workspace, and of the hub with its own repository and folders."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost, open_host
from tests.gitsync.conftest import OpenHost, Place, git

Fill = Callable[[Path], None]


class SmallPlace(Place):
    """A place whose allowed root is on a disk that can be filled; the remote is elsewhere."""

    def __init__(self, folder: Path, disk: Path) -> None:
        super().__init__(folder)
        self.ballast = disk / "ballast"
        self.root = disk / "root"
        self.root.mkdir()
        self.other = folder / "other"
        self.work.rename(self.other)
        self.work = self.root / "work"
        git(self.root, "clone", "-q", self.remote, str(self.work))


@pytest.fixture
def small(tmp_path: Path, small_disk: Path) -> SmallPlace:
    return SmallPlace(tmp_path.resolve() / "small", small_disk)


def state(work: Path) -> tuple[str, str, str]:
    """Return what must not be damaged: refs, index and files. Says whether git finds the repository whole."""
    git(work, "fsck", "--strict", "--no-dangling")
    return git(work, "for-each-ref"), git(work, "ls-files", "-s"), (work / ".git" / "HEAD").read_text()


def litter(folder: Path) -> list[str]:
    """Return what a git or we left behind unfinished."""
    signs = ("tmp_", ".lock", ".clonk")
    return sorted(str(one) for one in folder.rglob("*") if any(sign in one.name for sign in signs))


async def test_a_full_workspace_disk_is_told_damages_nothing_and_the_next_sync_does_it_all(
    open_gitsync: OpenHost, small: SmallPlace, fill_the_disk: Fill
) -> None:
    path = str(small.work)
    async with open_gitsync(small.settings()) as host:
        await host.client.call("gitsync.register", path=path, remote=small.remote, branch="main")
        (small.work / "large").write_bytes(os.urandom(200_000))
        (small.work / "a.txt").write_text("changed\n")
        before = state(small.work)
        fill_the_disk(small.ballast)
        for method, more in (("commit", {"message": "x"}), ("sync", {})):
            with pytest.raises(CallError) as caught:
                await host.client.call(f"gitsync.{method}", path=path, **more)
            assert caught.value.kind == "storage_full", method
            assert litter(small.work) == []
            assert state(small.work) == before
        # Looking needs no room there.
        assert (await host.client.call("gitsync.status", path=path))["status"] == "dirty"
        assert "+changed" in await host.client.call("gitsync.diff", path=path)
        small.ballast.unlink()
        assert (await host.client.call("gitsync.sync", path=path))["status"] == "pushed"
    assert git(small.bare, "ls-tree", "--name-only", "claude/work") == "a.txt\nlarge"
    assert git(small.bare, "rev-list", "--count", "claude/work") == "2"
    assert git(small.work, "status", "--porcelain") == ""


async def test_a_full_disk_stops_a_pull_and_a_clone_and_leaves_nothing_of_them(
    open_gitsync: OpenHost, small: SmallPlace, fill_the_disk: Fill
) -> None:
    other = small.other
    (other / "large").write_bytes(os.urandom(200_000))
    (other / "a.txt").write_text("theirs\n")
    git(other, "add", ".")
    git(other, "commit", "-q", "-m", "theirs")
    git(other, "push", "-q", small.remote, "main")
    path, cloned = str(small.work), small.root / "cloned"
    async with open_gitsync(small.settings()) as host:
        await host.client.call("gitsync.register", path=path, remote=small.remote, branch="main")
        before = state(small.work)
        fill_the_disk(small.ballast)
        with pytest.raises(CallError) as caught:
            await host.client.call("gitsync.pull", path=path)
        assert caught.value.kind == "storage_full"
        assert await clone_outcome(host, small, cloned) == "storage_full"
        assert not cloned.exists()
        assert litter(small.work) == []
        assert state(small.work) == before
        assert (small.work / "a.txt").read_text() == "one\ntwo\n"
        assert git(small.work, "--no-optional-locks", "status", "--porcelain") == ""
        assert [one["path"] for one in await host.client.call("gitsync.list")] == [path]
        small.ballast.unlink()
        assert (await host.client.call("gitsync.pull", path=path))["updated"]
        assert await clone_outcome(host, small, cloned) is None
    assert git(small.work, "status", "--porcelain") == ""
    assert git(cloned, "status", "--porcelain") == ""
    assert (cloned / "large").stat().st_size == 200_000


async def test_a_disk_that_fills_while_files_are_put_in_place_is_told_and_the_next_pull_goes_on(
    open_gitsync: OpenHost, small: SmallPlace
) -> None:
    other = small.other
    (other / "a.txt").write_text("theirs\n")
    (other / "even").write_bytes(b"x" * 400_000)  # little as an object, much as a file
    git(other, "add", ".")
    git(other, "commit", "-q", "-m", "theirs")
    git(other, "push", "-q", small.remote, "main")
    path = str(small.work)
    async with open_gitsync(small.settings()) as host:
        await host.client.call("gitsync.register", path=path, remote=small.remote, branch="main")
        free = os.statvfs(small.root).f_bavail * os.statvfs(small.root).f_frsize
        small.ballast.write_bytes(bytes(free - 100_000))
        with pytest.raises(CallError) as caught:
            await host.client.call("gitsync.pull", path=path)
        assert caught.value.kind == "storage_full"
        git(small.work, "fsck", "--strict", "--no-dangling")
        assert git(small.work, "rev-parse", "HEAD") == small.main
        assert await clone_outcome(host, small, small.root / "cloned") == "storage_full"
        assert not (small.root / "cloned").exists()
        small.ballast.unlink()
        # What was put in place before is no change of anybody's: the pull finishes it.
        assert (await host.client.call("gitsync.pull", path=path))["updated"]
    assert git(small.work, "status", "--porcelain") == ""
    assert (small.work / "even").stat().st_size == 400_000


async def clone_outcome(host: TestHost, place: Place, target: Path) -> str | None:
    """Clone, and return the kind of the error, None for none."""
    events = await host.client.events("gitsync.clone", remote=place.remote, path=str(target))
    error: Any = events[-1]["error"]
    return None if error is None else str(error["data"]["kind"])


async def test_a_full_disk_of_the_hub_is_told_and_the_commit_is_kept_for_the_next_sync(
    place: Place, small_disk: Path, fill_the_disk: Fill
) -> None:
    path, ballast = str(place.work), small_disk / "ballast"
    async with open_host(small_disk / "host", packages=["gitsync"], settings=place.settings()) as host:
        await host.client.call("gitsync.register", path=path, remote=place.remote, branch="main")
        (place.work / "large").write_bytes(os.urandom(200_000))
        assert (await host.client.call("gitsync.commit", path=path, message="x"))["made"]
        fill_the_disk(ballast)
        for _ in range(2):
            with pytest.raises(CallError) as caught:
                await host.client.call("gitsync.sync", path=path)
            assert caught.value.kind == "storage_full"
        assert litter(small_disk / "host" / "gitsync" / "repositories") == []
        ballast.unlink()
        assert (await host.client.call("gitsync.sync", path=path))["status"] == "pushed"
    assert git(place.bare, "rev-list", "--count", "claude/work") == "2"
    git(place.bare, "fsck", "--strict")


async def test_with_a_full_disk_of_the_hub_nothing_is_half_done(
    place: Place, small_disk: Path, fill_the_disk: Fill
) -> None:
    """Its folders for a moment are there, too: what needs one is told so, and what does not works."""
    path, ballast = str(place.work), small_disk / "ballast"
    (place.work / "large").write_bytes(os.urandom(200_000))
    async with open_host(small_disk / "host", packages=["gitsync"], settings=place.settings()) as host:
        await host.client.call("gitsync.register", path=path, remote=place.remote, branch="main")
        fill_the_disk(ballast)
        before = state(place.work)
        calls: tuple[tuple[str, dict[str, Any]], ...] = (
            ("status", {}), ("diff", {}), ("commit", {"message": "x"}), ("sync", {}), ("pull", {})
        )  # fmt: skip
        for method, more in calls:
            with pytest.raises(CallError) as caught:
                await host.client.call(f"gitsync.{method}", path=path, **more)
            assert caught.value.kind == "storage_full", method
        assert state(place.work) == before
        ballast.unlink()
        assert (await host.client.call("gitsync.sync", path=path))["status"] == "pushed"
    assert git(place.bare, "rev-list", "--count", "claude/work") == "2"
