"""Work that is cut off anywhere, by its caller: nothing is left behind, and the next call finishes it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_core.testing.host import TestHost
from tests.gitsync.conftest import OpenHost, Place, git
from tests.gitsync.stopping_git import StoppingGit


@pytest.fixture
def stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoppingGit:
    made = StoppingGit(tmp_path / "programs")
    monkeypatch.setenv("PATH", made.path)
    return made


def unfinished(*folders: Path) -> list[str]:
    """Return locks and temporary files that nobody holds any more."""
    return [
        str(one)
        for folder in folders
        for one in folder.rglob("*")
        if one.name.endswith((".lock", ".clonk")) or one.name.startswith("tmp_")
    ]


async def cancelled(
    host: TestHost, stopping: StoppingGit, when: str, name: str, method: str, *, goes_on: bool = False, **params: Any
) -> None:
    """Call, and take it back when git is at a point; what `goes_on` is not ended by that."""
    stopping.stop(when, name)
    async with trio.open_nursery() as nursery:

        async def call() -> None:
            await host.client.call(method, **params)

        nursery.start_soon(call)
        await stopping.wait_reached()
        nursery.cancel_scope.cancel()
        if goes_on:
            stopping.go_on()


async def test_a_sync_that_is_cancelled_at_any_point_is_finished_by_the_next_one(
    stopping: StoppingGit, open_gitsync: OpenHost, place: Place, tmp_path: Path
) -> None:
    path = str(place.work)
    async with open_gitsync() as host:
        await host.client.call("gitsync.register", path=path, remote=place.remote, branch="main")
        for number in range(2):
            (place.work / "a.txt").write_text(f"{number}\n")
            if number == 1:
                stopping.seen()
            await host.client.call("gitsync.sync", path=path)
        names = stopping.seen()
        points = [("before", name) for name in names] + [
            ("after", name) for name in ("update-ref", "push") if name in names
        ]
        assert len(points) > 5
        assert ("after", "push") in points
        commits = 3
        for number, (when, name) in enumerate(points):
            text = f"{name} {number}\n"
            (place.work / "a.txt").write_text(text)
            await cancelled(host, stopping, when, name, "gitsync.sync", path=path)
            assert unfinished(place.work / ".git") == [], name
            git(place.work, "fsck", "--no-dangling")
            answer = await host.client.call("gitsync.sync", path=path)
            assert unfinished(tmp_path / "host" / "gitsync") == [], name
            assert answer["status"] in {"pushed", "up_to_date"}, name
            commits += 1
            assert git(place.bare, "rev-list", "--count", "claude/work") == str(commits), name
            assert git(place.bare, "show", "claude/work:a.txt") == text.strip()
            assert git(place.work, "status", "--porcelain") == ""
            assert place.refs()["refs/heads/main"] == place.main


async def test_a_first_sync_that_is_cancelled_between_its_steps_is_finished_by_the_next_one(
    stopping: StoppingGit, open_gitsync: OpenHost, place: Place, tmp_path: Path
) -> None:
    """The branch is new, HEAD moves to it, and the hub has no repository yet."""
    changing = ("update-index", "hash-object", "update-ref", "symbolic-ref", "init", "index-pack", "push")
    async with open_gitsync() as host:
        await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
        (place.work / "a.txt").write_text("changed\n")
        await host.client.call("gitsync.sync", path=str(place.work))
        points = stopping.points(*changing)
        assert ("before", "push") in points
        for number, (when, name) in enumerate(points):
            work = place.root / f"w{number}"
            git(place.root, "clone", "-q", place.remote, str(work))
            await host.client.call("gitsync.register", path=str(work), remote=place.remote, branch="main")
            (work / "a.txt").write_text("changed\n")
            await cancelled(host, stopping, when, name, "gitsync.sync", path=str(work))
            assert unfinished(work / ".git") == [], (when, name)
            assert (await host.client.call("gitsync.sync", path=str(work)))["status"] in {"pushed", "up_to_date"}
            assert git(place.bare, "rev-list", "--count", f"claude/w{number}") == "2", (when, name)
            assert git(work, "status", "--porcelain") == ""
    assert place.refs()["refs/heads/main"] == place.main


def push_another(other: Path, text: str) -> None:
    """Push one more commit to main."""
    (other / f"new{text}").write_text(text)
    (other / "a.txt").write_text(text)
    git(other, "add", ".")
    git(other, "commit", "-q", "-m", "theirs")
    git(other, "push", "-q", "origin", "main")


async def test_a_pull_that_is_cancelled_is_finished_by_the_next_one(
    stopping: StoppingGit, open_gitsync: OpenHost, place: Place, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    git(place.root, "clone", "-q", place.remote, str(other))
    async with open_gitsync() as host:
        path = str(place.work)
        await host.client.call("gitsync.register", path=path, remote=place.remote, branch="main")
        await host.client.call("gitsync.pull", path=path)
        push_another(other, "first")
        await host.client.call("gitsync.pull", path=path)
        points = stopping.points("fetch", "pack-objects", "index-pack", "read-tree", "update-ref")
        assert ("after", "read-tree") in points
        for number, (when, name) in enumerate(points):
            push_another(other, str(number))
            placing = name in {"read-tree", "update-ref"}
            await cancelled(host, stopping, when, name, "gitsync.pull", goes_on=placing, path=path)
            assert unfinished(place.work / ".git") == [], (when, name)
            await host.client.call("gitsync.pull", path=path)
            assert unfinished(tmp_path / "host" / "gitsync") == [], (when, name)
            assert git(place.work, "rev-parse", "HEAD") == place.refs()["refs/heads/main"], (when, name)
            assert git(place.work, "status", "--porcelain") == "", (when, name)
            assert (place.work / "a.txt").read_text() == f"{number}"


async def test_a_clone_that_is_cancelled_leaves_nothing_and_can_be_made_again(
    stopping: StoppingGit, open_gitsync: OpenHost, place: Place, tmp_path: Path
) -> None:
    async with open_gitsync() as host:
        target = place.root / "first"
        assert (await host.client.events("gitsync.clone", remote=place.remote, path=str(target)))[-1]["error"] is None
        names = stopping.seen()
        assert {"fetch", "read-tree"} <= set(names)
        await host.client.call("gitsync.unregister", path=str(target))
        target = place.root / "cloned"
        for name in names:
            stopping.stop("before", name)
            async with host.client.stream("gitsync.clone", remote=place.remote, path=str(target)) as stream:
                await stopping.wait_reached()
                stopped = await host.client.call("rpc.cancel", subscription=stream.subscription)
                assert stopped["outcome"] == "cancelled"
                assert [event async for _seq, event in stream][-1]["outcome"] == "cancelled"
            assert not target.exists(), name
            assert await host.client.call("gitsync.list") == [], name
            done = (await host.client.events("gitsync.clone", remote=place.remote, path=str(target)))[-1]
            assert done["error"] is None, name
            assert unfinished(tmp_path / "host" / "gitsync") == [], name
            assert git(target, "status", "--porcelain") == "", name
            await host.client.call("gitsync.unregister", path=str(target))
            shutil.rmtree(target)
            for one in (tmp_path / "host" / "gitsync" / "repositories").glob("*.git"):
                shutil.rmtree(one)  # so that it is all to be done again


async def test_a_cancelled_sync_all_stops_and_the_next_one_does_them_all(
    stopping: StoppingGit, open_gitsync: OpenHost, place: Place
) -> None:
    async with open_gitsync() as host:
        for number in range(6):
            work = place.root / f"w{number}"
            git(place.root, "clone", "-q", place.remote, str(work))
            await host.client.call("gitsync.register", path=str(work), remote=place.remote, branch="main")
            (work / "a.txt").write_text(f"{number}\n")
        stopping.stop("before", "push")
        async with host.client.stream("gitsync.sync_all") as stream:
            await stopping.wait_reached()
            assert (await host.client.call("rpc.cancel", subscription=stream.subscription))["outcome"] == "cancelled"
        events = await host.client.events("gitsync.sync_all")
    told = [event for event in events if event["type"] == "workspace"]
    assert len(told) == 6
    assert {event["result"]["status"] for event in told} <= {"pushed", "up_to_date"}
    assert len(place.refs()) == 7
    assert {git(place.bare, "rev-list", "--count", name) for name in place.refs()} == {"1", "2"}
