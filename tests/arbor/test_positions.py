"""Positions: named places that are moved by whoever saw them last."""

import trio

from tests.arbor.conftest import Caller


async def test_a_position_is_created_read_moved_and_deleted(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree("a", "b")
    made = await arbor("position_create", tree_id=tree_id, name="main", node_id=ids[0], metadata={"by": "me"})
    assert (made["node_id"], made["version"], made["metadata"]) == (ids[0], 1, {"by": "me"})
    moved = await arbor("position_move", tree_id=tree_id, name="main", node_id=ids[1], version=1)
    assert (moved["node_id"], moved["version"]) == (ids[1], 2)
    assert await arbor("position_get", tree_id=tree_id, name="main") == moved
    assert await arbor("position_delete", tree_id=tree_id, name="main") is True
    assert (await arbor.refusal("position_get", tree_id=tree_id, name="main")).kind == "arbor.position_not_found"
    assert (await arbor("node_get", node_id=ids[1]))["content"] == "b"


async def test_a_move_that_names_a_stale_version_gets_a_conflict_and_changes_nothing(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree("a", "b", "c")
    await arbor("position_create", tree_id=tree_id, name="main", node_id=ids[0])
    await arbor("position_move", tree_id=tree_id, name="main", node_id=ids[1], version=1)
    for stale in (1, 3):
        error = await arbor.refusal("position_move", tree_id=tree_id, name="main", node_id=ids[2], version=stale)
        assert (error.kind, error.data["version"], error.data["node_id"]) == ("conflict", 2, ids[1])
    assert (await arbor.refusal("position_delete", tree_id=tree_id, name="main", version=1)).kind == "conflict"
    assert (await arbor("position_get", tree_id=tree_id, name="main"))["node_id"] == ids[1]


async def test_of_many_who_move_a_position_at_once_one_wins(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree(*range(10))
    await arbor("position_create", tree_id=tree_id, name="main", node_id=ids[0])
    outcomes: list[str] = []

    async def move(node_id: str) -> None:
        try:
            await arbor("position_move", tree_id=tree_id, name="main", node_id=node_id, version=1)
        except Exception as error:  # noqa: BLE001 - its kind is looked at below
            outcomes.append(getattr(error, "kind", repr(error)))
        else:
            outcomes.append(node_id)

    async with trio.open_nursery() as nursery:
        for node_id in ids[1:]:
            nursery.start_soon(move, node_id)
    (winner,) = [one for one in outcomes if one != "conflict"]
    position = await arbor("position_get", tree_id=tree_id, name="main")
    assert (position["node_id"], position["version"]) == (winner, 2)


async def test_positions_point_to_nodes_of_their_own_tree_and_have_names_of_their_own(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree("a")
    other_id, other = await arbor.tree("x")
    create = {"tree_id": tree_id, "name": "main", "node_id": ids[0]}
    assert (
        await arbor.refusal("position_create", **{**create, "node_id": other[0]})
    ).kind == "arbor.node_in_other_tree"
    assert (await arbor.refusal("position_create", **{**create, "node_id": "node_x"})).kind == "arbor.node_not_found"
    assert (await arbor.refusal("position_create", **{**create, "tree_id": "tree_x"})).kind == "arbor.tree_not_found"
    await arbor("position_create", **create)
    assert (await arbor.refusal("position_create", **create)).kind == "conflict"
    await arbor("position_create", tree_id=other_id, name="main", node_id=other[0])
    error = await arbor.refusal("position_move", **{**create, "node_id": other[0]}, version=1)
    assert error.kind == "arbor.node_in_other_tree"


async def test_positions_are_listed_by_name_page_by_page(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree("a")
    for number in range(12):
        await arbor("position_create", tree_id=tree_id, name=f"p{number * 7 % 12:02}", node_id=ids[0])
    listed = await arbor.pages("position_list", "name", 5, tree_id=tree_id)
    assert [one["name"] for one in listed] == [f"p{number:02}" for number in range(12)]
