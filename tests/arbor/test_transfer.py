"""Trees written out and read in again."""

import contextlib
import json
from typing import Any

import pytest
import trio
import trio.lowlevel

from clonk_arbor import importing
from clonk_core.plugin import Conflict
from clonk_core.testing.host import TestHost
from tests.arbor.conftest import Caller

HEAD = '{"tree": 1, "name": "t"}'


async def exported(arbor: Caller, tree_id: str, limit: int = 1000) -> str:
    page = await arbor("tree_export", id=tree_id, limit=limit)
    lines = page["lines"]
    while page["after"] is not None:
        page = await arbor("tree_export", id=tree_id, limit=limit, after=page["after"], version=page["version"])
        lines += page["lines"]
    return str(lines)


async def test_a_tree_comes_back_as_it_was_with_new_ids_or_its_own(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree("hällo\u2028", {"a": [1, None]}, 2**60, 1.5, name='a "name"')
    await arbor("tree_update", id=tree_id, metadata={"k": "v"})
    await arbor("node_create", tree_id=tree_id, parent_id=ids[1], content=[], metadata={"m": 1})
    moved = await arbor("node_create", tree_id=tree_id, content="root")
    await arbor("node_move", node_id=ids[0], parent_id=moved)  # parents younger than their children
    await arbor("position_create", tree_id=tree_id, name="p", node_id=ids[2], metadata={"x": 1})
    lines = await exported(arbor, tree_id)
    assert await exported(arbor, tree_id, limit=2) == lines
    new = await arbor("tree_import", lines=lines)
    assert (new["node_count"], new["position_count"], len(new["root_ids"])) == (6, 1, 1)
    assert shape(await exported(arbor, new["tree_id"])) == shape(lines)
    assert (await arbor.refusal("tree_import", lines=lines, ids="keep")).kind == "conflict"
    await arbor("tree_delete", id=tree_id)
    kept: dict[str, Any] = {}
    with trio.fail_after(20):
        while not kept:  # the rows of the deleted tree may be there for a moment
            with contextlib.suppress(Conflict):
                kept = await arbor("tree_import", lines=lines, ids="keep", name="kept")
    assert (await arbor("node_get", node_id=ids[3]))["tree_id"] == kept["tree_id"]
    assert (await arbor("tree_get", id=kept["tree_id"]))["name"] == "kept"
    assert (await arbor("position_get", tree_id=kept["tree_id"], name="p"))["node_id"] == ids[2]


def shape(lines: str) -> Any:
    """What lines say, whatever the ids are and in whatever order the nodes stand."""
    values = [json.loads(line) for line in lines.split("\n") if line]
    nodes = {one["node"]: one for one in values if "content" in one}

    def way(node_id: str | None) -> list[Any]:
        found = []
        while node_id is not None:
            found.append((nodes[node_id]["content"], nodes[node_id].get("metadata")))
            node_id = nodes[node_id]["parent"]
        return found

    head = {name: value for name, value in values[0].items() if name != "created_at"}
    positions = [(one["position"], one["metadata"], way(one["node"])) for one in values if "position" in one]
    return head, sorted(map(repr, map(way, nodes))), positions


WRONG: list[tuple[list[str], str]] = [
    ([], "must begin"),
    (["nonsense"], "line 1"),
    ([HEAD, "[1]"], "line 2"),
    ([HEAD, '{"node": "node_1"}'], "`content` is missing"),
    ([HEAD, '{"node": "1", "content": 1}'], "must be an id"),
    ([HEAD, '{"node": "node_1", "content": 1, "colour": 1}'], "unknown member 'colour'"),
    ([HEAD, '{"node": "node_1", "content": 1}', '{"node": "node_1", "content": 1}'], "line 3: node 'node_1' is"),
    ([HEAD, '{"node": "node_1", "parent": "node_0", "content": 1}'], "'node_0' is not there"),
    ([HEAD, '{"node": "node_1", "parent": "node_1", "content": 1}'], "in a circle"),
    (
        [
            HEAD,
            '{"node": "node_1", "parent": "node_2", "content": 1}',
            '{"node": "node_2", "parent": "node_1", "content": 1}',
        ],
        "in a circle",
    ),
    ([HEAD, '{"node": "node_1", "parent": 5, "content": 1}'], "`parent`"),
    ([HEAD, '{"node": "node_1", "content": NaN}'], "no JSON number"),
    ([HEAD, '{"node": "node_1", "content": "\\ud800"}'], "no JSON value"),
    ([HEAD, '{"node": "node_1", "content": 1, "created_at": "yesterday"}'], "`created_at`"),
    ([HEAD, '{"node": "node_1", "content": 1, "created_at": "2026-01-01T00:00:00"}'], "time zone"),
    ([HEAD, '{"node": "node_1", "content": 1, "created_at": "0001-01-01T00:00:00+01:00"}'], "in no year"),
    ([HEAD, '{"node": "node_1", "content": 1, "metadata": []}'], "`metadata`"),
    ([HEAD, '{"node": "node_1", "content": {"$handle": 1}}'], "line 2: content"),
    ([HEAD, '{"position": "p", "node": "node_1"}'], "must be the id of a node above"),
    ([HEAD, HEAD], "second tree"),
    (['{"node": "node_1", "content": 1}', HEAD], "must come first"),
    (['{"tree": 2, "name": "t"}'], "the number of the format"),
    (['{"tree": 1}'], "`name`"),
    (['{"tree": 1, "name": "two\\nlines"}'], "`name`"),
    ([HEAD, *(f'{{"node": "node_{n}", "content": 1}}' for n in range(1001))], "more than 1000 nodes"),
    ([HEAD, "[" * 100_000], "line 2"),
]  # fmt: skip


async def test_lines_that_are_wrong_are_refused_with_their_place_and_nothing_is_kept(arbor: Caller) -> None:
    for lines, says in WRONG:
        error = await arbor.refusal("tree_import", lines="\n".join(lines))
        assert error.kind == "invalid_params", lines[-1][:100]
        assert error.data["path"].startswith("$.lines")
        assert says in f"{error} {error.data['path']}"
    assert await arbor("tree_list") == []


async def test_an_import_that_fails_half_way_leaves_nothing(arbor: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "NODES_AT_ONCE", 10)
    _tree_id, ids = await arbor.tree("there already")
    nodes = [f'{{"node": "node_{number}", "content": {number}}}' for number in range(55)]
    nodes.append(f'{{"node": "{ids[0]}", "content": "again"}}')
    assert (await arbor.refusal("tree_import", lines="\n".join([HEAD, *nodes]), ids="keep")).kind == "conflict"
    assert (await arbor.refusal("node_get", node_id="node_3")).kind == "arbor.node_not_found"
    assert len(await arbor("tree_list")) == 1
    assert (await arbor("node_get", node_id=ids[0]))["content"] == "there already"


async def test_an_import_that_is_cancelled_half_way_leaves_nothing(
    arbor: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "NODES_AT_ONCE", 1)
    nodes = [f'{{"node": "node_{number}", "content": {number}}}' for number in range(1000)]
    with trio.move_on_after(0.1) as scope:
        await arbor("tree_import", lines="\n".join([HEAD, *nodes]), ids="keep")
    assert scope.cancelled_caught
    assert await arbor("tree_list") == []
    assert (await arbor.refusal("node_get", node_id="node_0")).kind == "arbor.node_not_found"


async def test_an_export_tells_when_the_tree_has_changed_in_between(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree(*range(10))
    page = await arbor("tree_export", id=tree_id, limit=5)
    await arbor("node_create", tree_id=tree_id, parent_id=ids[0], content="new")
    error = await arbor.refusal("tree_export", id=tree_id, after=page["after"], version=page["version"])
    assert (error.kind, error.data["version"]) == ("conflict", page["version"] + 1)
    _other, elsewhere = await arbor.tree("x")
    assert (await arbor.refusal("tree_export", id=tree_id, after=elsewhere[0])).kind == "invalid_params"


@pytest.mark.deadline(120)
async def test_a_tree_of_20_000_nodes_is_imported_while_others_write(host: TestHost, arbor: Caller) -> None:
    lines = [HEAD]
    lines += [
        json.dumps({"node": f"node_{n}", "parent": f"node_{(n - 1) // 3}" if n else None, "content": f"word{n}"})
        for n in range(20_000)
    ]
    beside, (root,) = await arbor.tree("root")
    written = 0

    async def write() -> None:
        nonlocal written
        while not done:
            await arbor("node_create", tree_id=beside, parent_id=root, content=written)
            written += 1

    done = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        imported = await arbor("tree_import", lines="\n".join(lines))
        done = True
    assert written > 0
    tree = await arbor("tree_get", id=imported["tree_id"])
    assert (tree["node_count"], len(tree["root_ids"])) == (20_000, 1)
    (found,) = await arbor("context_search", query="word19999")
    path = await arbor("node_path", node_id=found["node_id"])
    expected = [19_999]
    while expected[-1]:
        expected.append((expected[-1] - 1) // 3)
    assert [node["content"] for node in path] == [f"word{n}" for n in reversed(expected)]
    assert (await arbor("tree_get", id=beside))["node_count"] == written + 1
