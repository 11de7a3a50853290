"""A key that is narrowed cannot find out what else there is: for it, what it may not reach does not exist."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from clonk_core.client.inside import InsideClient
from clonk_core.errors import CallError
from clonk_core.interfaces.door import Connection
from clonk_core.plugin import hookimpl
from clonk_core.testing.host import TestHost
from tests.core.gateway.guarded import OpenGuarded, key_settings, secret_of


def client_of(host: TestHost, key_id: str) -> InsideClient:
    connection = Connection(transport="http", peer="test", id="conn_x", address="127.0.0.1", bearer=secret_of(key_id))
    return InsideClient(host.dispatch, connection)


@attrs.frozen
class House:
    """Two of everything: one that the narrowed key reaches, and one that it does not.

    Attributes:
        narrow, root: Clients of the narrowed key and of one that may do everything.
        tree, node: Of the tree `ci-1`.
        other_tree, other_node: Of the tree `secret`.
        folder: Where the folders `ci-1` and `secret` are.
    """

    narrow: InsideClient
    root: InsideClient
    tree: str
    node: str
    other_tree: str
    other_node: str
    folder: Path

    async def refusal(self, method: str, **params: Any) -> tuple[str, Any]:
        """Return what the narrowed key is answered, with what it sent itself left out."""
        with pytest.raises(CallError) as caught:
            await self.narrow.call(method, **params)
        text = f"{caught.value.message} {caught.value.data}"
        for value in params.values():
            text = text.replace(str(value), "<sent>")
        return caught.value.kind, text


class Broken:
    """A plugin that cannot be loaded, for a reason that is not for everyone."""

    @hookimpl
    def clonk_activations(self) -> Any:
        raise RuntimeError("no file /etc/hidden-place")


@pytest.fixture
async def house(open_guarded: OpenGuarded, tmp_path: Path) -> AsyncIterator[House]:
    folder = tmp_path / "folder"
    for name in ("ci-1", "secret"):
        (folder / name).mkdir(parents=True)
    (folder / "ci-link").symlink_to(folder / "secret")
    keys = [key_settings("root"), key_settings("narrow", ["*@ci-*", f"gitsync:*@{folder}/ci-*"])]
    async with open_guarded(
        *keys,
        packages=["arbor", "claudecode", "gitsync"],
        plugins={"broken": Broken()},
        settings={"workspaces": {"roots": [str(folder)]}},
    ) as host:
        root = client_of(host, "root")
        trees = [await root.call("arbor.tree_create", name=name) for name in ("ci-1", "secret")]
        nodes = [await root.call("arbor.node_create", tree_id=tree, parent_id=None, content="x") for tree in trees]
        await root.call("claudecode.create", name="secret", working_dir=str(folder / "secret"))
        yield House(client_of(host, "narrow"), root, trees[0], nodes[0], trees[1], nodes[1], folder)


NO_NODE = "node_01k00000000000000000000000"
NO_TREE = "tree_01k00000000000000000000000"


async def test_trees_and_nodes_beyond_its_reach_are_like_those_that_are_not_there(house: House) -> None:
    for method, name in (("arbor.node_get", "node_id"), ("arbor.node_children", "node_id")):
        assert await house.refusal(method, **{name: house.other_node}) == await house.refusal(method, **{name: NO_NODE})
    own = {"tree_id": house.tree, "content": "y"}
    assert await house.refusal("arbor.node_create", parent_id=house.other_node, **own) == await house.refusal(
        "arbor.node_create", parent_id=NO_NODE, **own
    )
    assert await house.refusal("arbor.node_children", node_id=house.node, after=house.other_node) == (
        await house.refusal("arbor.node_children", node_id=house.node, after=NO_NODE)
    )
    assert await house.refusal("arbor.tree_get", id=house.other_tree) == await house.refusal(
        "arbor.tree_get", id=NO_TREE
    )
    assert await house.refusal("arbor.node_create", tree_id=house.other_tree, parent_id=None, content=1) == (
        await house.refusal("arbor.node_create", tree_id=NO_TREE, parent_id=None, content=1)
    )
    assert [one["name"] for one in await house.narrow.call("arbor.tree_list")] == ["ci-1"]
    assert await house.narrow.call("arbor.node_create", tree_id=house.tree, parent_id=house.node, content="y")


async def test_a_session_s_name_cannot_be_guessed_by_paging(house: House) -> None:
    assert await house.refusal("claudecode.list", after="secret") == (
        await house.refusal("claudecode.list", after="absent")
    )
    await house.narrow.call("claudecode.create", name="ci-1", working_dir=str(house.folder / "ci-1"))
    assert await house.narrow.call("claudecode.list", after="ci-1") == []
    assert [one["name"] for one in await house.narrow.call("claudecode.list")] == ["ci-1"]
    assert [one["name"] for one in await house.root.call("claudecode.list", after="ci-1")] == ["secret"]


@pytest.mark.parametrize("name", ["secret", "SECRET", " secret", "ci-1/../secret", "./secret", "secret\n"])
async def test_no_other_spelling_reaches_a_session(house: House, name: str) -> None:
    for positional, named in (((), {"name": name}), ((name,), {})):
        with pytest.raises(CallError) as caught:
            await house.narrow.call("claudecode.get", *positional, **named)
        assert caught.value.kind in ("forbidden", "invalid_params")


@pytest.mark.parametrize(
    "path",
    ["secret", "ci-1/../secret", "ci-link", "ci-link/.", "/secret", "ci-1/../../folder/secret", "secret/ci-1/.."],
)
async def test_no_other_spelling_reaches_a_folder(house: House, path: str) -> None:
    target = f"{house.folder}/{path}"
    await house.root.call("gitsync.register", path=str(house.folder / "secret"), remote="git@h:x/y", branch="main")
    for method, more in (("gitsync.register", {"remote": "git@h:x/z", "branch": "other"}), ("gitsync.unregister", {})):
        with pytest.raises(CallError) as caught:
            await house.narrow.call(method, path=target, **more)
        assert caught.value.kind == "forbidden"
    assert await house.narrow.call("gitsync.list") == []
    [registered] = await house.root.call("gitsync.list")
    assert registered["branch"] == "main"


async def test_methods_that_are_not_for_it_are_not_proposed(house: House) -> None:
    for wrong, right in (("keys.creat", "keys.create"), ("audit.quer", "audit.query"), ("hub.plugin", "hub.plugins")):
        with pytest.raises(CallError) as caught:
            await house.narrow.call(wrong)
        assert right not in caught.value.message
        assert right not in caught.value.data["near"]
        with pytest.raises(CallError) as caught:
            await house.root.call(wrong)
        assert right in caught.value.data["near"]
    with pytest.raises(CallError) as caught:
        await house.narrow.call("claudecode.lis")
    assert "claudecode.list" in caught.value.data["near"]
    for name in ("keys", "audit.query", "hub.plugins"):
        with pytest.raises(CallError) as caught:
            await house.narrow.call("hub.schema", method=name)
        assert caught.value.kind == "not_found"


async def test_why_something_does_not_work_is_told_to_those_who_may_read_it(house: House) -> None:
    report = await house.narrow.call("health.check")
    assert report["status"] == "degraded"
    assert report["parts"]["plugin broken"] == "failed"
    assert "hidden-place" not in str(report)
    assert "hidden-place" in (await house.root.call("health.check"))["parts"]["plugin broken"]
