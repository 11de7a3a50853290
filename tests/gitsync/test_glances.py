"""The process that tells how a workspace stands says what git says, or nothing; and git is there when it is not."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_core.testing.host import TestHost
from clonk_gitsync.git import glances
from clonk_gitsync.git.glance_process import Unsure, answer
from clonk_gitsync.git.kept_folders import ShadowFolders
from clonk_gitsync.git.repository import find_repository
from tests.gitsync.conftest import OpenHost, Place, git

NAMES = ["a.txt", "b.log", "keep.log", "x", "with blank", "new\nline", "grün", os.fsdecode(b"latin-\xfc"), "-dash"]
FOLDERS = ["", "", "one/", "one/two/", "build/", "build/deep/", "odd name/"]
PATTERNS = [
    "*.log", "/build/", "build/", "one/*", "**/x", "two", "odd\\ name/", "*", "#x", "*.t?t", "[ab]*", "one/**", "/x",
    "**/deep", "x/", "build/*.log", "\\#x", "keep*", "[!a]*", "*.LOG", "a.txt/", "one", "w*h b*", " x", "x ", "x\\ ",
    "", "/", "//x", "one//x", "**", "a**t", "deep/../x", "./x", "[", "gr\xfcn", "*\tx", "one/two/", "inner", "/*/two",
    "[[:alpha:]]",
]  # fmt: skip
TAKING_BACK = ["!keep.log", "!one/x", "!*/", "!build/"]


def told(work: Path) -> tuple[int, int, int]:
    """Return what git says: staged, unstaged and untracked."""
    words = ("status", "--porcelain=v2", "-z", "-uall", "--no-renames", "--ignore-submodules=all")
    lines = git(work, *words).split("\0")
    assert not any(line.startswith("u ") for line in lines)
    changed = [line for line in lines if line.startswith("1 ")]
    return (
        sum(line[2] != "." for line in changed),
        sum(line[3] != "." for line in changed),
        sum(line.startswith("? ") for line in lines),
    )


class Looker:
    """Looks at a workspace as the process does, in this one."""

    def __init__(self, place: Place, home: Path) -> None:
        self._place = place
        self._folders = ShadowFolders(home)

    def look(self) -> tuple[int, int, int]:
        """Return staged, unstaged and untracked files.

        Raises:
            Unsure: Git has to tell.
        """
        repository = find_repository(self._place.work, [self._place.root])
        folder = self._folders.take(repository)
        assert folder is not None
        assert folder.head is not None
        try:
            found = answer(
                {
                    "folder": str(folder.path),
                    "top": str(repository.top),
                    "objects": f"{repository.common_dir}/objects",
                    "head": folder.head,
                }
            )
        finally:
            self._folders.give_back(folder)
        if "unsure" in found:
            raise Unsure(found["unsure"])
        return 0, found["unstaged"], found["untracked"]


@pytest.fixture
def looker(place: Place, tmp_path: Path) -> Looker:
    return Looker(place, tmp_path / "shadows")


def change(work: Path, chance: random.Random) -> None:
    """Do one thing of many that people and programs do in a work tree."""
    path = work / (chance.choice(FOLDERS) + chance.choice(NAMES))
    known = [work / name for name in git(work, "ls-files", "-z").split("\0") if name]
    some = chance.choice(known) if known else path

    def write(target: Path) -> None:
        if any(parent.is_symlink() or parent.is_file() for parent in target.parents if parent != work):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():
            target.unlink()
        if not target.is_dir():
            target.write_text(f"{chance.random()}\n" * chance.randrange(3))

    def ignore() -> None:
        lines = chance.sample(PATTERNS, chance.randrange(1, 4))
        if chance.random() < 0.1:
            lines.append(chance.choice(TAKING_BACK))
        file = work / chance.choice(["", "one"]) / ".gitignore"
        if file.parent.is_dir() and not file.is_dir() and not file.is_symlink():
            file.write_text("\n".join(lines) + chance.choice(["\n", ""]))

    def exchange_for_folder() -> None:
        if some.is_file() and not some.is_symlink():
            some.unlink()
            write(some / "inner")

    def exchange_for_link() -> None:
        if some.is_file():
            some.unlink()
            some.symlink_to("anywhere")

    def delete() -> None:
        if some.is_file() or some.is_symlink():
            some.unlink()

    def touch() -> None:
        if some.is_file():
            os.utime(some)

    def make_program() -> None:
        if some.is_file() and not some.is_symlink():
            some.chmod(some.stat().st_mode ^ 0o111)

    def commit_all() -> None:
        git(work, "add", "--all", check=False)
        git(work, "commit", "-q", "-m", "all", check=False)

    things: list[Callable[[], Any]] = [
        lambda: write(path),
        lambda: write(path),
        lambda: write(some),
        touch,
        delete,
        make_program,
        ignore,
        exchange_for_folder,
        exchange_for_link,
        lambda: (work / "empty" / str(chance.randrange(3))).mkdir(parents=True, exist_ok=True),
        lambda: (work / ".git" / "info" / "exclude").write_text(chance.choice(PATTERNS) + "\n"),
        commit_all,
        lambda: git(work, "add", "--", str(some), check=False),
        lambda: git(work, "commit", "-q", "-m", "more", check=False),
        lambda: git(work, "reset", "-q", check=False),
        lambda: git(work, "rm", "-q", "--cached", "--", str(some), check=False),
        lambda: git(work, "mv", "--", str(some), str(path), check=False),
        lambda: git(work, "checkout", "-q", "--", ".", check=False),
        lambda: git(
            work, "update-index", chance.choice(["--assume-unchanged", "--no-assume-unchanged"]), str(some), check=False
        ),
        lambda: git(work, "gc", "-q", check=False),
        lambda: git(work, "status"),
    ]
    chance.choices(things, [3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 4, 1, 2, 2, 1, 1, 1, 1, 0.2, 1])[0]()


@pytest.mark.parametrize("seed", range(12))
def test_it_says_what_git_says_whatever_was_done(place: Place, looker: Looker, seed: int) -> None:
    chance, sure, steps = random.Random(seed), 0, 60
    for step in range(steps):
        change(place.work, chance)
        try:
            found = looker.look()
        except Unsure:
            continue
        assert found == told(place.work), step
        sure += 1
    assert sure > steps / 3


def submodule(place: Place) -> None:
    git(place.work, "-c", "protocol.file.allow=always", "submodule", "add", "-q", place.remote, "sub")


def attributes(place: Place) -> None:
    (place.work / "folder").mkdir()
    (place.work / "folder" / ".gitattributes").write_text("* text\n")


def attributes_that_are_ignored(place: Place) -> None:
    (place.work / ".gitattributes").write_text("* text\n")
    (place.work / ".gitignore").write_text(".gitattributes\n")


def meant_to_be_added(place: Place) -> None:
    (place.work / "new").write_text("new\n")
    git(place.work, "add", "-N", "new")


def a_short_index(place: Place) -> None:
    git(place.work, "update-index", "--index-version", "4")


def half_an_index(place: Place) -> None:
    git(place.work, "update-index", "--split-index")


def another_kind(place: Place) -> None:
    (place.work / "a.txt").unlink()
    (place.work / "a.txt").symlink_to("b")


def another_kind_staged(place: Place) -> None:
    another_kind(place)
    git(place.work, "add", ".")


def a_repository_within(place: Place) -> None:
    git(place.work, "init", "-q", "inner")
    git(place.work / "inner", "commit", "-q", "--allow-empty", "-m", "inner")


def a_repository_within_a_folder(place: Place) -> None:
    git(place.work, "init", "-q", "outer/inner")
    (place.work / "outer" / "file").write_text("file\n")


def staged(place: Place) -> None:
    (place.work / "a.txt").write_text("changed\n")
    git(place.work, "add", ".")


def taken_back(place: Place) -> None:
    (place.work / ".git" / "info" / "exclude").write_text("*.log\n")
    (place.work / ".gitignore").write_text("# kept\n!keep.log\n")
    (place.work / "keep.log").write_text("kept\n")
    git(place.work, "add", ".gitignore")
    git(place.work, "commit", "-q", "-m", "ignore")


def taken_back_by_what_is_ignored(place: Place) -> None:
    (place.work / "folder").mkdir()
    (place.work / "folder" / ".gitignore").write_text("!keep.log\n")
    (place.work / ".gitignore").write_text("*.log\n.gitignore\n")
    (place.work / "folder" / "keep.log").write_text("kept\n")


def conflict(place: Place) -> None:
    git(place.work, "checkout", "-q", "-b", "other")
    for branch, text in (("other", "1\n"), ("main", "2\n")):
        git(place.work, "checkout", "-q", branch)
        (place.work / "a.txt").write_text(text)
        git(place.work, "commit", "-q", "-am", branch)
    git(place.work, "merge", "-q", "other", check=False)


UNSURE = [
    submodule, attributes, attributes_that_are_ignored, meant_to_be_added, a_short_index, half_an_index, another_kind,
    another_kind_staged, a_repository_within, a_repository_within_a_folder, staged, taken_back,
    taken_back_by_what_is_ignored, conflict,
]  # fmt: skip


@pytest.mark.parametrize("prepare", UNSURE)
def test_it_is_not_sure_where_git_might_see_more(
    place: Place, looker: Looker, prepare: Callable[[Place], None]
) -> None:
    prepare(place)
    with pytest.raises(Unsure):
        looker.look()


# ── On a host ────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process take its time on a machine that is busy with other tests."""
    monkeypatch.setattr(glances, "ANSWER_S", 3.0)


