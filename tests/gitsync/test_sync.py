"""From a changed file to the remote, through the whole gateway, with real repositories."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost
from clonk_gitsync.git.opening import open_shadow
from clonk_gitsync.git.process import Git
from clonk_gitsync.git.repository import find_repository
from tests.gitsync.conftest import OpenHost, Place, git


async def test_a_sync_commits_and_pushes_to_a_branch_of_its_own_and_main_stays(
    registered: TestHost, place: Place
) -> None:
    (place.work / "a.txt").write_text("one\n2\nthree\n")
    (place.work / "new.txt").write_text("new\n")
    answer = await registered.client.call("gitsync.sync", path=str(place.work), message="Change it")
    commit = git(place.work, "rev-parse", "HEAD")
    assert answer == {
        "status": "pushed",
        "commit": commit[:7],
        "branch": "claude/work",
        "remote": "origin",
        "files_changed": 2,
        "insertions": 3,
        "deletions": 1,
    }
    assert place.refs() == {"refs/heads/main": place.main, "refs/heads/claude/work": commit}
    assert git(place.work, "rev-parse", "main") == place.main
    assert git(place.work, "status", "--porcelain=v2", "--branch").splitlines()[1] == "# branch.head claude/work"
    assert git(place.work, "status", "--porcelain") == ""
    assert git(place.work, "log", "-1", "--format=%an <%ae> %s") == "Clonk <clonk@localhost> Change it"


async def test_a_second_sync_has_nothing_to_do_and_a_third_goes_on(registered: TestHost, place: Place) -> None:
    (place.work / "a.txt").write_text("changed\n")
    await registered.client.call("gitsync.sync", path=str(place.work))
    again = await registered.client.call("gitsync.sync", path=str(place.work))
    assert (again["status"], again["files_changed"]) == ("up_to_date", 0)
    (place.work / "a.txt").unlink()
    third = await registered.client.call("gitsync.sync", path=str(place.work))
    assert (third["status"], third["deletions"]) == ("pushed", 1)
    assert git(place.bare, "rev-list", "--count", "claude/work") == "3"


async def test_copies_of_an_index_keep_its_time(place: Place, tmp_path: Path) -> None:
    """Git looks again at files that are as new as the index: with a newer copy it would miss changes of equal size."""
    index = place.work / ".git" / "index"
    os.utime(index, ns=(10**18, 10**18))
    repository = find_repository(place.work, [place.root])
    async with open_shadow(Git(tmp_path), repository) as shadow:
        assert shadow.index.stat().st_mtime_ns == 10**18
        os.utime(shadow.index, ns=(2 * 10**18, 2 * 10**18))
        assert await shadow.keep_index()
    assert index.stat().st_mtime_ns == 2 * 10**18


async def test_a_workspace_without_changes_makes_no_branch(registered: TestHost, place: Place) -> None:
    answer = await registered.client.call("gitsync.sync", path=str(place.work))
    assert answer["status"] == "up_to_date"
    assert set(place.refs()) == {"refs/heads/main"}


async def test_a_registered_branch_that_is_not_protected_is_the_one_that_is_pushed(
    host: TestHost, place: Place
) -> None:
    await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="feature/x")
    (place.work / "a.txt").write_text("changed\n")
    answer = await host.client.call("gitsync.sync", path=str(place.work))
    assert (answer["status"], answer["branch"]) == ("pushed", "feature/x")
    assert set(place.refs()) == {"refs/heads/main", "refs/heads/feature/x"}


async def test_a_commit_that_was_not_pushed_is_pushed_by_the_next_sync_and_not_made_twice(
    registered: TestHost, place: Place
) -> None:
    (place.work / "a.txt").write_text("changed\n")
    made = await registered.client.call("gitsync.commit", path=str(place.work), message="Alone")
    assert made["made"]
    answer = await registered.client.call("gitsync.sync", path=str(place.work))
    assert (answer["status"], answer["commit"], answer["files_changed"]) == ("pushed", made["commit"][:7], 1)
    assert git(place.bare, "rev-list", "--count", "claude/work") == "2"


async def test_what_claude_committed_itself_on_main_goes_to_the_work_branch(registered: TestHost, place: Place) -> None:
    (place.work / "a.txt").write_text("changed\n")
    git(place.work, "commit", "-q", "-am", "by Claude")
    answer = await registered.client.call("gitsync.sync", path=str(place.work))
    assert (answer["status"], answer["branch"]) == ("pushed", "claude/work")
    assert place.refs()["refs/heads/main"] == place.main


async def test_a_remote_that_moved_on_rejects_and_nothing_there_is_lost(registered: TestHost, place: Place) -> None:
    (place.work / "a.txt").write_text("changed\n")
    await registered.client.call("gitsync.sync", path=str(place.work))
    other = place.root.parent / "other"
    git(place.root, "clone", "-q", "-b", "claude/work", place.remote, str(other))
    (other / "b.txt").write_text("b")
    git(other, "add", ".")
    git(other, "commit", "-q", "-m", "by another")
    git(other, "push", "-q", "origin", "claude/work")
    theirs = place.refs()["refs/heads/claude/work"]
    (place.work / "a.txt").write_text("changed again\n")
    answer = await registered.client.call("gitsync.sync", path=str(place.work))
    assert answer["status"] == "rejected"
    assert place.refs()["refs/heads/claude/work"] == theirs
    with pytest.raises(CallError) as caught:
        await registered.client.call("gitsync.push", path=str(place.work))
    assert caught.value.kind == "gitsync.push_rejected"
    forced = await registered.client.call("gitsync.push", path=str(place.work), force=True)
    assert forced["forced"]
    assert place.refs()["refs/heads/claude/work"] == forced["commit"]


async def test_a_server_that_refuses_the_branch_rejects(registered: TestHost, place: Place) -> None:
    hook = place.bare / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho protected >&2\nexit 1\n")
    hook.chmod(0o755)
    (place.work / "a.txt").write_text("changed\n")
    answer = await registered.client.call("gitsync.sync", path=str(place.work))
    assert answer["status"] == "rejected"
    assert set(place.refs()) == {"refs/heads/main"}


async def test_a_remote_that_is_gone_fails_and_the_commit_stays(registered: TestHost, place: Place) -> None:
    place.bare.rename(place.bare.with_name("elsewhere.git"))
    (place.work / "a.txt").write_text("changed\n")
    with pytest.raises(CallError) as caught:
        await registered.client.call("gitsync.sync", path=str(place.work))
    assert (caught.value.kind, caught.value.data["reason"]) == ("gitsync.remote_failed", "not_found")
    place.bare.with_name("elsewhere.git").rename(place.bare)
    assert (await registered.client.call("gitsync.sync", path=str(place.work)))["status"] == "pushed"
    assert git(place.bare, "rev-list", "--count", "claude/work") == "2"


async def test_an_empty_repository_and_an_empty_remote_get_a_first_commit(host: TestHost, place: Place) -> None:
    empty, bare = place.root / "empty", place.bare.with_name("empty.git")
    for folder, words in ((empty, ()), (bare, ("--bare",))):
        folder.mkdir()
        git(folder, "init", "-q", "-b", "main", *words)
    await host.client.call("gitsync.register", path=str(empty), remote=f"file://{bare}", branch="main")
    nothing = await host.client.call("gitsync.sync", path=str(empty))
    assert (nothing["status"], nothing["commit"]) == ("up_to_date", None)
    (empty / "first").write_text("1\n")
    assert (await host.client.call("gitsync.sync", path=str(empty)))["status"] == "pushed"
    assert git(bare, "for-each-ref", "--format=%(refname)") == "refs/heads/claude/empty"


async def test_odd_file_names_are_committed_and_shown(registered: TestHost, place: Place) -> None:
    names = sorted(["-rf", "--exec=id", "new\nline", "ünï", "sp ace", ":(glob)*", '"quoted"', "back\\slash"])
    for name in names:
        (place.work / name).write_text("x\n")
    shown = await registered.client.call("gitsync.diff", path=str(place.work), format="files")
    assert sorted(one["path"] for one in shown["files"]) == names
    assert (await registered.client.call("gitsync.sync", path=str(place.work)))["files_changed"] == len(names)
    words = ["git", "ls-tree", "-z", "--name-only", "claude/work"]
    listed = subprocess.run(words, cwd=place.bare, capture_output=True, check=True)
    assert {name.encode() for name in names} < set(listed.stdout.split(b"\0"))


async def test_a_name_that_is_not_utf8_is_committed_and_shown_escaped(registered: TestHost, place: Place) -> None:
    (Path(str(place.work)) / b"\xff".decode(errors="surrogateescape")).write_text("x\n")
    shown = await registered.client.call("gitsync.diff", path=str(place.work), format="files")
    assert [one["path"] for one in shown["files"]] == ["\\xff"]
    assert (await registered.client.call("gitsync.sync", path=str(place.work)))["status"] == "pushed"


async def test_files_over_the_limit_and_repositories_inside_are_left_out_and_named(
    open_gitsync: OpenHost, place: Place
) -> None:
    inner = place.work / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    with (place.work / "large").open("wb") as file:
        file.truncate(1024**3)  # a hole: takes no room
    (place.work / "b.txt").write_text("b\n")
    async with open_gitsync() as host:
        await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
        made = await host.client.call("gitsync.commit", path=str(place.work), message="x")
    assert set(made["left_out"]) == {"inner/", "large"}
    assert made["files_changed"] == 1
    assert git(place.work, "ls-tree", "--name-only", "HEAD") == "a.txt\nb.txt"


async def test_line_endings_follow_gitattributes_as_with_git_itself(registered: TestHost, place: Place) -> None:
    (place.work / ".gitattributes").write_text("*.txt text eol=crlf\n")
    (place.work / "crlf.txt").write_bytes(b"a\r\nb\r\n")
    await registered.client.call("gitsync.sync", path=str(place.work))
    assert git(place.bare, "cat-file", "-p", "claude/work:crlf.txt") == "a\nb"
    assert git(place.work, "status", "--porcelain") == ""


async def test_files_behind_a_filter_are_left_as_they_are(registered: TestHost, place: Place) -> None:
    (place.work / ".gitattributes").write_text("*.bin filter=crypt diff=crypt -text\n")
    (place.work / "x.bin").write_text("secret\n")
    made = await registered.client.call("gitsync.commit", path=str(place.work), message="x")
    assert (made["left_out"], made["files_changed"]) == (["x.bin"], 1)


@pytest.mark.parametrize(("file", "state"), [("MERGE_HEAD", "merge"), ("index.lock", "index_locked")])
async def test_nothing_is_committed_while_something_is_in_progress(
    registered: TestHost, place: Place, file: str, state: str
) -> None:
    (place.work / ".git" / file).write_text(f"{place.main}\n")
    (place.work / "a.txt").write_text("changed\n")
    with pytest.raises(CallError) as caught:
        await registered.client.call("gitsync.sync", path=str(place.work))
    assert (caught.value.kind, caught.value.data["state"]) == ("gitsync.workspace_busy", state)
    assert git(place.work, "rev-parse", "HEAD") == place.main


async def test_files_in_conflict_are_not_committed(registered: TestHost, place: Place) -> None:
    git(place.work, "checkout", "-q", "-b", "one")
    (place.work / "a.txt").write_text("1\n")
    git(place.work, "commit", "-q", "-am", "one")
    git(place.work, "checkout", "-q", "main")
    (place.work / "a.txt").write_text("2\n")
    git(place.work, "commit", "-q", "-am", "two")
    git(place.work, "merge", "one", check=False)
    assert (await registered.client.call("gitsync.status", path=str(place.work)))["status"] == "merging"
    (place.work / ".git" / "MERGE_HEAD").unlink()
    with pytest.raises(CallError) as caught:
        await registered.client.call("gitsync.sync", path=str(place.work))
    assert caught.value.data["state"] == "conflict"


async def test_a_detached_head_is_brought_onto_the_work_branch(registered: TestHost, place: Place) -> None:
    git(place.work, "checkout", "-q", "--detach")
    assert (await registered.client.call("gitsync.status", path=str(place.work)))["status"] == "detached"
    (place.work / "a.txt").write_text("changed\n")
    assert (await registered.client.call("gitsync.sync", path=str(place.work)))["status"] == "pushed"
    assert git(place.work, "symbolic-ref", "HEAD") == "refs/heads/claude/work"


async def test_a_branch_that_went_elsewhere_is_not_overwritten(registered: TestHost, place: Place) -> None:
    git(place.work, "checkout", "-q", "-b", "claude/work")
    (place.work / "b").write_text("b")
    git(place.work, "add", ".")
    git(place.work, "commit", "-q", "-m", "b")
    before = git(place.work, "rev-parse", "claude/work")
    git(place.work, "checkout", "-q", "main")
    (place.work / "a.txt").write_text("changed\n")
    with pytest.raises(CallError) as caught:
        await registered.client.call("gitsync.sync", path=str(place.work))
    assert caught.value.kind == "gitsync.branch_diverged"
    assert git(place.work, "rev-parse", "claude/work") == before


async def test_a_branch_whose_name_is_a_folder_of_branches_is_an_error_and_nothing_is_lost(
    registered: TestHost, place: Place
) -> None:
    git(place.work, "branch", "claude")
    (place.work / "a.txt").write_text("changed\n")
    with pytest.raises(CallError) as caught:
        await registered.client.call("gitsync.sync", path=str(place.work))
    assert caught.value.kind == "gitsync.branch_diverged"
    assert (place.work / "a.txt").read_text() == "changed\n"


async def test_a_linked_work_tree_is_synced_and_a_pointer_to_another_repository_is_refused(
    host: TestHost, place: Place
) -> None:
    linked = place.root / "linked"
    git(place.work, "worktree", "add", "-q", "-b", "feature", str(linked))
    await host.client.call("gitsync.register", path=str(linked), remote=place.remote, branch="feature")
    (linked / "a.txt").write_text("changed\n")
    assert (await host.client.call("gitsync.sync", path=str(linked)))["branch"] == "feature"
    thief = place.root / "thief"
    thief.mkdir()
    (thief / ".git").write_text(f"gitdir: {place.work / '.git'}\n")
    await host.client.call("gitsync.register", path=str(thief), remote=place.remote, branch="stolen")
    with pytest.raises(CallError) as caught:
        await host.client.call("gitsync.sync", path=str(thief))
    assert caught.value.kind == "gitsync.not_a_repository"


async def test_a_shallow_clone_is_synced(host: TestHost, place: Place) -> None:
    for number in range(3):
        (place.work / "a.txt").write_text(f"{number}\n")
        git(place.work, "commit", "-q", "-am", str(number))
    git(place.work, "push", "-q", place.remote, "main")
    shallow = place.root / "shallow"
    git(place.root, "clone", "-q", "--depth=1", place.remote, str(shallow))
    await host.client.call("gitsync.register", path=str(shallow), remote=place.remote, branch="main")
    (shallow / "a.txt").write_text("changed\n")
    assert (await host.client.call("gitsync.sync", path=str(shallow)))["status"] == "pushed"
    assert git(place.bare, "rev-list", "--count", "claude/shallow") == "5"


async def test_two_syncs_at_once_make_one_commit(registered: TestHost, place: Place) -> None:
    (place.work / "a.txt").write_text("changed\n")
    answers: list[Any] = []

    async def one() -> None:
        answers.append(await registered.client.call("gitsync.sync", path=str(place.work)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        nursery.start_soon(one)
    assert sorted(answer["status"] for answer in answers) == ["pushed", "up_to_date"]
    assert git(place.bare, "rev-list", "--count", "claude/work") == "2"


async def test_sync_all_tells_of_each_and_one_failure_stops_no_other(registered: TestHost, place: Place) -> None:
    (place.root / "none").mkdir()
    await registered.client.call("gitsync.register", path=str(place.root / "none"), remote=place.remote, branch="x")
    (place.work / "a.txt").write_text("changed\n")
    async with registered.client.stream("gitsync.sync_all") as stream:
        events = [event async for _seq, event in stream]
    told = {event["path"]: event for event in events if event["type"] == "workspace"}
    assert told[str(place.work)]["result"]["status"] == "pushed"
    assert told[str(place.root / "none")]["error"]["data"]["kind"] == "gitsync.not_a_repository"
    assert [event["type"] for event in events].count("progress") == 2
    assert events[-1]["type"] == "done"
