"""Pull requests are pushed, made once and found again, at each kind of forge."""

import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_core.plugin import CallError
from tests.gitsync.conftest import git
from tests.gitsync.forges.conftest import KINDS, OpenWorld, World


async def kind_of(call: Any) -> str:
    with pytest.raises(CallError) as caught:
        await call
    return caught.value.kind


async def test_a_request_is_made_for_the_work_branch_which_is_pushed_first(world: World) -> None:
    answer = await world.create()
    commit = git(world.place.work, "rev-parse", "HEAD")
    assert world.place.refs() == {"refs/heads/main": world.place.main, "refs/heads/claude/work": commit}
    assert answer["url"].startswith(f"{world.forge.url}/org/repo/")
    del answer["url"], answer["mergeable"]
    assert answer == {
        "number": 1, "state": "open", "draft": False, "title": "Add words", "body": "They were lacking.",
        "head": "claude/work", "base": "main", "author": "clonk-bot", "labels": [], "reviewers": [],
        "created_at": "2026-01-01T01:00:00Z", "updated_at": "2026-01-01T01:00:00Z", "commit": commit,
        "created": True, "pushed": True,
    }  # fmt: skip


async def test_a_second_call_brings_the_open_request_up_to_date(world: World) -> None:
    first = await world.create(labels=["bug"], reviewers=["alice"])
    await world.commit("changed again\n")
    second = await world.create(title="Add more words", body="All.", labels=["bug", "words"], reviewers=["bob"])
    assert (first["created"], second["created"], second["pushed"]) == (True, False, True)
    assert second["number"] == first["number"] == 1
    assert (second["title"], second["body"]) == ("Add more words", "All.")
    assert (second["labels"], second["reviewers"]) == (["bug", "words"], ["alice", "bob"])
    assert second["commit"] == git(world.place.work, "rev-parse", "HEAD")
    assert len(world.repository.pulls) == 1


async def test_a_repeated_call_changes_nothing(world: World) -> None:
    first = await world.create(labels=["bug"], reviewers=["alice"])
    world.forge.seen.clear()
    second = await world.create(labels=["bug"], reviewers=["alice"])
    assert {one.verb for one in world.forge.seen} == {"GET"}
    assert second["pushed"] is False
    assert {name for name in first if first[name] != second[name]} <= {"created", "pushed", "mergeable"}


async def test_several_at_once_make_one_request(one_world: World) -> None:
    answers: list[Any] = []

    async def create() -> None:
        answers.append(await one_world.create())

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(create)
    assert [one["number"] for one in answers] == [1, 1, 1]
    assert sorted(one["created"] for one in answers) == [False, False, True]
    assert len(one_world.repository.pulls) == 1


async def test_a_request_that_somebody_makes_meanwhile_is_taken(world: World) -> None:
    def somebody(request: Any) -> None:
        if request.verb == "POST" and not world.repository.pulls:
            world.repository.add(title="Theirs", body="", head="claude/work", base="main")

    world.forge.before = somebody
    answer = await world.create()
    assert (answer["created"], answer["number"], answer["title"]) == (False, 1, "Add words")


async def test_a_call_that_was_cut_off_is_finished_by_the_next_one(one_world: World) -> None:
    def cut(request: Any) -> None:
        if request.verb == "POST":
            one_world.forge.before = None
            one_world.forge.answer(request)
            raise ConnectionAbortedError

    one_world.forge.before = cut
    with pytest.raises(CallError) as caught:
        await one_world.create()
    assert (caught.value.kind, caught.value.data["reason"]) == ("gitsync.forge_failed", "unreachable")
    answer = await one_world.create()
    assert (answer["created"], answer["number"]) == (False, 1)
    assert len(one_world.repository.pulls) == 1


async def test_a_call_that_is_cancelled_while_the_forge_works_is_finished_by_the_next_one(one_world: World) -> None:
    reached, released = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()

    def hold(request: Any) -> None:
        if request.verb == "POST":
            token.run_sync_soon(reached.set)
            released.wait(30)

    one_world.forge.before = hold
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one_world.create)
        await reached.wait()
        nursery.cancel_scope.cancel()
    released.set()
    one_world.forge.before = None
    answer = await one_world.create()
    assert (answer["number"], len(one_world.repository.pulls)) == (1, 1)


async def test_a_closed_request_is_left_alone_and_another_one_is_made(world: World) -> None:
    await world.create()
    world.repository.pulls[0].state = "closed"
    answer = await world.create()
    assert (answer["created"], answer["number"]) == (True, 2)


async def test_a_request_from_a_fork_is_not_taken_for_ours(world: World) -> None:
    world.repository.add(title="Stranger's", body="", head="claude/work", base="main", from_fork=True)
    answer = await world.create()
    assert (answer["created"], answer["number"]) == (True, 2)
    assert world.repository.pulls[0].title == "Stranger's"


async def test_a_draft_stays_one_until_it_is_told_otherwise(world: World) -> None:
    first = await world.create(draft=True)
    assert (first["draft"], first["title"]) == (True, "Add words")
    kept = await world.create(title="Add better words")
    assert (kept["draft"], kept["title"]) == (True, "Add better words")
    ready = await world.create(title="Add better words", draft=False)
    # GitHub's REST API cannot change it.
    assert (ready["draft"], ready["title"]) == (world.forge.kind == "github", "Add better words")
    raw = {"github": "Add better words", "gitlab": "Add better words", "gitea": "Add better words"}
    assert world.repository.pulls[0].title == raw[world.forge.kind]


