"""Paths and branches: read from the root on, written many nodes at once, moved and cut off."""

from typing import Any

import pytest

from tests.arbor.conftest import Caller


async def test_a_path_is_read_from_its_root_page_by_page(arbor: Caller) -> None:
    _tree_id, ids = await arbor.tree(*range(25))
    path = await arbor.pages("node_path", "id", 7, node_id=ids[-1])
    assert [node["id"] for node in path] == ids
    assert [node["content"] for node in path] == list(range(25))
    assert [node["parent_id"] for node in path] == [None, *ids[:-1]]
    assert [node["id"] for node in await arbor("node_path", node_id=ids[10])] == ids[:11]
    assert [node["id"] for node in await arbor.pages("node_ancestors", "id", 4, node_id=ids[10])] == ids[9::-1]
    assert (await arbor("node_parent", node_id=ids[10]))["id"] == ids[9]
    assert await arbor("node_parent", node_id=ids[0]) is None


async def test_a_page_of_a_path_goes_on_only_behind_a_node_of_it(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree(*range(4))
    beside = await arbor("node_create", tree_id=tree_id, parent_id=ids[0], content="beside")
    error = await arbor.refusal("node_path", node_id=ids[3], after=beside)
    assert (error.kind, error.data["path"]) == ("invalid_params", "$.after")
    _other, elsewhere = await arbor.tree("x")
    assert (await arbor.refusal("node_path", node_id=ids[3], after=elsewhere[0])).kind == "invalid_params"
    assert (await arbor.refusal("node_path", node_id="node_x")).kind == "arbor.node_not_found"


async def test_every_ancestor_is_found_at_every_depth_also_after_moves(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree(*range(70))
    branch = await arbor("path_create", tree_id=tree_id, parent_id=ids[30], contents=[*range(40)])
    await arbor("node_move", node_id=branch[5], parent_id=ids[3])
    await arbor("node_move", node_id=ids[50], parent_id=branch[-1])
    expected = [*ids[:4], *branch[5:], *ids[50:]]
    assert [node["id"] for node in await arbor("node_path", node_id=ids[-1], limit=1000)] == expected
    # Each page begins at another depth, so that each ancestor is looked for by the farther ones.
    for start in range(len(expected) - 1):
        (node,) = await arbor("node_path", node_id=ids[-1], after=expected[start], limit=1)
        assert (node["id"], node["depth"]) == (expected[start + 1], start + 1)


async def test_many_nodes_are_created_at_once_or_none(arbor: Caller) -> None:
    tree_id, (root,) = await arbor.tree("root")
    nodes = [
        {"content": "a", "parent_id": root},
        {"content": "b", "parent_index": 0, "metadata": {"k": 1}},
        {"content": None},
        {"content": "d", "parent_index": 0},
    ]
    a, b, second_root, d = await arbor("nodes_create", tree_id=tree_id, nodes=nodes)
    tree = await arbor("tree_get", id=tree_id)
    assert (tree["root_ids"], tree["node_count"]) == ([root, second_root], 5)
    assert [node["id"] for node in await arbor("node_children", node_id=a)] == [b, d]
    assert (await arbor("node_get", node_id=b))["metadata"] == {"k": 1}
    wrong: list[tuple[list[dict[str, Any]], str]] = [
        ([{"content": 1}, {"content": 2, "parent_index": 1}], "invalid_params"),
        ([{"content": 1, "parent_id": root}, {"content": 2, "parent_id": root, "parent_index": 0}], "invalid_params"),
        ([{"content": 1, "parent_id": root}, {"content": 2, "parent_id": "node_x"}], "arbor.node_not_found"),
        ([{"content": 1}, {"content": 2, "metadata": {"x": "y" * 20_000}}], "arbor.content_too_large"),
        ([{"content": 1} for _ in range(999)], "arbor.too_many_roots"),
        ([], "invalid_params"),
    ]  # fmt: skip
    for drafts, kind in wrong:
        assert (await arbor.refusal("nodes_create", tree_id=tree_id, nodes=drafts)).kind == kind
    error = await arbor.refusal("path_create", tree_id=tree_id, parent_id=root, contents=["x" * 9 * 2**20] * 2)
    assert (error.kind, error.data["path"]) == ("arbor.content_too_large", "$.contents")
    after = await arbor("tree_get", id=tree_id)
    assert (after["node_count"], after["version"]) == (5, tree["version"])


async def test_a_branch_is_moved_with_all_below_it(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree(*range(6))
    moved = await arbor("node_move", node_id=ids[3], parent_id=ids[0])
    assert (moved["parent_id"], moved["depth"]) == (ids[0], 1)
    assert (await arbor("node_get", node_id=ids[5]))["depth"] == 3
    assert [node["id"] for node in await arbor("node_children", node_id=ids[0])] == [ids[1], ids[3]]
    as_root = await arbor("node_move", node_id=ids[4], parent_id=None)
    assert (as_root["parent_id"], as_root["depth"]) == (None, 0)
    assert (await arbor("tree_get", id=tree_id))["root_ids"] == [ids[0], ids[4]]
    await arbor("node_move", node_id=ids[4], parent_id=ids[2])
    tree = await arbor("tree_get", id=tree_id)
    assert (tree["root_ids"], tree["node_count"]) == ([ids[0]], 6)
    again = await arbor("node_move", node_id=ids[4], parent_id=ids[2])
    assert again["parent_id"] == ids[2]
    assert (await arbor("tree_get", id=tree_id))["version"] == tree["version"]


async def test_a_node_cannot_be_moved_below_itself_or_into_another_tree(arbor: Caller) -> None:
    _tree_id, ids = await arbor.tree(*range(20))
    for below in (ids[2], ids[3], ids[19]):
        assert (await arbor.refusal("node_move", node_id=ids[2], parent_id=below)).kind == "arbor.below_itself"
    _other, elsewhere = await arbor.tree("x")
    error = await arbor.refusal("node_move", node_id=ids[2], parent_id=elsewhere[0])
    assert error.kind == "arbor.parent_in_other_tree"
    assert (await arbor.refusal("node_move", node_id=ids[2], parent_id="node_x")).kind == "arbor.node_not_found"
    assert (await arbor("node_get", node_id=ids[2]))["parent_id"] == ids[1]


async def test_a_branch_is_deleted_with_all_below_it(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree(*range(6))
    beside = await arbor("node_create", tree_id=tree_id, parent_id=ids[1], content="beside")
    assert await arbor("node_delete", node_id=ids[2]) == 4
    for gone in ids[2:]:
        assert (await arbor.refusal("node_get", node_id=gone)).kind == "arbor.node_not_found"
    assert [node["id"] for node in await arbor("node_children", node_id=ids[1])] == [beside]
    assert (await arbor("tree_get", id=tree_id))["node_count"] == 3
    assert await arbor("node_delete", node_id=ids[0]) == 3
    tree = await arbor("tree_get", id=tree_id)
    assert (tree["node_count"], tree["root_ids"]) == (0, [])
    assert (await arbor.refusal("node_delete", node_id=ids[0])).kind == "arbor.node_not_found"


async def test_positions_keep_their_nodes_from_being_deleted(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree(*range(4))
    await arbor("position_create", tree_id=tree_id, name="here", node_id=ids[3])
    error = await arbor.refusal("node_delete", node_id=ids[1])
    assert (error.kind, error.data["positions"]) == ("arbor.position_in_subtree", ["here"])
    assert (await arbor("tree_get", id=tree_id))["node_count"] == 4
    await arbor("position_move", tree_id=tree_id, name="here", node_id=ids[0], version=1)
    assert await arbor("node_delete", node_id=ids[1]) == 3


async def test_ids_of_one_call_differ_from_those_of_any_other(arbor: Caller) -> None:
    _tree_id, ids = await arbor.tree(*range(3000))
    _other, more = await arbor.tree(*range(3000))
    assert len({*ids, *more}) == 6000
    assert ids == sorted(ids)


@pytest.mark.deadline(120)
async def test_a_path_of_100_000_nodes_is_read_moved_drawn_and_deleted(arbor: Caller) -> None:
    tree_id = await arbor("tree_create", name="long")
    ids: list[str] = []
    for _ in range(10):
        parent = ids[-1] if ids else None
        ids += await arbor("path_create", tree_id=tree_id, parent_id=parent, contents=[0] * 10_000)
    above = await arbor("node_ancestors", node_id=ids[-1], limit=1000)
    assert [node["id"] for node in above] == ids[-2:-1002:-1]
    (middle,) = await arbor("node_path", node_id=ids[-1], after=ids[66_665], limit=1)
    assert (middle["id"], middle["depth"]) == (ids[66_666], 66_666)
    context = await arbor("context_get", node_id=ids[-1])
    assert [entry["node_id"] for entry in context["entries"]] == ids
    page = await arbor("tree_render", id=tree_id, after=ids[99_997], limit=10)
    assert (page["text"].count("\n"), page["after"]) == (2, None)
    assert [leaf["node_id"] for leaf in await arbor("context_leaves", tree_id=tree_id)] == [ids[-1]]
    assert (await arbor("node_move", node_id=ids[60_000], parent_id=ids[0]))["depth"] == 1
    assert (await arbor("node_get", node_id=ids[-1]))["depth"] == 40_000
    assert await arbor("node_delete", node_id=ids[60_000]) == 40_000
    assert (await arbor("tree_get", id=tree_id))["node_count"] == 60_000
