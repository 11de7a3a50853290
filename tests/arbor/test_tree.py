"""Trees over a real database: what is stored comes back, and what may not be stored is refused."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_arbor.errors import ContentTooLarge, NodeNotFound, ParentInOtherTree, TooManyRoots, TreeNotFound
from clonk_arbor.limits import MAX_METADATA_BYTES, MAX_NESTING, MAX_ROOTS, MIB, PAGE_BYTES
from clonk_arbor.messages import NodeId, TreeId
from clonk_arbor.nodes import Nodes
from clonk_arbor.trees import Trees
from clonk_core.plugin import Database, InvalidParams
from clonk_core.storage.sqlite import open_sqlite

LIMIT = MIB


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_sqlite(tmp_path / "arbor.db", "arbor", migrations=["clonk_arbor.migrations"]) as opened:
        yield opened


@pytest.fixture
def trees(database: Database) -> Trees:
    return Trees(database)


@pytest.fixture
def nodes(database: Database) -> Nodes:
    return Nodes(database, max_content_bytes=LIMIT)


async def add_many(nodes: Nodes, tree_id: TreeId, parent_id: NodeId, count: int) -> list[NodeId]:
    return [await nodes.create(tree_id, parent_id, number, None) for number in range(count)]


async def test_a_tree_comes_back_as_it_was_created(trees: Trees) -> None:
    tree_id = await trees.create("Fix the parser", {"session": "sess_1", "tags": ["a", None]})
    tree = await trees.get(tree_id)
    assert tree_id.startswith("tree_")
    assert (tree.id, tree.name, tree.metadata) == (
        tree_id,
        "Fix the parser",
        {"session": "sess_1", "tags": ["a", None]},
    )
    assert (tree.node_count, tree.root_ids) == (0, ())
    assert tree.created_at.tzinfo is not None


async def test_an_unknown_tree_is_not_found(trees: Trees, nodes: Nodes) -> None:
    with pytest.raises(TreeNotFound):
        await trees.get(TreeId("tree_none"))
    with pytest.raises(TreeNotFound):
        await nodes.create(TreeId("tree_none"), None, "hello", None)


async def test_trees_are_listed_oldest_first_page_by_page_each_once(trees: Trees) -> None:
    created = [await trees.create(f"tree {number}", None) for number in range(7)]
    seen: list[TreeId] = []
    while page := await trees.list(3, seen[-1] if seen else None):
        assert len(page) <= 3
        seen += [tree.id for tree in page]
    assert seen == created


@pytest.mark.parametrize(
    "content",
    [
        None,
        True,
        0,
        -1.5,
        2**53,
        "",
        "ünïcödé \u2028 \U0001f600 \x00",
        [],
        {},
        {"role": "user", "content": [{"a": [1, {}]}]},
    ],
)
async def test_content_comes_back_as_it_was(trees: Trees, nodes: Nodes, content: Any) -> None:
    tree_id = await trees.create("t", None)
    node_id = await nodes.create(tree_id, None, content, {"entry": "uuid"})
    node = await nodes.get(node_id)
    assert (node.content, node.metadata) == (content, {"entry": "uuid"})
    assert type(node.content) is type(content)
    assert (node.tree_id, node.parent_id, node.depth) == (tree_id, None, 0)


async def test_a_tree_tells_its_roots_and_counts_its_nodes(trees: Trees, nodes: Nodes) -> None:
    tree_id = await trees.create("t", None)
    first = await nodes.create(tree_id, None, 1, None)
    second = await nodes.create(tree_id, None, 2, None)
    await nodes.create(tree_id, first, 3, None)
    tree = await trees.get(tree_id)
    assert tree.root_ids == (first, second)
    assert tree.node_count == 3
    assert [listed.node_count for listed in await trees.list(10, None)] == [3]


async def test_children_come_back_in_the_order_they_were_added_page_by_page(trees: Trees, nodes: Nodes) -> None:
    tree_id = await trees.create("t", None)
    root = await nodes.create(tree_id, None, "root", None)
    children = await add_many(nodes, tree_id, root, 11)
    await add_many(nodes, tree_id, children[0], 3)
    seen: list[NodeId] = []
    while page := await nodes.children(root, 4, seen[-1] if seen else None):
        assert {node.depth for node in page} == {1}
        seen += [node.id for node in page]
    assert seen == children


async def test_ancestors_come_back_nearest_first_and_go_on_from_the_last(trees: Trees, nodes: Nodes) -> None:
    tree_id = await trees.create("t", None)
    path = [await nodes.create(tree_id, None, 0, None)]
    for number in range(1, 8):
        path.append(await nodes.create(tree_id, path[-1], number, None))
    first = await nodes.ancestors(path[-1], 3)
    rest = await nodes.ancestors(first[-1].id, 1000)
    assert [node.id for node in (*first, *rest)] == path[-2::-1]
    assert rest[-1].parent_id is None
    assert await nodes.ancestors(path[0], 10) == ()


async def test_branches_share_their_ancestors(trees: Trees, nodes: Nodes) -> None:
    tree_id = await trees.create("t", None)
    root = await nodes.create(tree_id, None, "question", None)
    left, right = await add_many(nodes, tree_id, root, 2)
    assert [node.id for node in await nodes.ancestors(left, 10)] == [root]
    assert [node.id for node in await nodes.ancestors(right, 10)] == [root]


async def test_unknown_nodes_are_not_found(trees: Trees, nodes: Nodes) -> None:
    tree_id = await trees.create("t", None)
    root = await nodes.create(tree_id, None, "root", None)
    nowhere = NodeId("node_none")
    for ask in (
        lambda: nodes.get(nowhere),
        lambda: nodes.children(nowhere, 10, None),
        lambda: nodes.children(root, 10, nowhere),
        lambda: nodes.ancestors(nowhere, 10),
        lambda: nodes.create(tree_id, nowhere, "x", None),
    ):
        with pytest.raises(NodeNotFound):
            await ask()


async def test_a_page_cannot_go_on_after_a_node_that_is_no_child(trees: Trees, nodes: Nodes) -> None:
    tree_id = await trees.create("t", None)
    root = await nodes.create(tree_id, None, "root", None)
    other = await nodes.create(tree_id, None, "other", None)
    with pytest.raises(InvalidParams) as caught:
        await nodes.children(root, 10, other)
    assert caught.value.path == "$.after"


async def test_a_parent_in_another_tree_is_refused_and_nothing_is_counted(trees: Trees, nodes: Nodes) -> None:
    one, two = await trees.create("one", None), await trees.create("two", None)
    node = await nodes.create(one, None, "x", None)
    with pytest.raises(ParentInOtherTree):
        await nodes.create(two, node, "y", None)
    assert (await trees.get(two)).node_count == 0


async def test_content_may_be_as_large_as_the_limit_and_not_a_byte_more(trees: Trees, nodes: Nodes) -> None:
    tree_id = await trees.create("t", None)
    quotes = 2
    fits = "x" * (LIMIT - quotes)
    node_id = await nodes.create(tree_id, None, fits, None)
    assert (await nodes.get(node_id)).content == fits
    for too_large in (fits + "x", "ü" * (LIMIT // 2)):
        with pytest.raises(ContentTooLarge):
            await nodes.create(tree_id, None, too_large, None)
    assert (await trees.get(tree_id)).node_count == 1


async def test_metadata_is_bounded_too(trees: Trees, nodes: Nodes) -> None:
    too_large = {"key": "x" * MAX_METADATA_BYTES}
    with pytest.raises(ContentTooLarge):
        await trees.create("t", too_large)
    tree_id = await trees.create("t", None)
    with pytest.raises(ContentTooLarge):
        await nodes.create(tree_id, None, "x", too_large)


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


async def test_nesting_is_bounded(trees: Trees, nodes: Nodes) -> None:
    tree_id = await trees.create("t", None)
    node_id = await nodes.create(tree_id, None, nested(MAX_NESTING), None)
    assert (await nodes.get(node_id)).content == nested(MAX_NESTING)
    await nodes.create(tree_id, None, [[] for _ in range(MAX_NESTING * 2)], None)
    for levels in (MAX_NESTING + 1, 50_000):
        with pytest.raises(InvalidParams) as caught:
            await nodes.create(tree_id, None, nested(levels), None)
        assert caught.value.path == "$.content"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", object()])
async def test_what_is_no_json_is_refused(trees: Trees, nodes: Nodes, value: object) -> None:
    tree_id = await trees.create("t", None)
    with pytest.raises(InvalidParams):
        await nodes.create(tree_id, None, value, None)


async def test_a_tree_has_at_most_a_thousand_roots(trees: Trees, nodes: Nodes) -> None:
    tree_id = await trees.create("t", None)
    root = await nodes.create(tree_id, None, 0, None)
    for number in range(1, MAX_ROOTS):
        await nodes.create(tree_id, None, number, None)
    with pytest.raises(TooManyRoots):
        await nodes.create(tree_id, None, "one too many", None)
    await nodes.create(tree_id, root, "a child is welcome", None)
    tree = await trees.get(tree_id)
    assert (len(tree.root_ids), tree.node_count) == (MAX_ROOTS, MAX_ROOTS + 1)


async def test_a_page_of_large_nodes_ends_early_and_misses_none(trees: Trees, nodes: Nodes) -> None:
    tree_id = await trees.create("t", None)
    root = await nodes.create(tree_id, None, "root", None)
    count = PAGE_BYTES // LIMIT + 2
    children = [await nodes.create(tree_id, root, "x" * (LIMIT - 2), None) for _ in range(count)]
    first = await nodes.children(root, 1000, None)
    rest = await nodes.children(root, 1000, first[-1].id)
    assert len(first) == PAGE_BYTES // LIMIT
    assert [node.id for node in (*first, *rest)] == children

    line = [root]
    for _ in range(count):
        line.append(await nodes.create(tree_id, line[-1], "x" * (LIMIT - 2), None))
    above = await nodes.ancestors(line[-1], 1000)
    assert len(above) < count
    assert above[-1].parent_id is not None
    assert [node.id for node in (*above, *await nodes.ancestors(above[-1].id, 1000))] == line[-2::-1]


async def test_nodes_added_at_the_same_time_are_all_kept_and_counted(trees: Trees, nodes: Nodes) -> None:
    tree_id = await trees.create("t", None)
    root = await nodes.create(tree_id, None, "root", None)

    async def add(number: int) -> None:
        await nodes.create(tree_id, root, number, None)

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(add, number)
    children = await nodes.children(root, 1000, None)
    assert {node.content for node in children} == set(range(100))
    assert (await trees.get(tree_id)).node_count == 101


async def test_trees_are_there_after_closing_and_opening_again(tmp_path: Path) -> None:
    path = tmp_path / "arbor.db"
    async with open_sqlite(path, "arbor", migrations=["clonk_arbor.migrations"]) as database:
        tree_id = await Trees(database).create("kept", None)
        node_id = await Nodes(database).create(tree_id, None, "hello", None)
    async with open_sqlite(path, "arbor", migrations=["clonk_arbor.migrations"]) as database:
        assert (await Trees(database).get(tree_id)).root_ids == (node_id,)
        assert (await Nodes(database).get(node_id)).content == "hello"