@pytest.mark.parametrize(("kind", "mark"), [("gitlab", "Draft: "), ("gitea", "WIP: ")])
async def test_a_title_with_the_mark_of_a_draft_makes_one(open_world: OpenWorld, kind: str, mark: str) -> None:
    async with open_world(KINDS[kind]()) as world:
        answer = await world.create(title=f"{mark}Add words")
        assert (answer["draft"], answer["title"]) == (True, "Add words")
        assert world.repository.pulls[0].title == f"{mark}Add words"


async def test_the_base_is_the_one_named_or_the_workspaces_or_the_registered_one(world: World) -> None:
    for branch in ("develop", "release/1"):
        git(world.place.bare, "branch", branch, "main")
    await world.call("update", base="develop")
    assert (await world.create())["base"] == "develop"
    named = await world.create(base="release/1")
    assert (named["base"], named["created"]) == ("release/1", True)
    # Without a name, whichever is open is the one that is meant.
    world.repository.pulls[0].state = "closed"
    again = await world.create()
    assert (again["base"], again["created"]) == ("release/1", False)


async def test_the_remotes_default_branch_is_the_base_of_a_branch_that_is_not_protected(
    open_world: OpenWorld,
) -> None:
    async with open_world(KINDS["gitea"](), committed=False) as world:
        await world.call("update", branch="feature/x")
        await world.commit()
        answer = await world.create()
        assert (answer["head"], answer["base"]) == ("feature/x", "main")
        assert await kind_of(world.create(base="feature/x")) == "invalid_params"


async def test_a_workspace_without_commits_of_its_own_has_nothing_to_request(open_world: OpenWorld) -> None:
    async with open_world(KINDS["github"](), committed=False) as world:
        world.change()
        assert await kind_of(world.create()) == "gitsync.nothing_to_merge"
        assert not world.forge.posted("POST")


async def test_a_branch_that_cannot_be_pushed_gets_no_request(one_world: World) -> None:
    hook = one_world.place.bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    assert await kind_of(one_world.create()) == "gitsync.push_rejected"
    assert not one_world.forge.posted("POST")


async def test_labels_of_gitea_are_found_in_repository_and_organisation_or_made(open_world: OpenWorld) -> None:
    forge: Any = KINDS["gitea"]()
    forge.org_labels = {"urgent": 901}
    async with open_world(forge) as world:
        for number in range(60):
            world.repository.label(f"label {number}")
        answer = await world.create(labels=["label 55", "urgent", "new one"])
        assert answer["labels"] == ["label 55", "urgent", "new one"]
        made = [one.body["name"] for one in forge.posted("POST") if one.path.endswith("/labels")]
        assert made == ["new one"]


async def test_a_request_of_gitea_is_found_behind_many_others(open_world: OpenWorld) -> None:
    async with open_world(KINDS["gitea"]()) as world:
        await world.create()
        for number in range(60):
            world.repository.add(title=f"Other {number}", body="", head="main", base="main")
        answer = await world.create()
        assert (answer["created"], answer["number"]) == (False, 1)


@pytest.mark.parametrize("kind", ["github", "gitea"])
async def test_a_team_is_asked_for_a_review(open_world: OpenWorld, kind: str) -> None:
    async with open_world(KINDS[kind]()) as world:
        answer = await world.create(reviewers=["alice", "org/core"])
        assert answer["reviewers"] == ["alice", "org/core"]
        world.forge.seen.clear()
        await world.create(reviewers=["org/core"])
        assert not world.forge.posted("POST")


async def test_groups_inside_groups_are_known_to_gitlab(open_world: OpenWorld) -> None:
    async with open_world(KINDS["gitlab"](), "group/sub-group/deep.er/repo") as world:
        answer = await world.create()
        assert answer["url"].endswith("/group/sub-group/deep.er/repo/-/merge_requests/1")
        assert world.forge.seen[0].path == "/projects/group%2Fsub-group%2Fdeep.er%2Frepo/merge_requests"


@pytest.mark.parametrize("kind", ["github", "gitea"])
async def test_a_remote_that_is_no_owner_and_name_has_no_requests(open_world: OpenWorld, kind: str) -> None:
    async with open_world(KINDS[kind](), "group/sub/repo") as world:
        assert await kind_of(world.create()) == "gitsync.no_forge"
        assert not world.forge.seen


async def test_a_title_that_no_forge_takes_is_refused_before_anything_is_pushed(open_world: OpenWorld) -> None:
    async with open_world(KINDS["github"]()) as world:
        for title in ("", " ", "two\nlines", "x" * 256, "x" * 257):
            assert await kind_of(world.create(title=title)) == "invalid_params", title
        assert set(world.place.refs()) == {"refs/heads/main"}


async def test_a_text_may_be_as_long_as_the_forge_takes(world: World) -> None:
    limit = 65_536 if world.forge.kind == "github" else 1_048_576
    assert await kind_of(world.create(body="ä" * (limit + 1))) == "invalid_params"
    longest = await world.create(title="👩\u200d💻" + "x" * 245, body="b" * limit, draft=True)
    assert (longest["created"], len(longest["body"])) == (True, limit)
    listed = await world.call("list_prs")
    assert len(listed["requests"][0]["body"]) == 1000


async def test_a_workspace_that_is_not_registered_or_gone_is_told_as_such(one_world: World, tmp_path: Path) -> None:
    other = {"path": str(one_world.place.root / "other"), "title": "x", "body": ""}
    assert await kind_of(one_world.host.client.call("gitsync.create_pr", **other)) == "gitsync.not_registered"
    one_world.place.work.rename(tmp_path / "moved")
    assert await kind_of(one_world.create()) == "gitsync.not_a_repository"
