"""Trees watched, searched and drawn; and who may see them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_core.testing.host import TestHost, open_host
from tests.arbor.conftest import Caller, caller_of
from tests.core.gateway.guarded import key_settings

# ── watching ─────────────────────────────────────────────────────────────────


async def test_every_change_is_told_in_order_and_once(host: TestHost, arbor: Caller) -> None:
    tree_id, ids = await arbor.tree("a", "b")
    await arbor("position_create", tree_id=tree_id, name="p", node_id=ids[0])
    await arbor("node_move", node_id=ids[1], parent_id=None)
    await arbor("position_delete", tree_id=tree_id, name="p")
    await arbor("tree_update", id=tree_id, name="new")
    await arbor("node_delete", node_id=ids[1])
    await arbor("path_create", tree_id=tree_id, parent_id=ids[0], contents=[0] * 1200)
    events = await host.client.events("arbor.tree_watch", id=tree_id, after=0, follow=False)
    assert events.pop()["outcome"] == "complete"
    assert [event["version"] for event in events] == list(range(1, 10))
    assert [event["type"] for event in events] == [
        "nodes_created",
        "position_changed",
        "node_moved",
        "position_changed",
        "tree_updated",
        "nodes_deleted",
        "nodes_created",
        "nodes_created",
        "nodes_created",
    ]
    assert [node["id"] for node in events[0]["nodes"]] == [ids[0]]  # the other is deleted since
    assert (events[1]["name"], events[1]["node_id"], events[3]["node_id"]) == ("p", ids[0], None)
    assert (events[2]["node_id"], events[2]["parent_id"]) == (ids[1], None)
    assert (events[5]["node_id"], events[5]["count"]) == (ids[1], 1)
    assert [len(event["nodes"]) for event in events[6:]] == [500, 500, 200]
    rest = await host.client.events("arbor.tree_watch", id=tree_id, after=7, follow=False)
    assert [event.get("version") for event in rest] == [8, 9, None]
    error = await arbor.refusal("tree_watch", id=tree_id, after=10)
    assert (error.kind, error.data["path"]) == ("invalid_params", "$.after")


async def test_changes_are_told_as_they_happen_until_the_tree_is_deleted(host: TestHost, arbor: Caller) -> None:
    tree_id, ids = await arbor.tree("before")
    async with host.client.stream("arbor.tree_watch", id=tree_id) as stream:
        for content in ("x", "y"):
            node_id = await arbor("node_create", tree_id=tree_id, parent_id=ids[0], content=content)
            with trio.fail_after(10):
                _seq, event = await stream.next()
            assert [node["id"] for node in event["nodes"]] == [node_id]
        await arbor("tree_delete", id=tree_id)
        with trio.fail_after(10):
            assert [event["type"] async for _seq, event in stream] == ["tree_deleted", "done"]


async def test_a_watch_is_resumed_like_every_stream(host: TestHost, arbor: Caller) -> None:
    tree_id, ids = await arbor.tree("root")
    async with host.client.stream("arbor.tree_watch", id=tree_id) as stream:
        subscription = stream.subscription
    for number in range(5):
        await arbor("node_create", tree_id=tree_id, parent_id=ids[0], content=number)
    async with host.client.stream("rpc.resume", subscription=subscription) as resumed:
        with trio.fail_after(10):
            events = [await resumed.next() for _ in range(5)]
    assert [(seq, event["version"]) for seq, event in events] == [(1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]
    async with host.client.stream("rpc.resume", subscription=subscription, after=3) as resumed:
        with trio.fail_after(10):
            assert [seq for seq, _event in [await resumed.next(), await resumed.next()]] == [4, 5]
    await host.client.call("rpc.cancel", subscription=subscription)


async def test_changes_that_are_kept_no_more_are_told_as_lost(tmp_path: Path) -> None:
    settings = {"arbor": {"changes_kept": 3, "purge_interval_s": 0.02}}
    async with open_host(tmp_path / "host", packages=["arbor"], settings=settings) as host:
        arbor = Caller(host.client)
        tree_id = await arbor("tree_create", name="t")
        for number in range(10):
            await arbor("node_create", tree_id=tree_id, content=number)
        with trio.fail_after(20):
            while True:
                events = await host.client.events("arbor.tree_watch", id=tree_id, after=0, follow=False)
                if len(events) == 5:
                    break
    assert events[0] == {"type": "changes_lost", "first": 1, "last": 7}
    assert [event.get("version") for event in events[1:]] == [8, 9, 10, None]


# ── searching ────────────────────────────────────────────────────────────────


async def test_nodes_are_found_by_their_words_newest_first(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree(
        "The quick brown fox", {"role": "user", "content": [{"text": "a QUICK Crème"}]}, "slow", name="first"
    )
    other_id, other = await arbor.tree("quick again", name="second")

    async def found(query: str, **more: str) -> list[str]:
        return [match["node_id"] for match in await arbor("context_search", query=query, **more)]

    assert await found("quick") == [other[0], ids[1], ids[0]]
    assert await found("quick", tree_id=tree_id) == [ids[1], ids[0]]
    assert await found("quick", tree_id=other_id) == other
    assert await found("quick fox") == [ids[0]]
    assert await found('"quick fox"') == []
    assert await found('"quick brown"') == [ids[0]]
    assert await found("bro*") == [ids[0]]
    assert await found("creme") == [ids[1]]
    assert await found("role") == []
    for hostile in (
        "NOT quick",
        "quick OR slow",
        "quick) OR (slow",
        "words:quick",
        "tree:t1",
        "quick NEAR fox",
        "^quick",
    ):
        assert await found(hostile) in ([], [other[0], ids[1], ids[0]]), hostile
    (match,) = await arbor("context_search", query="fox")
    assert (match["tree_name"], match["snippet"], match["kind"]) == ("first", "The quick brown fox", "text")
    assert (await arbor.refusal("context_search", query='"*" -')).data["path"] == "$.query"
    assert (await arbor.refusal("context_search", query="x", tree_id="tree_x")).kind == "arbor.tree_not_found"


async def test_matches_are_paged_and_deleted_nodes_are_not_among_them(arbor: Caller) -> None:
    tree_id, (root,) = await arbor.tree("root")
    drafts = [{"content": f"needle {number}", "parent_id": root} for number in range(23)]
    ids = await arbor("nodes_create", tree_id=tree_id, nodes=drafts)
    found = await arbor.pages("context_search", "node_id", 10, query="needle")
    assert [match["node_id"] for match in found] == ids[::-1]
    await arbor("node_delete", node_id=ids[5])
    await arbor("tree_archive", id=tree_id)
    found = await arbor.pages("context_search", "node_id", 10, query="needle", tree_id=tree_id)
    assert [match["node_id"] for match in found] == [*ids[:5], *ids[6:]][::-1]


# ── drawing ──────────────────────────────────────────────────────────────────


async def test_a_tree_is_drawn_with_its_branches(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree({"role": "user", "content": "Fix\nit"}, "a", name="Fix the parser")
    (b,) = await arbor("path_create", tree_id=tree_id, parent_id=ids[0], contents=[[1, 2]])
    c, d = await arbor("path_create", tree_id=tree_id, parent_id=ids[1], contents=["x" * 200, "end"])
    e = await arbor("node_create", tree_id=tree_id, parent_id=ids[1], content=None)
    f = await arbor("node_create", tree_id=tree_id, content="second root")
    drawn = await arbor("tree_render", id=tree_id)
    assert drawn["after"] is None
    assert drawn["text"].splitlines() == [
        "Fix the parser (7 nodes)",
        f"├─ {ids[0]} user: Fix it",
        f"│  ├─ {ids[1]} a",
        f"│  │  ├─ {c} {'x' * 79}…",
        f"│  │  │  {d} end",
        f"│  │  └─ {e} null",
        f"│  └─ {b} [1,2]",
        f"└─ {f} second root",
    ]
    below = await arbor("tree_render", id=tree_id, node_id=ids[1])
    assert below["text"].splitlines() == [f"{ids[1]} a", f"├─ {c} {'x' * 79}…", f"│  {d} end", f"└─ {e} null"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_the_pages_of_a_drawing_are_the_whole(arbor: Caller, limit: int) -> None:
    tree_id, ids = await arbor.tree(*range(4))
    drafts = [{"content": number, "parent_id": ids[number % 4]} for number in range(9)]
    more = await arbor("nodes_create", tree_id=tree_id, nodes=drafts)
    await arbor("path_create", tree_id=tree_id, parent_id=more[2], contents=[1, 2, 3])
    await arbor("node_create", tree_id=tree_id, content="another root")
    for node_id in (None, ids[1]):
        only = {} if node_id is None else {"node_id": node_id}
        whole = await arbor("tree_render", id=tree_id, **only)
        text = ""
        after: dict[str, str] = {}
        while True:
            page = await arbor("tree_render", id=tree_id, limit=limit, **only, **after)
            text += page["text"]
            if page["after"] is None:
                break
            after = {"after": page["after"]}
        assert text == whole["text"]


async def test_branches_far_inside_each_other_are_drawn_within_bounds(arbor: Caller) -> None:
    tree_id, (last,) = await arbor.tree("root")
    for _ in range(100):
        drafts = [{"content": "on", "parent_id": last}, {"content": "off", "parent_id": last}]
        last, _off = await arbor("nodes_create", tree_id=tree_id, nodes=drafts)
    drawn = await arbor("tree_render", id=tree_id, limit=1000)
    lines = drawn["text"].splitlines()
    assert (len(lines), drawn["after"]) == (202, None)
    assert max(map(len, lines)) < 200
    assert lines[101].startswith("[60] │  ")


# ── who may see what ─────────────────────────────────────────────────────────


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[TestHost]:
    keys = [
        key_settings("all", ["*"]),
        key_settings("reader", ["arbor:read"]),
        key_settings("red", ["arbor:*@red-*"]),
    ]
    settings = {"auth": {"api_keys": keys}}
    async with open_host(tmp_path / "h", packages=["arbor"], settings=settings) as host:
        yield host


async def test_a_reader_changes_nothing(guarded: TestHost) -> None:
    _tree_id, ids = await caller_of(guarded, "all").tree("a")
    reader = caller_of(guarded, "reader")
    assert (await reader("node_get", node_id=ids[0]))["content"] == "a"
    for method, params in (
        ("tree_create", {"name": "x"}),
        ("node_delete", {"node_id": ids[0]}),
        ("tree_import", {"lines": "x"}),
        ("tree_claim", {"id": "x", "owner": "x"}),
    ):
        assert (await reader.refusal(method, **params)).kind == "forbidden", method


async def test_trees_beyond_a_caller_s_reach_are_not_there(guarded: TestHost) -> None:
    everyone, red = caller_of(guarded, "all"), caller_of(guarded, "red")
    mine, own = await red.tree("needle", name="red-1")
    theirs, ids = await everyone.tree("needle", "b", name="blue-1")
    await everyone("position_create", tree_id=theirs, name="p", node_id=ids[0])
    assert [tree["id"] for tree in await red("tree_list")] == [mine]
    assert [match["node_id"] for match in await red("context_search", query="needle")] == own
    for method in ("node_get", "node_children", "node_parent", "node_ancestors", "node_path", "node_delete"):
        assert (await red.refusal(method, node_id=ids[0])).kind == "arbor.node_not_found", method
    for method in ("context_get", "context_handles"):
        assert (await red.refusal(method, node_id=ids[0])).kind == "arbor.node_not_found", method
    assert (await red.refusal("node_move", node_id=ids[1], parent_id=None)).kind == "arbor.node_not_found"
    elsewhere: list[tuple[str, dict[str, Any]]] = [  # nor is it told that a node is somewhere else
        ("node_create", {"tree_id": mine, "content": 1, "parent_id": ids[0]}),
        ("path_create", {"tree_id": mine, "contents": [1], "parent_id": ids[0]}),
        ("nodes_create", {"tree_id": mine, "nodes": [{"content": 1, "parent_id": ids[0]}]}),
        ("node_move", {"node_id": own[0], "parent_id": ids[0]}),
        ("position_create", {"tree_id": mine, "name": "q", "node_id": ids[0]}),
        ("node_children", {"node_id": own[0], "after": ids[0]}),
        ("node_path", {"node_id": own[0], "after": ids[0]}),
        ("node_ancestors", {"node_id": own[0], "after": ids[0]}),
        ("context_leaves", {"tree_id": mine, "after": ids[0]}),
        ("context_search", {"query": "needle", "after": ids[0]}),
        ("tree_export", {"id": mine, "after": ids[0]}),
        ("tree_render", {"id": mine, "node_id": ids[0]}),
    ]
    for method, params in elsewhere:
        assert (await red.refusal(method, **params)).kind == "arbor.node_not_found", method
    for method in ("get", "archive", "restore", "delete", "render", "export", "update", "watch"):
        assert (await red.refusal(f"tree_{method}", id=theirs)).kind == "arbor.tree_not_found", method
    for method in ("claim", "release"):
        assert (await red.refusal(f"tree_{method}", id=theirs, owner="x")).kind == "arbor.tree_not_found", method
    for method, params in (
        ("node_create", {"content": 1}),
        ("nodes_create", {"nodes": [{"content": 1}]}),
        ("path_create", {"contents": [1]}),
        ("context_leaves", {}),
        ("context_search", {"query": "needle"}),
        ("position_list", {}),
        ("position_get", {"name": "p"}),
        ("position_create", {"name": "q", "node_id": ids[0]}),
        ("position_move", {"name": "p", "node_id": ids[1], "version": 1}),
        ("position_delete", {"name": "p"}),
    ):
        assert (await red.refusal(method, tree_id=theirs, **params)).kind == "arbor.tree_not_found", method
    assert (await everyone("tree_get", id=theirs))["node_count"] == 2


async def test_a_tree_is_not_put_beyond_its_caller_s_reach(guarded: TestHost) -> None:
    red = caller_of(guarded, "red")
    assert (await red.refusal("tree_create", name="blue")).kind == "forbidden"
    tree_id = await red("tree_create", name="red-1")
    assert (await red.refusal("tree_update", id=tree_id, name="blue")).kind == "forbidden"
    lines = '{"tree": 1, "name": "blue"}'
    assert (await red.refusal("tree_import", lines=lines)).kind == "forbidden"
    await red("tree_import", lines=lines, name="red-2")
    assert [tree["name"] for tree in await red("tree_list")] == ["red-1", "red-2"]


async def test_a_narrowed_caller_s_lists_are_whole_pages(guarded: TestHost) -> None:
    everyone, red = caller_of(guarded, "all"), caller_of(guarded, "red")
    for number in range(20):
        await everyone("tree_create", name=f"{'red' if number % 3 == 0 else 'blue'}-{number}")
    names = [tree["name"] for tree in await red.pages("tree_list", "id", 3)]
    assert names == [f"red-{number}" for number in range(0, 20, 3)]


# ── much at once ─────────────────────────────────────────────────────────────


async def test_500_writers_on_one_tree_lose_nothing(host: TestHost, arbor: Caller) -> None:
    tree_id, (root,) = await arbor.tree("root")

    async def write(number: int) -> None:
        node_id = await arbor("node_create", tree_id=tree_id, parent_id=root, content=number)
        await arbor("node_create", tree_id=tree_id, parent_id=node_id, content="below")

    async with trio.open_nursery() as nursery:
        for number in range(500):
            nursery.start_soon(write, number)
    children = await arbor.pages("node_children", "id", 300, node_id=root)
    assert sorted(node["content"] for node in children) == list(range(500))
    tree = await arbor("tree_get", id=tree_id)
    assert (tree["node_count"], tree["version"]) == (1001, 1001)
    events = await host.client.events("arbor.tree_watch", id=tree_id, after=0, follow=False)
    assert len({node["id"] for event in events[:-1] for node in event["nodes"]}) == 1001


async def test_a_node_of_10_mib_is_kept_and_read_in_every_way(host: TestHost, arbor: Caller) -> None:
    large = "needle " + "x" * (10 * 2**20 - 9)
    tree_id, (root,) = await arbor.tree("root")
    node_id = await arbor("node_create", tree_id=tree_id, parent_id=root, content=large)
    below = await arbor("node_create", tree_id=tree_id, parent_id=node_id, content="below")
    error = await arbor.refusal("node_create", tree_id=tree_id, content=large + "x")
    assert (error.kind, error.data["limit"], error.data["size"]) == (
        "arbor.content_too_large",
        10 * 2**20,
        10 * 2**20 + 1,
    )
    assert (await arbor("node_get", node_id=node_id))["content"] == large
    assert [node["id"] for node in await arbor("node_path", node_id=below)] == [root, node_id]
    context = await arbor("context_get", node_id=below)
    assert (len(context["entries"]), context["left_out"]) == (1, 2)
    assert len((await arbor("context_get", node_id=below, max_bytes=64 * 2**20))["entries"]) == 3
    (match,) = await arbor("context_search", query="needle")
    assert len(match["snippet"]) < 250
    drawn = await arbor("tree_render", id=tree_id)
    assert len(drawn["text"]) < 500
    page = await arbor("tree_export", id=tree_id)
    assert page["after"] == node_id
