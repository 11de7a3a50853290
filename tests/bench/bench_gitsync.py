"""Workspaces, beside the same git commands run by hand.

By hand is `subprocess.run` of each command in this process, which only waits for it: nobody is asked who may, no
program of the workspace is kept from running, no remote is checked. Ours is the whole call, from the gateway to the
answer. Both take turns, on the same files (status and diff) or on workspaces that are alike (sync), and both commit
and push to bare repositories on the same disk. `diff` shows new files too, and has to look for them: by hand that is a
second command beside `git diff HEAD`, whose own time is in the note. With one new file the commands by hand are those
that show it.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from clonk_core.testing.host import TestHost, open_host
from tests.bench.figures import Figure, median, spread

WORK_BRANCH: Final = "work"
CHANGED: Final = 5
"""Files that differ while status and diff are asked for."""


@attrs.frozen(kw_only=True)
class Size:
    """How much is done.

    Attributes:
        looked_at: Files in each repository of which status and diff are asked. What a call costs beside git is the same
            for all, so that the ratio falls with their number.
        synced: Files in each repository that is synced.
        looks: Rounds of status and diff.
        syncs: Rounds of sync.
        workspaces: For sync_all.
        all_rounds: How often it is measured.
    """

    looked_at: tuple[int, ...] = (100, 2000, 10_000)
    synced: tuple[int, ...] = (100, 2000)
    looks: int = 60
    syncs: int = 30
    workspaces: int = 50
    all_rounds: int = 5


QUICK: Final = Size(looked_at=(20,), synced=(20,), looks=2, syncs=2, workspaces=3, all_rounds=1)


def measure(*, quick: bool) -> Iterator[Figure]:
    """Give the figures."""
    size = QUICK if quick else Size()
    for files in size.looked_at:
        yield from trio.run(_looking, size, files)
    for files in size.synced:
        yield trio.run(_sync, size, files)
    yield trio.run(_sync_all, size)


class Place:
    """Workspaces below one root, each with a bare repository as its remote, and a host that may work on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.root = self.folder / "root"
        self.home = self.folder / "home"
        self.home.mkdir()
        name, address = "A Person", "person@example.com"
        (self.home / ".gitconfig").write_text(f"[user]\n\tname = {name}\n\temail = {address}\n")
        self._environ = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1"}

    def git(self, work: Path, *words: str) -> None:
        """Run one command by hand."""
        subprocess.run(["git", *words], cwd=work, env=self._environ, capture_output=True, check=True)

    def bare(self, name: str) -> Path:
        """Return where the remote of a workspace is."""
        return self.folder / "remotes" / f"{name}.git"

    def workspace(self, name: str, files: int) -> Path:
        """Make a workspace that is pushed, with an upstream branch."""
        work, bare = self.root / name, self.bare(name)
        work.mkdir(parents=True)
        bare.mkdir(parents=True)
        self.git(bare, "init", "-q", "--bare", "-b", "main")
        self.git(work, "init", "-q", "-b", "main")
        for number in range(files):
            path = _path(work, number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"line {line} of file {number}\n" for line in range(60)))
        self.git(work, "add", ".")
        self.git(work, "commit", "-q", "-m", "first")
        self.git(work, "remote", "add", "origin", f"file://{bare}")
        self.git(work, "push", "-q", "origin", "main")
        self.git(work, "checkout", "-q", "-b", WORK_BRANCH)
        self.git(work, "push", "-q", "-u", "origin", WORK_BRANCH)
        return work

    def open_host(self) -> Any:
        """Open the host."""
        settings = {
            "workspaces": {"roots": [str(self.root)]},
            "gitsync": {"allowed_remotes": [f"file://{self.folder / 'remotes'}/*"]},
        }
        return open_host(self.folder / "host", packages=["gitsync"], settings=settings)

    async def register(self, host: TestHost, work: Path) -> None:
        """Register a workspace with its remote."""
        remote = f"file://{self.bare(work.name)}"
        await host.client.call("gitsync.register", path=str(work), remote=remote, branch=WORK_BRANCH)


def _path(work: Path, number: int) -> Path:
    return work / f"folder{number % 20}" / f"file{number}.txt"


def _change(work: Path, number: int, round_number: int) -> None:
    """Change one line of a file."""
    path = _path(work, number)
    lines = path.read_text().splitlines(keepends=True)
    lines[30] = f"changed in round {round_number}\n"
    path.write_text("".join(lines))


# ── status and diff ──────────────────────────────────────────────────────────


