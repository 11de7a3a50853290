"""A workspace where nothing seems to happen is asked about at once; what has happened is told all the same."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_core.testing.host import TestHost
from clonk_gitsync.errors import NotARepository, NotRegistered
from tests.gitsync.conftest import OpenHost, Place, git

STEADY = 4
"""Looks after which nothing seems to happen."""


async def look(host: TestHost, place: Place) -> dict[str, Any]:
    answer: dict[str, Any] = await host.client.call("gitsync.status", path=str(place.work))
    return answer


async def settle(host: TestHost, place: Place) -> dict[str, Any]:
    """Look until the next look is guessed."""
    for _ in range(STEADY):
        await host.client.call("gitsync.diff", path=str(place.work))
        await look(host, place)
    return await look(host, place)


def write(place: Place) -> None:
    (place.work / "a.txt").write_text("changed\n")


def add(place: Place) -> None:
    write(place)
    git(place.work, "add", "a.txt")


def commit(place: Place) -> None:
    git(place.work, "commit", "-q", "--allow-empty", "-m", "more")


def change_branch(place: Place) -> None:
    git(place.work, "checkout", "-q", "-b", "other")


def detach(place: Place) -> None:
    git(place.work, "checkout", "-q", "--detach")


def merge(place: Place) -> None:
    (place.work / ".git" / "MERGE_HEAD").write_text(f"{place.main}\n")


def lose(place: Place) -> None:
    (place.work / ".git").rename(place.root / "elsewhere")


def begin_anew(place: Place) -> None:
    lose(place)
    git(place.work, "init", "-q", "-b", "trunk")


def exclude(place: Place) -> None:
    (place.work / ".git" / "info" / "exclude").write_text("new\n")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (write, {"status": "dirty", "unstaged": 1, "staged": 0}),
        (add, {"status": "dirty", "unstaged": 0, "staged": 1}),
        (commit, {"status": "dirty", "untracked": 1}),
        (change_branch, {"branch": "other"}),
        (detach, {"branch": None, "status": "detached"}),
        (merge, {"status": "merging"}),
        (lose, {"status": "missing"}),
        (begin_anew, {"branch": "trunk", "commit": None, "untracked": 2}),
        (exclude, {"untracked": 0}),
    ],
)
async def test_what_has_happened_since_the_last_look_is_told(
    registered: TestHost, place: Place, change: Callable[[Place], None], told: dict[str, Any]
) -> None:
    (place.work / "new").write_text("new\n")
    before = await settle(registered, place)
    assert (before["status"], before["untracked"]) == ("dirty", 1)
    change(place)
    found = await look(registered, place)
    assert {name: found[name] for name in told} == told
    assert found["commit"] == (git(place.work, "rev-parse", "-q", "--verify", "HEAD", check=False) or None)
    assert await look(registered, place) == found


async def test_what_was_pushed_since_the_last_look_is_told(open_gitsync: OpenHost, place: Place) -> None:
    async with open_gitsync() as host:
        path = str(place.work)
        await host.client.call("gitsync.register", path=path, remote=place.remote, branch="work")
        write(place)
        await host.client.call("gitsync.commit", path=path, message="one")
        assert (await settle(host, place))["status"] == "no_remote"
        await host.client.call("gitsync.push", path=path)
        assert (await settle(host, place))["status"] == "clean"
        commit(place)
        assert (await look(host, place))["ahead"] == 1


async def test_a_diff_shows_what_was_committed_and_written_since_the_last_one(
    registered: TestHost, place: Place
) -> None:
    await settle(registered, place)
    write(place)
    assert "+changed" in await registered.client.call("gitsync.diff", path=str(place.work))
    git(place.work, "commit", "-q", "-am", "changed")
    assert await registered.client.call("gitsync.diff", path=str(place.work)) == ""


async def test_a_workspace_in_whose_place_a_link_is_put_is_not_followed(registered: TestHost, place: Place) -> None:
    await settle(registered, place)
    other = place.root / "other"
    place.work.rename(other)
    place.work.symlink_to(other)
    assert (await look(registered, place))["status"] == "missing"
    with pytest.raises(NotARepository):
        await registered.client.call("gitsync.diff", path=str(place.work))
    with pytest.raises(NotARepository):
        await registered.client.call("gitsync.sync", path=str(place.work))


async def test_settings_that_were_put_into_a_kept_folder_start_nothing(
    registered: TestHost, place: Place, tmp_path: Path
) -> None:
    mark, program = tmp_path / "ran", tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    program.chmod(0o755)
    (place.work / ".gitattributes").write_text("*.txt filter=x diff=x\n")
    write(place)
    before = await settle(registered, place)
    [folder] = (tmp_path / "host").glob("**/shadows/clonk-git-*")
    status = (folder / "config").stat()
    with (folder / "config").open("a") as config:
        config.write(f'[filter "x"]\n\tclean = {program}\n[diff "x"]\n\ttextconv = {program}\n')
    os.utime(folder / "config", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert await look(registered, place) == before
    await registered.client.call("gitsync.diff", path=str(place.work))
    assert not mark.exists()


async def test_a_folder_that_is_no_workspace_any_more_is_not_looked_at(registered: TestHost, place: Place) -> None:
    await settle(registered, place)
    await registered.client.call("gitsync.unregister", path=str(place.work))
    with pytest.raises(NotRegistered):
        await look(registered, place)


async def test_what_is_known_of_a_workspace_is_what_was_given_last(registered: TestHost, place: Place) -> None:
    async def update(number: int) -> None:
        await registered.client.call("gitsync.update", path=str(place.work), base=f"base{number}")

    async def get() -> Any:
        return (await registered.client.call("gitsync.get", path=str(place.work)))["base"]

    for number in range(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(update, number)
            for _ in range(3):
                nursery.start_soon(get)
        assert await get() == f"base{number}"


async def test_many_who_look_while_somebody_commits_are_each_told_of_one_state(
    registered: TestHost, place: Place
) -> None:
    await settle(registered, place)
    found: list[tuple[Any, Any]] = []

    async def watch() -> None:
        for _ in range(15):
            answer = await look(registered, place)
            found.append((answer["status"], answer["commit"]))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(watch)
        for _ in range(5):
            await trio.to_thread.run_sync(commit, place)
            await trio.sleep(0.01)
    known = set(git(place.work, "rev-list", "HEAD").split())
    assert {commit for _, commit in found} <= known
    assert (await look(registered, place))["commit"] == git(place.work, "rev-parse", "HEAD")
