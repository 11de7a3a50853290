"""claudecode beside an arbor that does not do its part: no turn ends of it, and the history has everything."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from clonk_core.errors import StorageError
from clonk_core.plugin import Activation, JsonValue, StorageFull, Unavailable, method
from clonk_core.testing.host import GivenActivations, TestHost

OpenHub = Callable[..., AbstractAsyncContextManager[TestHost]]

FAULTS = [
    StorageFull("the disk is full"),
    StorageError("database disk image is malformed"),
    Unavailable("not now"),
    ZeroDivisionError("a bug"),
]


class FailingArbor(Activation):
    """Makes trees, and no nodes.

    Args:
        fault: What adding a node raises.
    """

    namespace = "arbor"

    def __init__(self, fault: Exception) -> None:
        self._fault = fault
        self.asked = 0

    @method()
    async def tree_create(self, name: str) -> str:
        """Create a tree.

        Args:
            name: Its name.
        """
        return f"tree_of_{name}"

    @method()
    async def node_create(self, tree_id: str, content: JsonValue, parent_id: str | None = None) -> str:
        """Fail.

        Args:
            tree_id: The tree.
            content: The node's content.
            parent_id: The node above.
        """
        self.asked += 1
        raise self._fault


async def _chat(hub: TestHost, prompt: str) -> list[Any]:
    return await hub.client.events("claudecode.chat", name="one", prompt=prompt)


async def _roles(hub: TestHost) -> list[str]:
    return [message["role"] for message in await hub.client.call("claudecode.history", name="one")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
async def test_a_turn_goes_on_whatever_arbor_raises_and_asks_it_once(
    open_hub: OpenHub, workspace: Path, fault: Exception
) -> None:
    arbor = FailingArbor(fault)
    plugins = {"trees": GivenActivations([lambda: arbor])}
    async with open_hub(packages=["claudecode"], plugins=plugins) as hub:
        await hub.client.call("claudecode.create", name="one")
        events = await _chat(hub, "hello")
        assert events[-1]["outcome"] == "complete"
        assert events[-1]["snapshot_id"] is None
        assert await _roles(hub) == ["user", "assistant"]
        assert arbor.asked == 1
        assert "arbor failed" in hub.log_text
        await _chat(hub, "again")
        assert arbor.asked == 2


async def test_arbor_may_go_and_come_back_between_turns(open_hub: OpenHub, workspace: Path) -> None:
    async with open_hub() as hub:
        await hub.client.call("claudecode.create", name="one")
        head = (await _chat(hub, "with"))[-1]["snapshot_id"]
    async with open_hub(packages=["claudecode"]) as hub:
        events = await _chat(hub, "without")
        assert events[-1]["outcome"] == "complete"
    async with open_hub() as hub:
        events = await _chat(hub, "with again")
        ancestors = await hub.client.call("arbor.node_ancestors", node_id=events[-1]["snapshot_id"])
        assert head in [node["id"] for node in ancestors]
        assert await _roles(hub) == ["user", "assistant"] * 3


async def test_a_tree_that_is_gone_begins_anew(open_hub: OpenHub, workspace: Path, tmp_path: Path) -> None:
    async with open_hub() as hub:
        await hub.client.call("claudecode.create", name="one")
        await _chat(hub, "before")
        old = (await hub.client.call("claudecode.get", name="one"))["tree_id"]
    for path in (tmp_path / "data").glob("arbor.db*"):
        path.unlink()
    async with open_hub() as hub:
        events = await _chat(hub, "after")
        assert events[-1]["outcome"] == "complete"
        session = await hub.client.call("claudecode.get", name="one")
        assert session["tree_id"] != old
        assert session["snapshot_id"] == events[-1]["snapshot_id"]
        tree = await hub.client.call("arbor.tree_get", id=session["tree_id"])
        assert tree["node_count"] == 2
        assert await _roles(hub) == ["user", "assistant"] * 2


async def test_a_tree_comes_with_the_first_message(hub: TestHost) -> None:
    await hub.client.call("claudecode.create", name="one")
    assert (await hub.client.call("claudecode.get", name="one"))["tree_id"] is None
    assert await hub.client.call("arbor.tree_list") == []
    await _chat(hub, "hello")
    (tree,) = await hub.client.call("arbor.tree_list")
    assert (await hub.client.call("claudecode.get", name="one"))["tree_id"] == tree["id"]
