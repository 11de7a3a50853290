"""`clonk serve` is killed at many points of a sync: the sync of the next server finishes it, with one commit."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_core.client.base import ConnectionLost
from clonk_core.client.http import HttpClient
from clonk_core.testing.server_process import ServerProcess, server_process
from tests.gitsync.conftest import Place, git
from tests.gitsync.stopping_git import StoppingGit

POINTS = (
    ("before", "hash-object"),
    ("before", "update-ref"),
    ("after", "update-ref"),
    ("before", "symbolic-ref"),
    ("after", "symbolic-ref"),
    ("before", "ls-remote"),  # the commit is made, and nothing is pushed
    ("before", "push"),
    ("after", "push"),  # the remote has it, and nobody was told
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path.resolve())


async def _killed(server: ServerProcess, stopping: StoppingGit, when: str, name: str, work: Path) -> None:
    """Have a sync reach a point, and kill the server there."""
    stopping.stop(when, name)
    async with trio.open_nursery() as nursery:

        async def sync() -> None:
            async with HttpClient(server.http_url) as client:
                with pytest.raises(ConnectionLost):
                    await client.call("gitsync.sync", path=str(work))

        nursery.start_soon(sync)
        await stopping.wait_reached()
        await server.kill()


@pytest.mark.deadline(150)
async def test_after_a_kill_at_any_point_the_next_sync_finishes_and_makes_no_second_commit(
    place: Place, tmp_path: Path
) -> None:
    stopping = StoppingGit(tmp_path / "programs")
    settings = {**place.settings(), "plugins": {"disabled": ["claudecode", "arbor"]}}
    start = partial(server_process, tmp_path / "hub", settings=settings, environ={"PATH": stopping.path})
    points = await _points(start, stopping, place)
    left: tuple[str, Path, bool] | None = None
    for number, point in enumerate([*points, ("before", "push"), None]):
        async with start() as server:
            async with HttpClient(server.http_url) as client:
                if left is not None:
                    await _check(client, place, *left)
                if point is None:
                    break
                work = place.root / f"w{number}"
                git(place.root, "clone", "-q", place.remote, str(work))
                await client.call("gitsync.register", path=str(work), remote=place.remote, branch="main")
            (work / "a.txt").write_text(f"{number}\n")
            (work / "new").write_text("new\n")
            await _killed(server, stopping, *point, work)
            left = (f"{point} {number}", work, number == len(points))
            if left[2]:
                stopping.go_on()  # what the dead server has started pushes while its successor does
            else:
                stopping.kill()
    assert place.refs()["refs/heads/main"] == place.main


async def _points(start: Any, stopping: StoppingGit, place: Place) -> list[tuple[str, str]]:
    """Return those of the points that a first sync comes to."""
    async with start() as server, HttpClient(server.http_url) as client:
        await client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
        (place.work / "a.txt").write_text("changed\n")
        await client.call("gitsync.sync", path=str(place.work))
    seen = stopping.seen()
    points = [point for point in POINTS if point[1] in seen]
    assert {("before", "push"), ("after", "push")} < set(points)
    return points


async def _check(client: HttpClient, place: Place, name: str, work: Path, pushes_alone: bool) -> None:
    branch = f"claude/{work.name}"
    answer: Any = await client.call("gitsync.sync", path=str(work))
    assert answer["status"] in {"pushed", "up_to_date"}, name
    if "before" in name and not pushes_alone:
        assert (answer["status"], answer["files_changed"]) == ("pushed", 2), name
    assert git(place.bare, "rev-list", "--count", branch) == "2", name
    assert git(place.bare, "show", f"{branch}:a.txt") == (work / "a.txt").read_text().strip(), name
    assert git(work, "symbolic-ref", "HEAD") == f"refs/heads/{branch}", name
    assert git(work, "status", "--porcelain") == "", name
    assert git(work, "rev-parse", "HEAD") == place.refs()[f"refs/heads/{branch}"], name
    assert (await client.call("gitsync.sync", path=str(work)))["status"] == "up_to_date", name
    assert list((work / ".git").rglob("*.lock")) == [], name
    assert place.refs()["refs/heads/main"] == place.main, name