def processes() -> list[int]:
    """Return our processes that tell how workspaces stand."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words, parent = (
                    (entry / "cmdline").read_bytes(),
                    (entry / "stat").read_text().rpartition(")")[2].split(),
                )
            except OSError:
                continue
            if b"glance_process" in words and int(parent[1]) == os.getpid() and parent[0] != "Z":
                found.append(int(entry.name))
    return found


async def status(host: TestHost, place: Place) -> tuple[int, int, int]:
    answer = await host.client.call("gitsync.status", path=str(place.work))
    return answer["staged"], answer["unstaged"], answer["untracked"]


async def glancing(host: TestHost, place: Place) -> int:
    """Ask until it is the process that answers, and return its number: it has used its processor for that."""

    def used(number: int) -> int:
        words = Path(f"/proc/{number}/io").read_text().split()
        return int(words[words.index("wchar:") + 1])

    with trio.fail_after(20):
        while True:
            await status(host, place)
            for number in processes():
                before = used(number)
                await status(host, place)
                if used(number) > before > 0:
                    return number
            await trio.sleep(0.02)


async def test_the_process_answers_for_a_workspace_that_changes(registered: TestHost, place: Place) -> None:
    await glancing(registered, place)
    (place.work / "a.txt").write_text("changed\n")
    assert await status(registered, place) == (0, 1, 0)
    (place.work / "new").write_text("new\n")
    assert await status(registered, place) == (0, 1, 1)
    git(place.work, "add", "a.txt")
    assert await status(registered, place) == (1, 0, 1)
    assert len(processes()) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV])
async def test_a_process_that_dies_or_hangs_is_replaced_by_git(
    registered: TestHost, place: Place, number: signal.Signals
) -> None:
    process = await glancing(registered, place)
    (place.work / "new").write_text("new\n")
    os.kill(process, number)
    for _ in range(3):
        assert await status(registered, place) == (0, 0, 1)
    assert processes() == []
    assert "gave no answer" in registered.log_text


@pytest.mark.parametrize(("settings", "files"), [({"status_process": False}, 0), ({}, 1500)])
async def test_no_process_is_kept_where_it_is_not_wanted_or_of_no_use(
    open_gitsync: OpenHost, place: Place, settings: dict[str, Any], files: int
) -> None:
    for number in range(files):
        (place.work / f"file{number}").write_text("file\n")
    git(place.work, "add", ".")
    git(place.work, "commit", "-q", "--allow-empty", "-m", "many")
    async with open_gitsync(**settings) as host:
        await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
        for _ in range(5):
            assert await status(host, place) == (0, 0, 0)
            assert processes() == []


async def test_many_who_ask_at_once_are_all_answered(registered: TestHost, place: Place) -> None:
    await glancing(registered, place)
    (place.work / "new").write_text("new\n")
    found: list[tuple[int, int, int]] = []

    async def ask() -> None:
        with trio.move_on_after(30):
            found.append(await status(registered, place))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert found == [(0, 0, 1)] * 20


async def test_callers_who_leave_leave_no_answer_for_others(registered: TestHost, place: Place) -> None:
    await glancing(registered, place)
    for number in range(30):
        (place.work / f"new{number}").write_text("new\n")
        with trio.move_on_after(0.0005 + number * 0.0001):
            await status(registered, place)
        assert await status(registered, place) == (0, 0, number + 1)


async def test_a_process_that_hangs_holds_up_neither_who_leaves_nor_the_end_of_the_host(
    open_gitsync: OpenHost, place: Place
) -> None:
    with trio.fail_after(30):
        async with open_gitsync() as host:
            await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
            os.kill(await glancing(host, place), signal.SIGSTOP)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(status, host, place)
                await trio.sleep(0.05)
                nursery.cancel_scope.cancel()
            assert await status(host, place) == (0, 0, 0)
    assert processes() == []


async def test_the_process_ends_with_the_host(open_gitsync: OpenHost, place: Place) -> None:
    async with open_gitsync() as host:
        await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
        await glancing(host, place)
    assert processes() == []


def test_the_process_ends_when_nobody_can_ask_any_more(tmp_path: Path) -> None:
    words = [sys.executable, "-I", "-m", "clonk_gitsync.git.glance_process"]
    done = subprocess.run(words, input=b"", capture_output=True, cwd=tmp_path, timeout=30, check=True)
    assert done.stdout == b'{"ready": true}\n'
    question = b'{"folder": "/none", "top": "/none", "objects": "/none", "head": "x"}\n'
    done = subprocess.run(words, input=question, capture_output=True, cwd=tmp_path, timeout=30, check=True)
    assert done.stdout.splitlines()[1] == b'{"unsure": "FileNotFoundError"}'
