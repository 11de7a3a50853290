"""Repositories in odd states and of odd contents: what git itself would commit is committed, and nothing is lost."""

import os
from pathlib import Path
from typing import Any

import pytest

from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost
from tests.gitsync.conftest import Place, git, let_others_in


async def sync(host: TestHost, work: Path) -> Any:
    return await host.client.call("gitsync.sync", path=str(work))


async def status(host: TestHost, work: Path) -> str:
    return str((await host.client.call("gitsync.status", path=str(work)))["status"])


async def refusal(host: TestHost, method: str, work: Path, **more: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await host.client.call(f"gitsync.{method}", path=str(work), **more)
    return caught.value


def tree(place: Place, revision: str) -> dict[str, str]:
    """Return mode and id by path."""
    lines = git(place.bare, "-c", "core.quotePath=false", "ls-tree", "-r", revision).splitlines()
    return {line.split("\t")[1]: " ".join(line.split("\t")[0].split()[::2]) for line in lines}


# ── Names ─────────────────────────────────────────────────────────────────────


async def test_files_and_folders_that_differ_in_case_alone_are_all_kept(registered: TestHost, place: Place) -> None:
    (place.work / "readme").write_text("small\n")
    (place.work / "README").write_text("large\n")
    for name in ("Lib", "lib"):
        (place.work / name).mkdir()
        (place.work / name / "x").write_text(f"{name}\n")
    git(place.work, "config", "core.ignoreCase", "true")  # what a workspace says of its disk need not be so
    assert (await sync(registered, place.work))["files_changed"] == 4
    assert {"README", "readme", "Lib/x", "lib/x"} < set(tree(place, "claude/work"))
    (place.work / "README").write_text("larger\n")
    (place.work / "readme").unlink()
    diff = await registered.client.call("gitsync.diff", path=str(place.work), format="files")
    assert {one["path"]: one["change"] for one in diff["files"]} == {"README": "modified", "readme": "deleted"}
    assert (await sync(registered, place.work))["files_changed"] == 2
    assert git(place.bare, "show", "claude/work:README") == "larger"
    assert "readme" not in tree(place, "claude/work")
    assert await status(registered, place.work) == "clean"


async def test_a_rename_of_case_alone_is_committed(registered: TestHost, place: Place) -> None:
    (place.work / "a.txt").rename(place.work / "A.txt")
    assert (await sync(registered, place.work))["status"] == "pushed"
    assert set(tree(place, "claude/work")) == {"A.txt"}


async def test_work_branches_that_differ_in_case_alone_are_two(host: TestHost, place: Place) -> None:
    other = place.root / "other"
    git(place.root, "clone", "-q", place.remote, str(other))
    for work, branch in ((place.work, "feature/x"), (other, "Feature/X")):
        await host.client.call("gitsync.register", path=str(work), remote=place.remote, branch=branch)
        (work / "a.txt").write_text(f"{branch}\n")
        assert (await sync(host, work))["status"] == "pushed"
    assert git(place.bare, "show", "feature/x:a.txt") == "feature/x"
    assert git(place.bare, "show", "Feature/X:a.txt") == "Feature/X"


async def test_a_file_becomes_a_folder_and_a_folder_a_file(registered: TestHost, place: Place) -> None:
    (place.work / "folder").mkdir()
    (place.work / "folder" / "x").write_text("x\n")
    await sync(registered, place.work)
    (place.work / "a.txt").unlink()
    (place.work / "a.txt").mkdir()
    (place.work / "a.txt" / "inside").write_text("inside\n")
    (place.work / "folder" / "x").unlink()
    (place.work / "folder").rmdir()
    (place.work / "folder").write_text("a file now\n")
    assert (await sync(registered, place.work))["status"] == "pushed"
    assert set(tree(place, "claude/work")) == {"a.txt/inside", "folder"}
    assert git(place.work, "status", "--porcelain") == ""


async def test_a_branch_and_a_folder_of_one_name_are_told_apart(host: TestHost, place: Place) -> None:
    """`feature` is a branch, a folder, a tag and a file of the `.git` folder: only the branch is meant."""
    (place.work / "feature").mkdir()
    (place.work / "feature" / "x").write_text("x\n")
    (place.work / "HEAD").write_text("a file of that name\n")
    (place.work / ".git" / "feature").write_text(f"{place.main}\n")
    git(place.work, "tag", "feature")
    await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="feature")
    answer = await sync(host, place.work)
    assert (answer["status"], answer["branch"], answer["files_changed"]) == ("pushed", "feature", 2)
    assert set(place.refs()) == {"refs/heads/main", "refs/heads/feature"}
    assert git(place.work, "symbolic-ref", "HEAD") == "refs/heads/feature"
    log = await host.client.call("gitsync.log", path=str(place.work), revision="HEAD")
    assert len(log) == 2
    (place.work / "feature" / "x").write_text("y\n")
    for paths in (["feature"], ["feature/x"]):
        assert "+y" in await host.client.call("gitsync.diff", path=str(place.work), paths=paths)
    assert "+y" in await host.client.call("gitsync.diff", path=str(place.work), against="refs/heads/feature")


