"""Status, diff, log, clone, pull and branches, as callers see them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost
from clonk_gitsync.git.changes import sort
from tests.gitsync.conftest import OpenHost, Place, git, let_others_in


async def status(host: TestHost, place: Place) -> dict[str, Any]:
    answer: dict[str, Any] = await host.client.call("gitsync.status", path=str(place.work))
    return answer


async def test_the_status_follows_the_workspace_through_its_life(registered: TestHost, place: Place) -> None:
    assert (await status(registered, place))["status"] == "no_remote"
    (place.work / "a.txt").write_text("changed\n")
    (place.work / "new").write_text("new\n")
    git(place.work, "add", "a.txt")
    dirty = await status(registered, place)
    assert (dirty["status"], dirty["staged"], dirty["unstaged"], dirty["untracked"]) == ("dirty", 1, 0, 1)
    await registered.client.call("gitsync.sync", path=str(place.work))
    clean = await status(registered, place)
    assert (clean["status"], clean["branch"], clean["work_branch"]) == ("clean", "claude/work", "claude/work")
    git(place.work, "commit", "-q", "--allow-empty", "-m", "x")
    assert [(await status(registered, place))[key] for key in ("status", "ahead", "behind")] == ["ahead", 1, 0]
    git(place.work, "reset", "-q", "--hard", "HEAD~2")
    assert [(await status(registered, place))[key] for key in ("status", "ahead", "behind")] == ["behind", 0, 1]
    git(place.work, "commit", "-q", "--allow-empty", "-m", "y")
    assert [(await status(registered, place))[key] for key in ("status", "ahead", "behind")] == ["diverged", 1, 1]
    place.work.rename(place.work.with_name("gone"))
    assert (await status(registered, place))["status"] == "missing"


async def test_a_diff_has_new_renamed_binary_and_deleted_files_and_changes_nothing(
    registered: TestHost, place: Place
) -> None:
    (place.work / "long").write_text("".join(f"{number}\n" for number in range(50)))
    (place.work / "gone").write_text("gone\n")
    git(place.work, "add", ".")
    git(place.work, "commit", "-q", "-m", "more")
    (place.work / "long").rename(place.work / "moved")
    (place.work / "gone").unlink()
    (place.work / "new").write_text("new\n")
    (place.work / "binary").write_bytes(b"\0\1\2")
    (place.work / "a.txt").write_text("one\nzwei\n")
    objects = len(list((place.work / ".git" / "objects").rglob("*")))
    before = git(place.work, "status", "--porcelain")
    diff = await registered.client.call("gitsync.diff", path=str(place.work), format="files")
    files = {one["path"]: one for one in diff["files"]}
    assert {name: one["change"] for name, one in files.items()} == {
        "a.txt": "modified", "binary": "added", "gone": "deleted", "moved": "renamed", "new": "added"
    }  # fmt: skip
    assert files["moved"]["old_path"] == "long"
    assert (files["binary"]["is_binary"], files["binary"]["new_size"], files["binary"]["hunks"]) == (True, 3, [])
    assert files["a.txt"]["hunks"] == ["@@ -1,2 +1,2 @@\n one\n-two\n+zwei\n"]
    assert (files["a.txt"]["old_size"], files["a.txt"]["new_size"]) == (8, 9)
    text = await registered.client.call("gitsync.diff", path=str(place.work), paths=["a.txt"], context=0)
    assert text.endswith("@@ -2 +2 @@ one\n-two\n+zwei\n")
    assert text.startswith("diff --git a/a.txt b/a.txt\n")
    assert await registered.client.call("gitsync.diff", path=str(place.work), staged=True) == ""
    assert git(place.work, "status", "--porcelain") == before
    assert len(list((place.work / ".git" / "objects").rglob("*"))) == objects


async def test_a_long_diff_is_cut_and_says_so(open_gitsync: OpenHost, place: Place) -> None:
    (place.work / "a.txt").write_text("line\n" * 10_000)
    settings = place.settings()
    settings["gitsync"]["max_diff_bytes"] = 2000
    async with open_gitsync(settings) as host:
        await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
        text = await host.client.call("gitsync.diff", path=str(place.work))
        files = await host.client.call("gitsync.diff", path=str(place.work), format="files")
    assert len(text) < 2200
    assert "cut after 2000 bytes" in text
    assert (files["truncated"], files["files"][0]["hunks"], files["files"][0]["insertions"]) == (True, [], 10_000)


@pytest.mark.parametrize(
    "wrong", [{"against": "--output=x"}, {"against": "nowhere"}, {"paths": ["../x"]}, {"paths": ["/x"]}]
)
async def test_what_a_diff_cannot_be_made_of_is_refused(
    registered: TestHost, place: Place, wrong: dict[str, Any]
) -> None:
    with pytest.raises(CallError) as caught:
        await registered.client.call("gitsync.diff", path=str(place.work), **wrong)
    assert caught.value.kind == "invalid_params"


async def test_the_log_tells_of_commits_newest_first(registered: TestHost, place: Place) -> None:
    git(place.work, "commit", "-q", "--allow-empty", "-m", "second\n\nwith a body")
    log = await registered.client.call("gitsync.log", path=str(place.work))
    assert [(one["subject"], one["body"]) for one in log] == [("second", "with a body"), ("first", "")]
    assert log[0]["parents"] == [place.main]
    assert len(await registered.client.call("gitsync.log", path=str(place.work), limit=1)) == 1


async def test_a_clone_is_a_registered_workspace_that_syncs(host: TestHost, place: Place) -> None:
    target = place.root / "cloned"
    async with host.client.stream("gitsync.clone", remote=place.remote, path=str(target)) as stream:
        events = [event async for _seq, event in stream]
    [cloned] = [event for event in events if event["type"] == "cloned"]
    assert (cloned["commit"], cloned["workspace"]["branch"]) == (place.main, "main")
    assert (target / "a.txt").read_text() == "one\ntwo\n"
    assert git(target, "status", "--porcelain=v1", "--branch") == "## main"
    (target / "a.txt").write_text("changed\n")
    assert (await host.client.call("gitsync.sync", path=str(target)))["branch"] == "claude/cloned"


async def test_a_shallow_clone_has_as_much_as_was_asked_for(host: TestHost, place: Place) -> None:
    git(place.work, "commit", "-q", "--allow-empty", "-m", "second")
    git(place.work, "push", "-q", place.remote, "main")
    target = place.root / "cloned"
    async with host.client.stream("gitsync.clone", remote=place.remote, path=str(target), depth=1) as stream:
        assert [event async for _seq, event in stream][-1]["outcome"] == "complete"
    assert git(target, "rev-list", "--count", "HEAD") == "1"
    (target / "a.txt").write_text("changed\n")
    assert (await host.client.call("gitsync.sync", path=str(target)))["status"] == "pushed"


@pytest.mark.parametrize("why", ["full", "no_branch", "elsewhere", "outside"])
async def test_a_clone_that_fails_leaves_nothing(host: TestHost, place: Place, tmp_path: Path, why: str) -> None:
    target = place.work if why == "full" else (tmp_path if why == "outside" else place.root) / "cloned"
    remote = f"file://{place.bare.parent}/none.git" if why == "elsewhere" else place.remote
    branch = "nowhere" if why == "no_branch" else None
    listed = sorted(place.work.iterdir())
    with pytest.raises(CallError) as caught:
        async with host.client.stream("gitsync.clone", remote=remote, path=str(target), branch=branch) as stream:
            done = [event async for _seq, event in stream][-1]
            error = done["error"]
            raise CallError(error["data"]["kind"])
    assert "internal" not in caught.value.message
    assert sorted(place.work.iterdir()) == listed
    assert not (place.root / "cloned").exists()
    assert await host.client.call("gitsync.list") == []


async def test_a_pull_goes_forward_and_keeps_changed_files(registered: TestHost, place: Place) -> None:
    other = place.root.parent / "other"
    git(place.root, "clone", "-q", place.remote, str(other))
    (other / "b.txt").write_text("b\n")
    git(other, "add", ".")
    git(other, "commit", "-q", "-m", "theirs")
    git(other, "push", "-q", "origin", "main")
    (place.work / "a.txt").write_text("mine\n")
    answer = await registered.client.call("gitsync.pull", path=str(place.work))
    assert (answer["updated"], answer["before"], answer["commit"]) == (
        True,
        place.main,
        place.refs()["refs/heads/main"],
    )
    assert (place.work / "b.txt").read_text() == "b\n"
    assert git(place.work, "status", "--porcelain") == "M a.txt"
    assert (await registered.client.call("gitsync.pull", path=str(place.work)))["updated"] is False


async def test_a_pull_overwrites_no_changed_file_and_no_commit(registered: TestHost, place: Place) -> None:
    other = place.root.parent / "other"
    git(place.root, "clone", "-q", place.remote, str(other))
    (other / "a.txt").write_text("theirs\n")
    git(other, "commit", "-q", "-am", "theirs")
    git(other, "push", "-q", "origin", "main")
    (place.work / "a.txt").write_text("mine\n")
    with pytest.raises(CallError) as caught:
        await registered.client.call("gitsync.pull", path=str(place.work))
    assert (caught.value.kind, caught.value.data["state"]) == ("gitsync.workspace_busy", "dirty")
    assert (place.work / "a.txt").read_text() == "mine\n"
    git(place.work, "commit", "-q", "-am", "mine")
    with pytest.raises(CallError) as caught:
        await registered.client.call("gitsync.pull", path=str(place.work))
    assert caught.value.kind == "gitsync.branch_diverged"
    assert (place.work / "a.txt").read_text() == "mine\n"


async def test_a_branch_is_made_and_checked_out_and_a_protected_one_is_not(registered: TestHost, place: Place) -> None:
    made = await registered.client.call("gitsync.create_branch", path=str(place.work), name="claude/topic")
    assert (made["branch"], made["work_branch"]) == ("claude/topic", "claude/topic")
    for name in ("main", "Release/1", "a..b"):
        with pytest.raises(CallError) as caught:
            await registered.client.call("gitsync.create_branch", path=str(place.work), name=name)
        assert caught.value.kind == "gitsync.branch_protected"


@pytest.mark.parametrize(
    "branch", ["main", "MAIN", "release/1", "trunk", "Develop", "refs/heads/main", "x:refs/heads/main"]
)
async def test_no_push_reaches_a_protected_branch_named_by_the_caller(
    registered: TestHost, place: Place, branch: str
) -> None:
    git(place.bare, "branch", "trunk", "main")
    git(place.bare, "symbolic-ref", "HEAD", "refs/heads/trunk")
    await registered.client.call("gitsync.update", path=str(place.work), base="develop")
    git(place.work, "commit", "-q", "--allow-empty", "-m", "x")
    before = place.refs()
    for force in (False, True):
        with pytest.raises(CallError) as caught:
            await registered.client.call("gitsync.push", path=str(place.work), branch=branch, force=force)
        assert caught.value.kind in {"gitsync.branch_protected", "invalid_params"}
    assert place.refs() == before


async def test_what_is_known_of_a_workspace_is_changed_in_parts(registered: TestHost, place: Place) -> None:
    path = str(place.work)
    changed = await registered.client.call(
        "gitsync.update", path=path, base="develop", protect=["qa*"], auto_commit=True
    )
    assert (changed["base"], changed["protect"], changed["auto_commit"]) == ("develop", ["qa*"], True)
    assert (changed["branch"], changed["remote"]) == ("main", place.remote)
    assert await registered.client.call("gitsync.get", path=path) == changed
    assert (await registered.client.call("gitsync.update", path=path, base=""))["base"] is None
    with pytest.raises(CallError) as caught:
        await registered.client.call("gitsync.get", path=str(place.root / "x"))
    assert caught.value.kind == "gitsync.not_registered"


async def test_mappings_are_registered_and_repositories_of_allowed_organisations_are_found(
    open_gitsync: OpenHost, place: Place
) -> None:
    for name, remote in (("mine", "git@github.com:Org/mine.git"), ("theirs", "https://github.com/other/theirs")):
        folder = place.root / "deep" / name
        folder.mkdir(parents=True)
        git(folder, "init", "-q", "-b", "topic")
        git(folder, "remote", "add", "origin", remote)
    settings = place.settings()
    settings["gitsync"]["allowed_remotes"] += ["*"]
    settings["workspaces"] |= {
        "mappings": [{"path": str(place.work), "remote": place.remote, "branch": "main", "auto_commit": True}],
        "auto_discover": True,
        "allowed_orgs": ["org"],
    }
    async with open_gitsync(settings) as host:
        listed: list[dict[str, Any]] = []
        while len(listed) < 2:  # the service begins with it
            listed = await host.client.call("gitsync.list")
        assert [(one["path"], one["branch"], one["source"]) for one in listed] == [
            (str(place.root / "deep" / "mine"), "topic", "discovered"),
            (str(place.work), "main", "mapping"),
        ]
        assert listed[1]["auto_commit"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can work as another user")
async def test_a_root_server_works_as_the_workspaces_owner(registered: TestHost, place: Place) -> None:
    let_others_in(place.root)
    for path in (place.work, *place.work.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    (place.work / "a.txt").write_text("changed\n")
    assert (await registered.client.call("gitsync.sync", path=str(place.work)))["status"] == "pushed"
    assert {path.stat().st_uid for path in place.work.rglob("*")} == {12345}


def close_a_file(work: Path) -> None:
    (work / "closed").chmod(0)


def close_a_folder(work: Path) -> None:
    (work / "folder").chmod(0o600)


def give_a_file_to_another(work: Path) -> None:
    os.chown(work / "closed", 0, 0)
    (work / "closed").chmod(0o600)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can work as another user")
@pytest.mark.parametrize("close", [close_a_file, close_a_folder, give_a_file_to_another])
async def test_what_the_owner_cannot_read_is_left_out_and_the_rest_is_pushed(
    registered: TestHost, place: Place, close: Callable[[Path], None]
) -> None:
    let_others_in(place.root)
    (place.work / "folder").mkdir()
    (place.work / "folder" / "in").write_text("in\n")
    (place.work / "closed").write_text("closed\n")
    git(place.work, "add", ".")
    git(place.work, "commit", "-q", "-m", "more")
    for one in (place.work, *place.work.rglob("*")):
        os.chown(one, 12345, 12345, follow_symlinks=False)
    for name in ("closed", "folder/in", "a.txt"):
        (place.work / name).write_text("changed\n")
    close(place.work)
    hidden = "folder/in" if close is close_a_folder else "closed"
    path = str(place.work)
    assert (await registered.client.call("gitsync.status", path=path))["status"] == "dirty"
    diff = await registered.client.call("gitsync.diff", path=path, format="files")
    assert hidden in diff["left_out"]
    assert {"a.txt", hidden} & {file["path"] for file in diff["files"]} == {"a.txt"}
    text = await registered.client.call("gitsync.diff", path=path)
    assert "a/a.txt" in text
    assert f"a/{hidden}" not in text
    made = await registered.client.call("gitsync.commit", path=path, message="what can be read")
    assert hidden in made["left_out"]
    assert (await registered.client.call("gitsync.sync", path=path))["status"] == "pushed"
    assert git(place.bare, "show", f"{made['branch']}:a.txt") == "changed"
    assert git(place.bare, "show", f"{made['branch']}:{hidden}") in {"in", "closed"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can work as another user")
def test_what_the_server_itself_cannot_reach_is_left_out_and_not_taken_for_gone(place: Place) -> None:
    let_others_in(place.root)
    (place.work / "folder").mkdir(mode=0o700)
    (place.work / "folder" / "in").write_text("in\n")
    os.seteuid(12345)
    try:
        found = sort(place.work, [b"folder/in", b"never"], 1000)
    finally:
        os.seteuid(0)
    assert (found.left_out, found.gone, found.present) == ([b"folder/in"], [b"never"], [])