async def _looking(size: Size, files: int) -> list[Figure]:
    """Look at files of which some differ, one commit ahead of the remote."""
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as folder:
        place = Place(Path(folder))
        work = place.workspace("looked-at", files)
        async with place.open_host() as host:
            await place.register(host, work)
            call, path = host.client.call, str(work)
            _change(work, 0, 0)
            await call("gitsync.sync", path=path)
            place.git(work, "push", "-q", "origin", WORK_BRANCH)
            place.git(work, "commit", "-q", "--allow-empty", "-m", "ahead")
            for number in range(CHANGED):
                _change(work, number, 1)
            status = await _turns(
                size.looks,
                lambda: call("gitsync.status", path=path),
                lambda: place.git(work, "status", "--porcelain=v2", "--branch"),
            )
            answer: Any = await call("gitsync.status", path=path)
            assert (answer["status"], answer["unstaged"], answer["ahead"]) == ("dirty", CHANGED, 1)
            alone: list[float] = []

            def by_hand() -> None:
                place.git(work, "ls-files", "--others", "--exclude-standard")
                began = time.perf_counter()
                place.git(work, "diff", "HEAD")
                alone.append((time.perf_counter() - began) * 1000)

            diff = await _turns(size.looks, lambda: call("gitsync.diff", path=path), by_hand)
            (work / "new.txt").write_text("new\n" * 60)

            def by_hand_with_new() -> None:
                place.git(work, "add", "--intent-to-add", "--all")
                place.git(work, "diff", "HEAD")

            def forget() -> None:
                place.git(work, "reset", "-q", "new.txt")

            new = await _turns(size.looks, lambda: call("gitsync.diff", path=path), by_hand_with_new, forget)
            answer = await call("gitsync.diff", path=path)
            assert answer.count("diff --git") == CHANGED + 1
    by_itself = f"git diff HEAD alone {median(alone):.2f}"
    return [
        _ratio(f"gitsync, status, {files} files", status, "git status", 1.3),
        _ratio(f"gitsync, diff, {files} files", diff, "git ls-files -o, git diff HEAD", 1.3, by_itself),
        _ratio(f"gitsync, diff with a new file, {files} files", new, "git add -N, git diff HEAD", 1.3),
    ]


async def _turns(
    rounds: int,
    ours: Callable[[], Awaitable[Any]],
    by_hand: Callable[[], None],
    after: Callable[[], None] | None = None,
) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each, after one round that is not counted: it fills git's own caches for both."""
    took: list[float] = []
    hand: list[float] = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        by_hand()
        hand.append((time.perf_counter() - began) * 1000)
        if after is not None:
            after()
        began = time.perf_counter()
        await ours()
        took.append((time.perf_counter() - began) * 1000)
    return took[1:], hand[1:]


# ── sync ─────────────────────────────────────────────────────────────────────


async def _sync(size: Size, files: int) -> Figure:
    """Bring one changed file to a remote on the same disk."""
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as folder:
        place = Place(Path(folder))
        ours, theirs = place.workspace("ours", files), place.workspace("by-hand", files)
        round_number = 0

        def by_hand() -> None:
            place.git(theirs, "add", "--all")
            place.git(theirs, "commit", "-q", "-m", "work")
            place.git(theirs, "push", "-q", "origin", WORK_BRANCH)

        def change() -> None:
            nonlocal round_number
            round_number += 1
            for work in (ours, theirs):
                _change(work, round_number % files, round_number)

        async with place.open_host() as host:
            await place.register(host, ours)
            change()

            async def sync() -> None:
                answer: Any = await host.client.call("gitsync.sync", path=str(ours), message="work")
                assert (answer["status"], answer["files_changed"]) == ("pushed", 1)
                change()

            took = await _turns(size.syncs, sync, by_hand)
    return _ratio(f"gitsync, sync of one file, {files} files", took, "git add, commit, push", 1.5)


async def _sync_all(size: Size) -> Figure:
    """Sync many workspaces, each with one changed file, at once and one after the other."""
    together: list[float] = []
    one_by_one: list[float] = []
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as folder:
        place = Place(Path(folder))
        works = [place.workspace(f"work{number}", 20) for number in range(size.workspaces)]
        async with place.open_host() as host:
            for work in works:
                await place.register(host, work)
            for round_number in range(size.all_rounds):
                for work in works:
                    _change(work, 0, round_number * 2)
                began = time.perf_counter()
                for work in works:
                    answer: Any = await host.client.call("gitsync.sync", path=str(work))
                    assert answer["status"] == "pushed"
                one_by_one.append(time.perf_counter() - began)
                for work in works:
                    _change(work, 0, round_number * 2 + 1)
                began = time.perf_counter()
                async with host.client.stream("gitsync.sync_all") as stream:
                    events = [event async for _seq, event in stream]
                together.append(time.perf_counter() - began)
                told = [event for event in events if event["type"] == "workspace"]
                assert all(event["result"]["status"] == "pushed" for event in told)
                assert len(told) == size.workspaces
    faster = median(one_by_one) / median(together)
    return Figure(
        name=f"gitsync, sync_all of {size.workspaces} workspaces",
        value=median(together),
        unit="s",
        peer="one after the other",
        limit=median(one_by_one),
        bound="at least 1.6 times faster",
        ok=faster >= 1.6,
        note=f"{faster:.2f} times faster on {os.cpu_count()} cores; 80 % {spread(together)} s",
    )


def _ratio(name: str, took: tuple[list[float], list[float]], peer: str, most: float, more: str = "") -> Figure:
    ours, hand = median(took[0]), median(took[1])
    return Figure(
        name=name,
        value=ours,
        unit="ms",
        peer=peer,
        limit=hand,
        bound=f"at most {most} times",
        ok=ours <= hand * most,
        note=f"80 % {spread(took[0])}, by hand {spread(took[1])}" + (f", {more}" if more else ""),
    )