@pytest.mark.parametrize("there", ["claude", "claude/work/deeper"])
async def test_a_branch_of_the_remote_that_is_in_the_way_rejects_and_the_commit_stays(
    registered: TestHost, place: Place, there: str
) -> None:
    git(place.bare, "branch", there, "main")
    before = place.refs()
    (place.work / "a.txt").write_text("changed\n")
    assert (await sync(registered, place.work))["status"] == "rejected"
    assert place.refs() == before
    git(place.bare, "branch", "-D", there)
    assert (await sync(registered, place.work))["status"] == "pushed"
    assert git(place.bare, "rev-list", "--count", "claude/work") == "2"


async def test_text_that_looks_like_what_git_lists_is_shown_by_file(registered: TestHost, place: Place) -> None:
    """Tabs, colons, and lines like those of a patch."""
    text = "\tone\ttwo\n:100644 100644 1 2 M\tx\n1\t2\tname\ndiff --git a/x b/x\n@@ -1 +1 @@\n--- a\n+++ b\n"
    for name in ("m.go", "n.go"):
        (place.work / name).write_text(text)
    diff = await registered.client.call("gitsync.diff", path=str(place.work), format="files")
    assert [(one["path"], one["insertions"], len(one["hunks"])) for one in diff["files"]] == [
        ("m.go", 7, 1), ("n.go", 7, 1)
    ]  # fmt: skip
    assert diff["files"][1]["hunks"][0].count("\n+") == 7


# ── Line endings ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("autocrlf", ["true", "input"])
async def test_a_workspaces_autocrlf_changes_no_file_behind_its_back(
    registered: TestHost, place: Place, autocrlf: str
) -> None:
    """What is on the disk is what is committed, byte for byte: only `.gitattributes`, which others see, converts."""
    git(place.work, "config", "core.autocrlf", autocrlf)
    git(place.work, "config", "core.eol", "crlf")
    git(place.work, "config", "core.safecrlf", "true")
    mixed = b"one\r\ntwo\nthree\r\n"
    (place.work / "mixed.txt").write_bytes(mixed)
    (place.work / "dos.txt").write_bytes(b"a\r\nb\r\n")
    assert (await sync(registered, place.work))["files_changed"] == 2
    assert git_bytes(place.bare, "claude/work:mixed.txt") == mixed
    assert git_bytes(place.bare, "claude/work:dos.txt") == b"a\r\nb\r\n"
    assert (place.work / "mixed.txt").read_bytes() == mixed
    for _ in range(2):
        assert await status(registered, place.work) == "clean"
        assert (await sync(registered, place.work))["status"] == "up_to_date"
        assert await registered.client.call("gitsync.diff", path=str(place.work)) == ""


