"""No way of asking for a pull request moves a protected branch, or asks to merge what is protected."""

from typing import Any

import pytest

from clonk_core.plugin import CallError
from tests.gitsync.conftest import git
from tests.gitsync.forges.conftest import World


async def refused(world: World, **params: Any) -> str:
    before = world.place.refs()
    with pytest.raises(CallError) as caught:
        await world.create(**params)
    assert world.place.refs() == before
    assert world.repository.pulls == []
    return caught.value.kind


@pytest.mark.parametrize("head", ["claude/work", "main", "release/1"])
async def test_a_protected_branch_is_not_pushed_for_a_request(one_world: World, head: str) -> None:
    """As the remote's default branch, as another name of main there, by the workspace's own pattern."""
    bare, work = one_world.place.bare, one_world.place.work
    if head == "claude/work":
        git(bare, "branch", "claude/work", "main")
        git(bare, "symbolic-ref", "HEAD", "refs/heads/claude/work")
    elif head == "main":
        git(bare, "symbolic-ref", "refs/heads/claude/work", "refs/heads/main")
    else:
        await one_world.call("update", protect=["claude/*"])
    assert await refused(one_world) == "gitsync.branch_protected"
    assert git(work, "rev-parse", "main") == one_world.place.main


BASES = ["", "-d", "--all", "refs/heads/main", "main:main", ":main", "../main", "main\n", "a b", "HEAD", "main~1", "*",
         "x" * 300, "main..x"]  # fmt: skip


@pytest.mark.parametrize("base", BASES)
async def test_a_base_that_is_no_branch_is_refused(one_world: World, base: str) -> None:
    assert await refused(one_world, base=base) in {"invalid_params", "gitsync.forge_refused"}


async def test_a_work_branch_is_not_merged_into_itself(one_world: World) -> None:
    with pytest.raises(CallError) as caught:
        await one_world.create(base="claude/work")
    assert caught.value.kind in {"invalid_params", "gitsync.forge_refused"}
    assert one_world.repository.pulls == []
    assert one_world.place.refs()["refs/heads/main"] == one_world.place.main
