"""Pushes that go off by themselves are kept until they are done."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import trio

from clonk_core.testing.host import TestHost
from tests.gitsync.conftest import OpenHost, Place, git

BRANCH = "refs/heads/claude/work"


async def commit(host: TestHost, place: Place, text: str) -> str:
    """Commit a change in a workspace that pushes by itself."""
    path = str(place.work)
    await host.client.call("gitsync.register", path=path, remote=place.remote, branch="main", auto_push=True)
    (place.work / "a.txt").write_text(text)
    made = await host.client.call("gitsync.commit", path=path, message=text)
    return str(made["commit"])


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not holds():
            await trio.sleep(0.02)


def waiting(folder: Path) -> int:
    """Return how many pushes the host keeps."""
    with closing(sqlite3.connect(f"file:{folder / 'host' / 'gitsync.db'}?mode=ro", uri=True)) as database:
        return int(database.execute("select count(*) from pushes").fetchone()[0])


def away(place: Place) -> Path:
    """Take the remote away, and return where it is now."""
    elsewhere = place.bare.with_name("away.git")
    place.bare.rename(elsewhere)
    return elsewhere


async def test_a_push_that_was_not_done_is_done_by_the_next_run(open_gitsync: OpenHost, place: Place) -> None:
    elsewhere = away(place)
    async with open_gitsync(push_retry_s=3600.0) as host:
        made = await commit(host, place, "changed\n")
        await until(lambda: "a commit is not pushed yet" in host.log_text)
    elsewhere.rename(place.bare)
    async with open_gitsync(push_retry_s=3600.0):
        await until(lambda: BRANCH in place.refs())
    assert place.refs() == {"refs/heads/main": place.main, BRANCH: made}


async def test_a_commit_right_before_the_end_of_a_run_is_pushed_by_the_next(
    open_gitsync: OpenHost, place: Place
) -> None:
    """The wish is kept before the commit is made: there is no moment at which only the commit is there."""
    async with open_gitsync() as host:
        made = await commit(host, place, "changed\n")
    async with open_gitsync():
        await until(lambda: place.refs().get(BRANCH) == made)


async def test_a_remote_that_comes_back_is_pushed_to(open_gitsync: OpenHost, place: Place) -> None:
    elsewhere = away(place)
    async with open_gitsync(push_retry_s=0.05) as host:
        made = await commit(host, place, "changed\n")
        await until(lambda: host.log_text.count("a commit is not pushed yet") >= 2)
        elsewhere.rename(place.bare)
        await until(lambda: "a commit is pushed" in host.log_text)
    assert place.refs()[BRANCH] == made


async def test_a_remote_that_stays_away_is_tried_so_often_and_no_more(open_gitsync: OpenHost, place: Place) -> None:
    elsewhere = away(place)
    async with open_gitsync(push_retry_s=0.01, push_attempts=3) as host:
        await commit(host, place, "changed\n")
        await until(lambda: '"a commit is not pushed"' in host.log_text)
        assert host.log_text.count("a commit is not pushed yet") == 2
        elsewhere.rename(place.bare)
        # The next commit is a new wish, and brings both.
        made = await commit(host, place, "changed again\n")
        await until(lambda: place.refs().get(BRANCH) == made)
    assert git(place.bare, "rev-list", "--count", made) == "3"


async def test_what_the_remote_refuses_is_not_tried_again(open_gitsync: OpenHost, place: Place, tmp_path: Path) -> None:
    hook = place.bare / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    async with open_gitsync(push_retry_s=0.01) as host:
        await commit(host, place, "changed\n")
        await until(lambda: '"a commit is not pushed"' in host.log_text)
        assert "a commit is not pushed yet" not in host.log_text
        await until(lambda: waiting(tmp_path) == 0)
    assert BRANCH not in place.refs()


async def test_a_workspace_that_wants_it_no_more_is_not_pushed(
    open_gitsync: OpenHost, place: Place, tmp_path: Path
) -> None:
    path, elsewhere = str(place.work), away(place)
    async with open_gitsync(push_retry_s=3600.0) as host:
        await commit(host, place, "changed\n")
        await until(lambda: "a commit is not pushed yet" in host.log_text)
        assert waiting(tmp_path) == 1
        await host.client.call("gitsync.unregister", path=path)
        assert waiting(tmp_path) == 0
        await commit(host, place, "changed again\n")
        await until(lambda: host.log_text.count("a commit is not pushed yet") == 2)
        await host.client.call("gitsync.update", path=path, auto_push=False)
    elsewhere.rename(place.bare)
    async with open_gitsync():
        await until(lambda: waiting(tmp_path) == 0)
    assert BRANCH not in place.refs()


async def test_a_waiting_push_brings_its_own_branch_and_not_what_is_checked_out_since(
    open_gitsync: OpenHost, place: Place
) -> None:
    elsewhere = away(place)
    async with open_gitsync(push_retry_s=3600.0) as host:
        made = await commit(host, place, "changed\n")
        await until(lambda: "a commit is not pushed yet" in host.log_text)
        git(place.work, "checkout", "-q", "-b", "another")
        git(place.work, "commit", "-q", "--allow-empty", "-m", "not for the remote")
    elsewhere.rename(place.bare)
    async with open_gitsync():
        await until(lambda: BRANCH in place.refs())
    assert place.refs() == {"refs/heads/main": place.main, BRANCH: made}
