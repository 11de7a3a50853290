"""What others do meanwhile: the network is cut, a process writes, calls come at once. No commit is made twice."""

import os
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost
from tests.gitsync.conftest import OpenHost, Place, git, keep_secret
from tests.gitsync.cutting_proxy import CuttingProxy, cutting_proxy
from tests.gitsync.test_credentials import TOKEN, backend, settings_for

__all__ = ["backend"]


@pytest.fixture
async def proxy(backend: Any) -> AsyncIterator[CuttingProxy]:
    """Stands before the place's remote, which is reached by HTTP."""
    async with cutting_proxy(int(backend.url.rpartition(":")[2])) as opened:
        yield opened


async def test_a_push_that_the_network_cuts_anywhere_is_finished_without_a_second_commit(
    place: Place, open_gitsync: OpenHost, backend: Any, proxy: CuttingProxy, tmp_path: Path
) -> None:
    await keep_secret(tmp_path, TOKEN)
    settings = settings_for(place, backend)
    settings["gitsync"]["allowed_remotes"] = [f"http://127.0.0.1:{proxy.port}/*"]
    settings["gitsync"]["credentials"] = [{"host": f"127.0.0.1:{proxy.port}", "token": "forge"}]
    path, commits = str(place.work), 1
    async with open_gitsync(settings) as host:
        remote = f"http://127.0.0.1:{proxy.port}/repo.git"
        await host.client.call("gitsync.register", path=path, remote=remote, branch="main")
        # In the first request; in the middle of the pack; in the answer, when the server has done it.
        for way, size in (("there", 100), ("there", 60_000), ("there", 250_000), ("back", 10), ("back", 1200)):
            (place.work / "large").write_bytes(os.urandom(300_000))
            proxy.cut_after, proxy.was_cut = {way: size}, False
            try:
                cut = (await host.client.call("gitsync.sync", path=path))["status"]
            except CallError as error:
                cut = error.data["reason"]
            assert proxy.was_cut
            assert cut in {"committed", "unreachable"}
            proxy.cut_after = {}
            git(place.bare, "fsck", "--strict")
            answer = await host.client.call("gitsync.sync", path=path)
            assert answer["status"] in {"pushed", "up_to_date"}
            commits += 1
            assert git(place.bare, "rev-list", "--count", "claude/work") == str(commits)
            assert place.refs()["refs/heads/claude/work"] == git(place.work, "rev-parse", "HEAD")
    assert place.refs()["refs/heads/main"] == place.main


async def test_a_clone_that_the_network_cuts_leaves_nothing(
    place: Place, open_gitsync: OpenHost, backend: Any, proxy: CuttingProxy, tmp_path: Path
) -> None:
    (place.work / "large").write_bytes(os.urandom(300_000))
    git(place.work, "add", ".")
    git(place.work, "commit", "-q", "-m", "large")
    git(place.work, "push", "-q", place.remote, "main")
    await keep_secret(tmp_path, TOKEN)
    settings = settings_for(place, backend)
    settings["gitsync"]["allowed_remotes"] = [f"http://127.0.0.1:{proxy.port}/*"]
    settings["gitsync"]["credentials"] = [{"host": f"127.0.0.1:{proxy.port}", "token": "forge"}]
    target = place.root / "cloned"
    async with open_gitsync(settings) as host:
        remote = f"http://127.0.0.1:{proxy.port}/repo.git"
        for size in (10, 100_000):
            proxy.cut_after = {"back": size}
            done = (await host.client.events("gitsync.clone", remote=remote, path=str(target)))[-1]
            error = done["error"]["data"]
            assert (error["kind"], error["reason"]) == ("gitsync.remote_failed", "unreachable")
            assert not target.exists()
        proxy.cut_after = {}
        assert (await host.client.events("gitsync.clone", remote=remote, path=str(target)))[-1]["error"] is None
    assert git(target, "status", "--porcelain") == ""


# ── Somebody who writes meanwhile ─────────────────────────────────────────────