async def test_text_auto_is_stored_with_plain_line_ends_and_stays_clean(registered: TestHost, place: Place) -> None:
    (place.work / ".gitattributes").write_text("* text=auto\n*.bat text eol=crlf\n*.bin -text\n")
    contents = {"dos.txt": b"a\r\nb\r\n", "run.bat": b"a\r\n", "raw.bin": b"a\r\nb\r\n", "data": b"\0\r\n\1\r\n"}
    for name, content in contents.items():
        (place.work / name).write_bytes(content)
    assert (await sync(registered, place.work))["files_changed"] == 5
    stored = {name: git_bytes(place.bare, f"claude/work:{name}") for name in contents}
    assert stored == {**contents, "dos.txt": b"a\nb\n", "run.bat": b"a\n"}
    assert {name: (place.work / name).read_bytes() for name in contents} == contents
    assert await status(registered, place.work) == "clean"
    assert (await sync(registered, place.work))["status"] == "up_to_date"
    # A change of line ends alone is none, as with git itself.
    (place.work / "dos.txt").write_bytes(b"a\nb\n")
    assert (await sync(registered, place.work))["status"] == "up_to_date"
    assert await status(registered, place.work) == "clean"


async def test_a_pulled_file_gets_the_line_ends_that_its_attributes_say(registered: TestHost, place: Place) -> None:
    other = place.root.parent / "other"
    git(place.root, "clone", "-q", place.remote, str(other))
    (other / ".gitattributes").write_text("*.bat text eol=crlf\n")
    (other / "run.bat").write_bytes(b"a\r\n")
    git(other, "add", ".")
    git(other, "commit", "-q", "-m", "theirs")
    git(other, "push", "-q", "origin", "main")
    await registered.client.call("gitsync.pull", path=str(place.work))
    assert (place.work / "run.bat").read_bytes() == b"a\r\n"
    assert git(place.work, "status", "--porcelain") == ""


def git_bytes(folder: Path, name: str) -> bytes:
    import subprocess

    return subprocess.run(["git", "cat-file", "blob", name], cwd=folder, capture_output=True, check=True).stdout


# ── Submodules, work trees, nested repositories ───────────────────────────────


async def test_a_submodule_stays_where_it_was_and_nothing_in_it_is_touched(registered: TestHost, place: Place) -> None:
    inner = place.work / "inner"
    git(place.work, "-c", "protocol.file.allow=always", "submodule", "add", "-q", place.remote, "inner")
    git(place.work, "commit", "-q", "-m", "with a submodule")
    pinned = git(place.work, "rev-parse", "HEAD:inner")
    (inner / "a.txt").write_text("changed inside\n")
    git(inner, "commit", "-q", "-am", "inside")
    (inner / "new").write_text("not committed\n")
    (place.work / "a.txt").write_text("changed\n")
    made = await registered.client.call("gitsync.commit", path=str(place.work), message="x")
    assert (made["files_changed"], made["left_out"]) == (1, ["inner"])
    assert (await sync(registered, place.work))["status"] == "pushed"
    assert tree(place, "claude/work")["inner"] == f"160000 {pinned}"
    assert (inner / "new").read_text() == "not committed\n"
    assert git(inner, "log", "-1", "--format=%s") == "inside"
    assert await status(registered, place.work) == "clean"
    # The submodule itself is a workspace only when it is registered.
    assert (await refusal(registered, "sync", inner)).kind == "gitsync.not_registered"
    await registered.client.call("gitsync.register", path=str(inner), remote=place.remote, branch="inside")
    assert (await refusal(registered, "sync", inner)).kind == "gitsync.not_a_repository"


async def test_a_submodule_that_is_taken_out_is_taken_out(registered: TestHost, place: Place) -> None:
    git(place.work, "-c", "protocol.file.allow=always", "submodule", "add", "-q", place.remote, "inner")
    git(place.work, "commit", "-q", "-m", "with a submodule")
    git(place.work, "rm", "-q", "-f", "inner")
    assert (await sync(registered, place.work))["status"] == "pushed"
    assert "inner" not in tree(place, "claude/work")


