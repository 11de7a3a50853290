"""Pull requests are read: one by one and in pages."""

from typing import Any

import pytest

from clonk_core.plugin import CallError
from tests.gitsync.conftest import git
from tests.gitsync.forges.conftest import KINDS, OpenWorld, World


async def kind_of(call: Any) -> str:
    with pytest.raises(CallError) as caught:
        await call
    return caught.value.kind


async def test_the_request_of_the_work_branch_is_found_without_its_number(world: World) -> None:
    assert await kind_of(world.call("get_pr")) == "gitsync.no_such_pull_request"
    made = await world.create(labels=["bug"], reviewers=["alice"])
    found = await world.call("get_pr")
    # The first look lets the forge find out whether it can be merged.
    again = await world.call("get_pr", number=1)
    assert again["mergeable"] is True
    for one in (found, again):
        del one["mergeable"]
    assert found == again == {name: value for name, value in made.items() if name in found}


async def test_an_ended_request_is_found_when_none_is_open(world: World) -> None:
    await world.create()
    world.repository.pulls[0].state, world.repository.pulls[0].merged = "closed", True
    assert (await world.call("get_pr"))["state"] == "merged"
    await world.create()
    world.repository.pulls[1].state = "closed"
    assert [(await world.call("get_pr"))[name] for name in ("number", "state")] == [2, "closed"]
    world.repository.pulls[0].state, world.repository.pulls[0].merged = "open", False
    assert [(await world.call("get_pr"))[name] for name in ("number", "state")] == [1, "open"]


async def test_a_request_that_has_conflicts_is_told_as_such(world: World) -> None:
    await world.create()
    other = world.place.root / "other"
    git(world.place.root, "clone", "-q", str(world.place.bare), str(other))
    (other / "a.txt").write_text("something else\n")
    git(other, "commit", "-q", "-a", "-m", "other")
    git(other, "push", "-q", "origin", "main")
    await world.call("get_pr")
    assert (await world.call("get_pr"))["mergeable"] is False


async def test_a_number_that_there_is_not_is_told_as_such(world: World) -> None:
    assert await kind_of(world.call("get_pr", number=404)) == "gitsync.no_such_pull_request"
    assert await kind_of(world.call("get_pr", number=0)) == "invalid_params"


async def test_lists_come_newest_first_in_pages_that_end(world: World) -> None:
    for number in range(1, 8):
        world.repository.add(title=f"Number {number}", body="b" * 2000 if number == 7 else "", head="main", base="main")
    seen: list[int] = []
    after, pages = None, 0
    while pages == 0 or after is not None:
        page = await world.call("list_prs", limit=3, after=after)
        seen += [one["number"] for one in page["requests"]]
        after, pages = page["after"], pages + 1
    assert (seen, pages) == ([7, 6, 5, 4, 3, 2, 1], 3)
    first = await world.call("list_prs", limit=1)
    assert (len(first["requests"][0]["body"]), first["requests"][0]["body"][-2:]) == (1000, "b…")


async def test_lists_are_of_the_state_that_is_asked_for(world: World) -> None:
    for state, merged in (("open", False), ("closed", False), ("closed", True)):
        world.repository.add(title="x", body="", head="main", base="main", state=state, merged=merged)
    for state, numbers in (("open", [1]), ("closed", [2]), ("merged", [3]), ("all", [3, 2, 1])):
        page = await world.call("list_prs", state=state)
        assert [one["number"] for one in page["requests"]] == numbers, state
    assert [one["number"] for one in (await world.call("list_prs"))["requests"]] == [1]


async def test_a_full_page_of_a_hundred_is_asked_for_at_most(world: World) -> None:
    for _ in range(120):
        world.repository.add(title="x", body="", head="main", base="main")
    page = await world.call("list_prs", limit=100)
    assert len(page["requests"]) == (50 if world.forge.kind == "gitea" else 100)
    rest = await world.call("list_prs", limit=1, after=page["after"])
    assert rest["requests"][0]["number"] == page["requests"][-1]["number"] - 1


async def test_an_after_that_was_never_given_is_refused(open_world: OpenWorld) -> None:
    async with open_world(KINDS["github"](), committed=False) as world:
        for after in ("", "x", "2", "0x5", "1x101", "1x0", "-1x5", "1x5; --", "1" * 20, "1" * 21, 1):
            assert await kind_of(world.call("list_prs", after=after)) == "invalid_params", after
        assert not world.forge.seen


async def test_lists_need_no_folder_only_its_registration(one_world: World) -> None:
    one_world.place.work.rename(one_world.place.root / "moved")
    assert (await one_world.call("list_prs"))["requests"] == []
    assert await kind_of(one_world.call("get_pr")) == "gitsync.not_a_repository"