WRITER = """
import itertools, os, sys, time
folder = sys.argv[1]
for number in itertools.count():
    time.sleep(0.002)
    name, kind = os.path.join(folder, f"file{number % 20}"), number % 7
    if kind == 0 and os.path.isfile(name):
        os.unlink(name)
    elif kind == 1:
        with open(name + ".part", "w") as file:
            file.write(f"{number}\\n" * 500)
        os.rename(name + ".part", name)
    elif kind == 2:  # a file becomes a folder, a folder a file
        name = os.path.join(folder, f"other{number % 3}")
        if os.path.isdir(name):
            os.unlink(os.path.join(name, "x"))
            os.rmdir(name)
            open(name, "w").write(str(number))
        else:
            if os.path.exists(name):
                os.unlink(name)
            os.mkdir(name)
            open(os.path.join(name, "x"), "w").write(str(number))
    else:  # cut to nothing and written again, slowly
        with open(name, "w") as file:
            for _ in range(20):
                file.write(f"{number}\\n" * 500)
                file.flush()
                time.sleep(0.0002)
    with open(os.path.join(folder, "count.part"), "w") as file:
        file.write(str(number))
    os.rename(os.path.join(folder, "count.part"), os.path.join(folder, "count"))
"""


@pytest.mark.deadline(90)
async def test_while_another_process_writes_every_sync_is_whole_and_the_last_one_has_everything(
    registered: TestHost, place: Place
) -> None:
    path = str(place.work)
    process = await trio.lowlevel.open_process([sys.executable, "-c", WRITER, path])
    try:
        with trio.fail_after(20):
            while not (place.work / "count").exists():
                await trio.sleep(0.01)
        answers = []
        for _ in range(5):
            answers.append(await registered.client.call("gitsync.sync", path=path))
            diff = await registered.client.call("gitsync.diff", path=path, format="files")
            assert isinstance(diff["files"], list)
            assert (await registered.client.call("gitsync.status", path=path))["branch"] == "claude/work"
    finally:
        process.kill()
        await process.wait()
    assert {answer["status"] for answer in answers} == {"pushed"}
    assert int((place.work / "count").read_text()) > 5
    git(place.bare, "fsck", "--strict")
    assert (await registered.client.call("gitsync.sync", path=path))["status"] in {"pushed", "up_to_date"}
    assert git(place.work, "status", "--porcelain") == ""
    listed = git(place.bare, "ls-tree", "-r", "--name-only", "claude/work").split()
    files = [one for one in place.work.rglob("*") if one.is_file() and ".git" not in one.parts]
    assert sorted(listed) == sorted(str(one.relative_to(place.work)) for one in files)
    for one in files:
        blob = git(place.bare, "rev-parse", f"claude/work:{one.relative_to(place.work)}")
        assert blob == git(place.work, "hash-object", str(one))
    commits = git(place.bare, "rev-list", "claude/work").split()
    assert len(commits) == len(set(commits)) <= 7
    assert place.refs()["refs/heads/main"] == place.main


async def test_syncs_commits_and_pushes_of_one_workspace_at_once_take_turns(registered: TestHost, place: Place) -> None:
    path = str(place.work)
    failures: list[str] = []

    async def call(method: str, **params: Any) -> None:
        try:
            await registered.client.call(f"gitsync.{method}", path=path, **params)
        except CallError as error:
            failures.append(f"{method}: {error.kind}")

    for number in range(3):
        (place.work / "a.txt").write_text(f"{number}\n")
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(call, "sync")
            nursery.start_soon(partial(call, "commit", message=f"{number}"))
            nursery.start_soon(call, "push")
            nursery.start_soon(call, "status")
            nursery.start_soon(call, "diff")
    assert failures == []
    # One commit for each change, whoever came first.
    assert git(place.bare, "rev-list", "--count", "claude/work") == "4"
    assert place.refs()["refs/heads/claude/work"] == git(place.work, "rev-parse", "HEAD")
    assert git(place.work, "status", "--porcelain") == ""