async def test_work_trees_of_one_repository_have_each_their_own_branch_at_the_same_time(
    host: TestHost, place: Place
) -> None:
    names = ("one", "two")
    for name in names:
        git(place.work, "worktree", "add", "-q", "--detach", str(place.root / name))
        await host.client.call("gitsync.register", path=str(place.root / name), remote=place.remote, branch="main")
        (place.root / name / "a.txt").write_text(f"{name}\n")
    events = await host.client.events("gitsync.sync_all")
    assert [one["result"]["status"] for one in events if one["type"] == "workspace"] == ["pushed", "pushed"]
    for name in names:
        assert git(place.bare, "show", f"claude/{name}:a.txt") == name
        assert git(place.root / name, "status", "--porcelain") == ""
    assert git(place.work, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert git(place.work, "status", "--porcelain") == "", "the first work tree is left alone"


async def test_a_branch_that_another_work_tree_has_checked_out_is_not_taken_from_it(
    host: TestHost, place: Place
) -> None:
    linked = place.root / "linked"
    git(place.work, "worktree", "add", "-q", "-b", "claude/work", str(linked))
    await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
    (place.work / "a.txt").write_text("changed\n")
    error = await refusal(host, "sync", place.work)
    assert (error.kind, error.data["state"]) == ("gitsync.workspace_busy", "checked_out_elsewhere")
    error = await refusal(host, "create_branch", place.work, name="claude/work")
    assert error.data["state"] == "checked_out_elsewhere"
    assert git(linked, "rev-parse", "HEAD") == place.main
    assert git(linked, "status", "--porcelain") == ""
    assert git(place.work, "status", "--porcelain") == "M a.txt"


# ── States ────────────────────────────────────────────────────────────────────


async def test_before_the_first_commit_everything_works(host: TestHost, place: Place) -> None:
    fresh = place.root / "fresh"
    fresh.mkdir()
    git(fresh, "init", "-q", "-b", "main")
    await host.client.call("gitsync.register", path=str(fresh), remote=place.remote, branch="main")
    told = await host.client.call("gitsync.status", path=str(fresh))
    assert (told["status"], told["branch"], told["commit"]) == ("no_remote", "main", None)
    assert await host.client.call("gitsync.diff", path=str(fresh)) == ""
    assert await host.client.call("gitsync.log", path=str(fresh)) == []
    pushed = await host.client.call("gitsync.push", path=str(fresh))
    assert (pushed["pushed"], pushed["commit"]) == (False, None)
    (fresh / "mine").write_text("mine\n")
    assert "+mine" in await host.client.call("gitsync.diff", path=str(fresh))
    assert await status(host, fresh) == "dirty"
    made = await host.client.call("gitsync.create_branch", path=str(fresh), name="claude/other")
    assert (made["branch"], made["commit"]) == ("claude/other", None)
    # Its first commit has nothing in common with the remote's main, which stays as it is.
    assert (await sync(host, fresh))["status"] == "pushed"
    assert place.refs()["refs/heads/main"] == place.main
    assert git(place.bare, "rev-list", "--count", "claude/other") == "1"


async def test_an_empty_workspace_pulls_what_the_remote_has(host: TestHost, place: Place) -> None:
    fresh = place.root / "fresh"
    fresh.mkdir()
    git(fresh, "init", "-q", "-b", "main")
    await host.client.call("gitsync.register", path=str(fresh), remote=place.remote, branch="main")
    answer = await host.client.call("gitsync.pull", path=str(fresh))
    assert (answer["updated"], answer["before"], answer["commit"]) == (True, None, place.main)
    assert (fresh / "a.txt").read_text() == "one\ntwo\n"
    assert git(fresh, "status", "--porcelain") == ""


async def test_an_empty_remote_can_be_cloned_and_then_filled(host: TestHost, place: Place) -> None:
    bare = place.bare.with_name("empty.git")
    bare.mkdir()
    git(bare, "init", "-q", "--bare", "-b", "trunk")
    target = place.root / "cloned"
    events = await host.client.events("gitsync.clone", remote=f"file://{bare}", path=str(target))
    assert events[-1]["outcome"] == "complete"
    (cloned,) = (event for event in events if event["type"] == "cloned")
    assert cloned["commit"] is None
    (target / "first").write_text("1\n")
    assert (await sync(host, target))["status"] == "pushed"
    assert git(bare, "for-each-ref", "--format=%(refname)").startswith("refs/heads/claude/")


@pytest.mark.parametrize("operation", ["merge", "rebase", "cherry-pick", "revert", "bisect"])
async def test_nothing_is_done_in_the_middle_of_a_real_operation_and_all_goes_on_after_it(
    registered: TestHost, place: Place, operation: str
) -> None:
    work = place.work
    git(work, "checkout", "-q", "-b", "topic")
    (work / "a.txt").write_text("topic\n")
    git(work, "commit", "-q", "-am", "topic")
    git(work, "checkout", "-q", "main")
    (work / "a.txt").write_text("main\n")
    git(work, "commit", "-q", "-am", "main")
    start = {
        "merge": ("merge", "topic"), "rebase": ("rebase", "topic"), "cherry-pick": ("cherry-pick", "topic"),
        "revert": ("revert", "--no-edit", "HEAD~1"), "bisect": ("bisect", "start", "HEAD", "HEAD~1"),
    }[operation]  # fmt: skip
    if operation == "revert":
        (work / "a.txt").write_text("later\n")
        git(work, "commit", "-q", "-am", "later")
    git(work, *start, check=False)
    if operation == "bisect":
        (work / "a.txt").write_text("being tried\n")
    head, index = git(work, "rev-parse", "HEAD"), git(work, "ls-files", "-s")
    assert await status(registered, work) == "merging"
    for method, more in (("sync", {}), ("commit", {"message": "x"}), ("create_branch", {"name": "x"}), ("pull", {})):
        error = await refusal(registered, method, work, **more)
        assert (error.kind, error.data["state"]) == ("gitsync.workspace_busy", operation), method
    assert (git(work, "rev-parse", "HEAD"), git(work, "ls-files", "-s")) == (head, index)
    assert set(place.refs()) == {"refs/heads/main"}
    if operation == "bisect":
        git(work, "checkout", "-q", "a.txt")
        git(work, "bisect", "reset")
    else:
        git(work, operation, "--abort")
    (work / "a.txt").write_text("after it\n")
    assert (await sync(registered, work))["status"] == "pushed"
    assert place.refs()["refs/heads/main"] == place.main


async def test_a_detached_head_pulls_nothing_and_pushes_to_the_work_branch(registered: TestHost, place: Place) -> None:
    git(place.work, "checkout", "-q", "--detach")
    git(place.work, "commit", "-q", "--allow-empty", "-m", "on no branch")
    pushed = await registered.client.call("gitsync.push", path=str(place.work))
    assert (pushed["pushed"], pushed["branch"]) == (True, "claude/work")
    other = place.root.parent / "other"
    git(place.root, "clone", "-q", "-b", "claude/work", place.remote, str(other))
    git(other, "commit", "-q", "--allow-empty", "-m", "theirs")
    git(other, "push", "-q", "origin", "claude/work")
    error = await refusal(registered, "pull", place.work, branch="claude/work")
    assert (error.kind, error.data["state"]) == ("gitsync.workspace_busy", "detached")
    # And as it lacks the remote's commit, its own goes nowhere.
    git(place.work, "commit", "-q", "--allow-empty", "-m", "mine")
    assert (await sync(registered, place.work))["status"] == "rejected"


async def test_a_lock_left_behind_on_a_branch_is_told_as_such_and_the_rest_is_as_it_was(
    registered: TestHost, place: Place
) -> None:
    (place.work / "a.txt").write_text("changed\n")
    lock = place.work / ".git" / "refs" / "heads" / "claude" / "work.lock"
    lock.parent.mkdir()
    lock.touch()
    error = await refusal(registered, "sync", place.work)
    assert (error.kind, error.data["state"]) == ("gitsync.workspace_busy", "branch_locked")
    assert git(place.work, "status", "--porcelain") == "M a.txt"
    lock.unlink()
    assert (await sync(registered, place.work))["status"] == "pushed"
    assert git(place.bare, "rev-list", "--count", "claude/work") == "2"


async def test_a_lock_of_the_index_that_a_killed_clonk_has_left_is_taken_away_and_no_other(
    registered: TestHost, place: Place
) -> None:
    """Clonk's own lock is a second name of the index that it was about to put in place."""
    (place.work / "a.txt").write_text("changed\n")
    own, lock = (place.work / ".git" / name for name in ("index.clonk", "index.lock"))
    own.write_bytes((place.work / ".git" / "index").read_bytes())
    lock.write_bytes(own.read_bytes())
    error = await refusal(registered, "sync", place.work)
    assert (error.kind, error.data["state"]) == ("gitsync.workspace_busy", "index_locked")
    assert lock.exists()
    lock.unlink()
    own.write_bytes(b"half of an index")
    lock.hardlink_to(own)
    assert (await sync(registered, place.work))["status"] == "pushed"
    assert not own.exists()
    assert not lock.exists()
    assert git(place.work, "status", "--porcelain") == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can work as another user")
async def test_a_file_that_its_workspaces_owner_cannot_read_is_never_committed_as_an_empty_one(
    registered: TestHost, place: Place
) -> None:
    let_others_in(place.root)
    for path in (place.work, *place.work.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    (place.work / "secret").write_text("of root\n")
    (place.work / "secret").chmod(0o600)
    assert (await sync(registered, place.work))["status"] == "up_to_date"
    assert git(place.work, "-c", "safe.directory=*", "rev-parse", "HEAD") == place.main
    (place.work / "secret").chmod(0o644)
    assert (await sync(registered, place.work))["status"] == "pushed"
    assert git(place.bare, "show", "claude/work:secret") == "of root"


async def test_a_shallow_clone_is_pulled_and_never_makes_the_remote_shallow(host: TestHost, place: Place) -> None:
    for number in range(3):
        git(place.work, "commit", "-q", "--allow-empty", "-m", str(number))
    git(place.work, "push", "-q", place.remote, "main")
    shallow = place.root / "shallow"
    git(place.root, "clone", "-q", "--depth=1", place.remote, str(shallow))
    await host.client.call("gitsync.register", path=str(shallow), remote=place.remote, branch="main")
    git(place.work, "commit", "-q", "--allow-empty", "-m", "later")
    git(place.work, "push", "-q", place.remote, "main")
    assert (await host.client.call("gitsync.pull", path=str(shallow)))["updated"]
    assert git(shallow, "log", "-1", "--format=%s") == "later"
    git(shallow, "fsck")
    (shallow / "a.txt").write_text("changed\n")
    assert (await sync(host, shallow))["status"] == "pushed"
    assert not (place.bare / "shallow").exists()
    assert git(place.bare, "rev-list", "--count", "claude/shallow") == "6"
    assert len(await host.client.call("gitsync.log", path=str(shallow))) >= 2


async def test_a_repository_of_sha256_ids_is_synced_and_pulled(host: TestHost, place: Place) -> None:
    bare, work = place.bare.with_name("long.git"), place.root / "long"
    for folder, words in ((bare, ("--bare",)), (work, ())):
        folder.mkdir()
        git(folder, "init", "-q", "-b", "main", "--object-format=sha256", *words)
    (work / "first").write_text("1\n")
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "first")
    git(work, "push", "-q", f"file://{bare}", "main")
    await host.client.call("gitsync.register", path=str(work), remote=f"file://{bare}", branch="main")
    (work / "second").write_text("2\n")
    assert "+2" in await host.client.call("gitsync.diff", path=str(work))
    assert (await sync(host, work))["status"] == "pushed"
    assert len(git(bare, "rev-parse", "claude/long")) == 64
    target = place.root / "cloned"
    events = await host.client.events("gitsync.clone", remote=f"file://{bare}", path=str(target))
    assert events[-1]["outcome"] == "complete", events[-1]
    assert (target / "first").read_text() == "1\n"
