"""Much of everything: 100 000 files, a file of a GiB. What is asked ends, can be stopped, and has bounds."""

import os
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from clonk_core.testing.host import TestHost
from tests.gitsync.conftest import Place, git

FILES = 100_000
FOLDERS = 100
LINES = 950_000


def many_files(folder: Path, suffix: str) -> None:
    """Make the files as names of a few: quickly."""
    for number in range(FOLDERS):
        below = folder / f"{number:03}"
        below.mkdir(exist_ok=True)
        first = below / f"0{suffix}"
        first.write_text(f"{number}\n")
        for other in range(1, FILES // FOLDERS):
            os.link(first, below / f"{other}{suffix}")


@pytest.mark.deadline(180)
async def test_a_hundred_thousand_files_are_looked_at_committed_and_pushed(registered: TestHost, place: Place) -> None:
    path = str(place.work)
    many_files(place.work, ".txt")
    await _work_is_stopped_when_its_caller_goes(registered, place)
    told = await registered.client.call("gitsync.status", path=path)
    assert (told["status"], told["untracked"]) == ("dirty", FILES)
    text = await registered.client.call("gitsync.diff", path=path)
    assert len(text.encode()) < 1024**2 + 200
    assert text.rpartition("\n[cut after ")[2].startswith("1048576 bytes")
    made = await registered.client.call("gitsync.commit", path=path, message="many")
    assert (made["files_changed"], made["insertions"]) == (FILES, FILES)
    assert (await registered.client.call("gitsync.status", path=path))["status"] == "no_remote"
    diff = await registered.client.call("gitsync.diff", path=path, against=place.main, staged=True, format="files")
    assert (diff["truncated"], len(diff["files"])) == (True, 5000)
    (place.work / "a.txt").write_text("changed\n")
    assert (await registered.client.call("gitsync.diff", path=path)).count("diff --git") == 1
    answer = await registered.client.call("gitsync.sync", path=path)
    assert (answer["status"], answer["files_changed"]) == ("pushed", 1)
    assert git(place.bare, "ls-tree", "-r", "--name-only", "claude/work").count("\n") == FILES
    assert (await registered.client.call("gitsync.status", path=path))["status"] == "clean"


async def _work_is_stopped_when_its_caller_goes(host: TestHost, place: Place) -> None:
    before = git(place.work, "for-each-ref")
    for method, more in (("diff", {}), ("commit", {"message": "x"})):
        with trio.move_on_after(0.7) as scope:
            await host.client.call(f"gitsync.{method}", path=str(place.work), **more)
        assert scope.cancelled_caught, method
        assert running_in(place.work) == [], method
    assert git(place.work, "for-each-ref") == before
    assert git(place.work, "ls-files") == "a.txt"
    assert not (place.work / ".git" / "index.lock").exists()


def running_in(folder: Path) -> list[str]:
    """Return the programs that work in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder):
                found.append(process.name())
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


@pytest.mark.parametrize("method", ["commit", "diff", "sync"])
async def test_a_file_of_a_gib_is_left_out_without_being_read(registered: TestHost, place: Place, method: str) -> None:
    path = str(place.work)
    large = place.work / "large"
    with large.open("wb") as file:
        file.truncate(1024**3)
    os.utime(large, ns=(0, 0))
    (place.work / "b.txt").write_text("b\n")
    more: dict[str, Any] = {"commit": {"message": "x"}, "diff": {"format": "files"}, "sync": {}}[method]
    answer = await registered.client.call(f"gitsync.{method}", path=path, **more)
    if method == "sync":
        assert (answer["status"], answer["files_changed"]) == ("pushed", 1)
        assert git(place.bare, "ls-tree", "--name-only", "claude/work") == "a.txt\nb.txt"
    else:
        assert answer["left_out"] == ["large"]
    # Reading would have set it, as it is not later than the last change.
    assert large.stat().st_atime_ns == 0
    assert (await registered.client.call("gitsync.status", path=path))["untracked"] == (2 if method == "diff" else 1)


async def test_a_known_file_that_has_grown_over_the_limit_stays_as_it_was(registered: TestHost, place: Place) -> None:
    with (place.work / "a.txt").open("wb") as file:
        file.truncate(1024**3)
    (place.work / "b.txt").write_text("b\n")
    made = await registered.client.call("gitsync.commit", path=str(place.work), message="x")
    assert (made["left_out"], made["files_changed"]) == (["a.txt"], 1)
    assert git(place.work, "show", "HEAD:a.txt") == "one\ntwo"


async def test_a_diff_of_much_text_is_cut_and_not_an_error(registered: TestHost, place: Place) -> None:
    """It would be longer than what is ever kept of what git says."""
    block = b"x" * 99 + b"\n"
    for number in range(3):
        (place.work / f"long{number}").write_bytes(block * LINES)
    for form in ("unified", "files"):
        diff = await registered.client.call("gitsync.diff", path=str(place.work), format=form)
        if form == "unified":
            assert 1024**2 - 200 < len(diff) < 1024**2 + 200
            assert diff.endswith("`paths` asks for a part]\n")
        else:
            assert diff["truncated"]
            assert [one["insertions"] for one in diff["files"]] == [LINES] * 3
            assert sum(len(one["hunks"]) for one in diff["files"]) == 0
