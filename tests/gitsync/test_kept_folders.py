"""What is kept or read to be quick is never believed over what is there."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost
from clonk_gitsync.git import opening
from clonk_gitsync.git.changes import may_have_attribute
from clonk_gitsync.git.kept_folders import ShadowFolders
from clonk_gitsync.git.refs import NotPlain, read_all, read_head, read_ref, write_ref
from clonk_gitsync.git.repository import find_repository
from clonk_gitsync.git.shadow_folder import Relation
from tests.gitsync.conftest import OpenHost, Place, git


async def status(host: TestHost, place: Place) -> dict[str, Any]:
    answer: dict[str, Any] = await host.client.call("gitsync.status", path=str(place.work))
    return answer


def kept(host_dir: Path) -> list[Path]:
    return sorted(host_dir.glob("**/shadows/clonk-git-*"))


# ── Refs ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("pack-refs", "--all"),
        ("checkout", "-q", "--detach"),
        ("checkout", "-q", "-b", "a/long/name"),
        ("symbolic-ref", "refs/heads/main", "refs/heads/elsewhere"),
        ("checkout", "-q", "--orphan", "none-yet"),
        ("config", "extensions.worktreeConfig", "true"),
    ],
)
async def test_the_commit_that_is_checked_out_is_the_one_that_git_tells(
    registered: TestHost, place: Place, words: tuple[str, ...]
) -> None:
    git(place.work, "branch", "elsewhere")
    if words:
        git(place.work, *words)
    told = git(place.work, "rev-parse", "--verify", "-q", "HEAD", check=False) or None
    assert (await status(registered, place))["commit"] == told


async def test_a_repository_with_long_ids_is_left_to_git(host: TestHost, place: Place) -> None:
    work, bare = place.root / "long", place.bare.with_name("long.git")
    for folder, words in ((work, ()), (bare, ("--bare",))):
        folder.mkdir()
        git(folder, "init", "-q", "-b", "main", "--object-format=sha256", *words)
    with pytest.raises(NotPlain):
        read_head(find_repository(work, [place.root]))
    await host.client.call("gitsync.register", path=str(work), remote=f"file://{bare}", branch="main")
    (work / "a").write_text("a\n")
    assert "+a" in await host.client.call("gitsync.diff", path=str(work))
    assert (await host.client.call("gitsync.sync", path=str(work)))["status"] == "pushed"
    git(work, "commit", "-q", "--allow-empty", "-m", "x")
    answer = await host.client.call("gitsync.status", path=str(work))
    assert (answer["status"], answer["ahead"], len(answer["commit"])) == ("ahead", 1, 64)


@pytest.mark.parametrize("name", ["refs/heads/../../config", "refs/heads//x", "refs/heads/x ", "refs/heads/link"])
def test_a_ref_that_leads_elsewhere_is_not_read(place: Place, name: str) -> None:
    (place.work / ".git" / "refs" / "heads" / "link").symlink_to(place.work / "a.txt")
    with pytest.raises(NotPlain):
        read_ref(place.work / ".git", name)


def test_a_head_that_is_a_link_or_no_file_is_not_read(place: Place) -> None:
    head = place.work / ".git" / "HEAD"
    head.rename(head.with_name("OTHER"))
    head.symlink_to("OTHER")
    with pytest.raises(NotPlain):
        read_head(find_repository(place.work, [place.root]))


def test_a_ref_that_is_written_is_one_that_git_reads_with_its_log(place: Place) -> None:
    git(place.bare, "commit-tree", "-m", "x", f"{place.main}^{{tree}}")
    for _ in range(2):
        write_ref(place.bare, "refs/remotes/origin/a/b", place.main, "Clonk <clonk@localhost>")
    assert git(place.bare, "rev-parse", "refs/remotes/origin/a/b") == place.main
    assert len(git(place.bare, "reflog", "show", "--format=%H", "refs/remotes/origin/a/b").splitlines()) == 2
    assert read_all(place.bare) == [place.main]
    with pytest.raises(NotPlain):  # a name in the way
        write_ref(place.bare, "refs/remotes/origin/a", place.main, "Clonk <clonk@localhost>")
    (place.bare / "refs/remotes/origin/c.lock").touch()
    with pytest.raises(NotPlain):  # another git at work
        write_ref(place.bare, "refs/remotes/origin/c", place.main, "Clonk <clonk@localhost>")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        (".git/HEAD", Path.mkdir), (".git/index", Path.mkdir), (".git/shallow", Path.mkdir),
        (".git/refs/heads/main", Path.mkdir), (".gitattributes", Path.mkdir), (".git/HEAD", os.mkfifo),
        (".git/index", os.mkfifo), (".git/shallow", os.mkfifo), (".git/refs/heads/main", os.mkfifo),
    ],
)  # fmt: skip
async def test_a_folder_or_pipe_in_the_place_of_a_file_leaves_nothing_open_and_holds_nobody_up(
    registered: TestHost, place: Place, monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(opening, "ASK_S", 0.5)
    (place.work / "a.txt").write_text("changed\n")
    (place.work / name).unlink(missing_ok=True)
    make(place.work / name)
    before = descriptors()
    with trio.fail_after(30):
        for _ in range(5):
            for method in ("status", "diff"):
                with suppress(CallError):
                    await registered.client.call(f"gitsync.{method}", path=str(place.work))
    assert descriptors() <= before + 3  # those of the process that tells the status


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# ── Folders ──────────────────────────────────────────────────────────────────


async def test_an_index_that_was_written_meanwhile_is_read_anew(registered: TestHost, place: Place) -> None:
    (place.work / "a.txt").write_text("changed\n")
    (place.work / "new").write_text("new\n")
    for words, counts in (
        (("status",), (0, 1, 1)),
        (("add", "a.txt"), (1, 0, 1)),
        (("add", "new"), (2, 0, 0)),
        (("reset", "-q"), (0, 1, 1)),
        (("update-index", "--assume-unchanged", "a.txt"), (0, 0, 1)),
    ):
        git(place.work, *words)
        for _ in range(2):  # a diff takes new files into its index; that is not believed afterwards
            answer = await status(registered, place)
            assert (answer["staged"], answer["unstaged"], answer["untracked"]) == counts
            await registered.client.call("gitsync.diff", path=str(place.work))


async def test_a_kept_folder_that_was_changed_is_put_right(registered: TestHost, place: Place, tmp_path: Path) -> None:
    await status(registered, place)
    [folder] = kept(tmp_path / "host")
    mark, program = tmp_path / "ran", tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    program.chmod(0o755)
    (place.work / ".gitattributes").write_text("*.txt filter=x diff=x\n")
    (place.work / "a.txt").write_text("changed\n")
    for _ in range(2):
        with (folder / "config").open("a") as config:
            config.write(f'[filter "x"]\n\tclean = {program}\n[diff "x"]\n\ttextconv = {program}\n')
        (folder / "HEAD").write_text(f"{'1' * 40}\n")
        (folder / "index.lock").touch()
        answer = await status(registered, place)
        assert (answer["commit"], answer["unstaged"]) == (place.main, 1)
        await registered.client.call("gitsync.diff", path=str(place.work))
        assert not mark.exists()
    assert kept(tmp_path / "host") == [folder]


async def test_a_kept_folder_that_is_lost_is_made_anew_and_those_of_an_earlier_run_are_removed(
    open_gitsync: OpenHost, place: Place, tmp_path: Path
) -> None:
    async with open_gitsync() as host:
        await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
        await status(host, place)
        [folder] = kept(tmp_path / "host")
        shutil.rmtree(folder)
        assert (await status(host, place))["status"] == "no_remote"
    left = folder.parent / "clonk-git-left"
    left.mkdir(exist_ok=True)
    async with open_gitsync() as host:
        assert not left.exists()
        assert (await status(host, place))["status"] == "no_remote"


def test_what_was_counted_along_a_cut_history_is_forgotten_when_it_is_cut_elsewhere(
    place: Place, tmp_path: Path
) -> None:
    folders = ShadowFolders(tmp_path / "shadows")
    repository = find_repository(place.work, [place.root])
    found = []
    for cut in (None, None, place.main):
        if cut is not None:
            (place.work / ".git" / "shallow").write_text(f"{cut}\n")
        folder = folders.take(repository)
        assert folder is not None
        found.append(folder.relation is not None)
        folder.relation = Relation(head=place.main, tip="1" * 40, ahead=1, behind=2)
        folders.give_back(folder)
    assert found == [False, True, False]


# ── Differences ──────────────────────────────────────────────────────────────


def messy(work: Path) -> None:
    for name in ("long", "renamed", "staged", "reverted", "to-folder", "to-link", "gone", "same"):
        (work / name).write_text("".join(f"{name} {number}\n" for number in range(40)))
    (work / "binary").write_bytes(b"\0\1\2")
    (work / "crlf.txt").write_text("a\nb\n")
    (work / ".gitattributes").write_text("*.txt text=auto\n")
    (work / ".gitignore").write_text("ignored\n")
    (work / "folder").mkdir()
    (work / "folder" / "in").write_text("in\n")
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "more")
    (work / "staged").write_text("staged\n")
    (work / "reverted").write_text("other\n")
    git(work, "add", "staged", "reverted")
    git(work, "show", "HEAD:reverted")
    (work / "reverted").write_text("".join(f"reverted {number}\n" for number in range(40)))
    (work / "renamed").rename(work / "moved")
    (work / "to-folder").unlink()
    (work / "to-folder").mkdir()
    (work / "to-folder" / "x").write_text("x\n")
    (work / "to-link").unlink()
    (work / "to-link").symlink_to("long")
    (work / "gone").unlink()
    (work / "binary").write_bytes(b"\0\2\3")
    (work / "crlf.txt").write_bytes(b"a\r\nb\r\nc\r\n")
    (work / "folder" / "new\nline").write_text("odd\n")
    (work / "ignored").write_text("never\n")
    (work / "same").touch()
    (work / "long").chmod(0o755)


def only_changed(work: Path) -> None:
    (work / "a.txt").write_text("one\nzwei\n")


def in_conflict(work: Path) -> None:
    git(work, "checkout", "-q", "-b", "one")
    (work / "a.txt").write_text("1\n")
    git(work, "commit", "-q", "-am", "one")
    git(work, "checkout", "-q", "main")
    (work / "a.txt").write_text("2\n")
    git(work, "commit", "-q", "-am", "two")
    git(work, "merge", "one", check=False)


@pytest.mark.parametrize("prepare", [messy, only_changed, in_conflict])
async def test_a_diff_is_what_git_says_after_everything_was_added(
    registered: TestHost, place: Place, tmp_path: Path, prepare: Callable[[Path], None]
) -> None:
    prepare(place.work)
    shutil.copytree(place.work, tmp_path / "copy", symlinks=True)
    git(tmp_path / "copy", "add", "--all")
    told = git(tmp_path / "copy", "diff", "--cached", "-M", "HEAD")
    for _ in range(2):  # the second time new files are looked for first
        assert (await registered.client.call("gitsync.diff", path=str(place.work))).strip() == told
    one = await registered.client.call("gitsync.diff", path=str(place.work), paths=["a.txt"])
    assert one.strip() == git(tmp_path / "copy", "diff", "--cached", "HEAD", "--", "a.txt")


async def test_what_is_not_recorded_is_not_in_a_diff(open_gitsync: OpenHost, place: Place) -> None:
    (place.work / "large").write_text("x\n")
    (place.work / "filtered").write_text("x\n")
    git(place.work, "add", ".")
    git(place.work, "commit", "-q", "-m", "more")
    (place.work / ".gitattributes").write_text("filtered filter=x\n")
    (place.work / "large").write_text("y\n" * 1000)
    (place.work / "large-and-new").write_text("y\n" * 1000)
    (place.work / "filtered").write_text("y\n")
    (place.work / "a.txt").write_text("changed\n")
    async with open_gitsync(max_file_bytes=1000) as host:
        await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
        for _ in range(2):
            diff = await host.client.call("gitsync.diff", path=str(place.work))
            named = sorted(line.split(" b/")[1] for line in diff.splitlines() if line.startswith("diff --git"))
            assert named == [".gitattributes", "a.txt"]


def test_attributes_are_looked_for_where_git_looks_for_them(place: Place) -> None:
    work, index = place.work, place.work / ".git" / "index"
    (work / "x").mkdir()
    (work / "x" / "f").write_text("f\n")
    assert not may_have_attribute(work, index, [b"x/f"], b"filter")
    (work / ".gitattributes").write_text("f text\n")
    (work / "x" / ".gitattributes").write_text("f filter=x\n")
    assert may_have_attribute(work, index, [b"x/f"], b"filter")
    assert not may_have_attribute(work, index, [b"a.txt"], b"filter")
    git(work, "add", ".")
    (work / "x" / ".gitattributes").unlink()
    assert may_have_attribute(work, index, [b"x/f"], b"filter")  # from the index
    assert not may_have_attribute(work, index, [b"a.txt"], b"filter")
    git(work, "update-index", "--index-version", "4")
    assert may_have_attribute(work, index, [b"x/f"], b"filter")
