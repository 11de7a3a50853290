"""Contexts: what a model would be given at a node, with the objects that handles lead to."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import trio

from clonk_arbor import resolve
from clonk_core.plugin import Activation, Conflict, MaxLen, NotFound, method
from clonk_core.testing.host import TestHost, open_host
from tests.arbor.conftest import Caller, caller_of
from tests.core.gateway.guarded import key_settings


class Shelf(Activation):
    """Books, some of which cannot be had."""

    namespace = "shelf"

    def __init__(self) -> None:
        self.asked: list[str] = []

    @method(scope="read", target="name", read_only=True, errors=[NotFound, Conflict])
    async def book(self, name: Annotated[str, MaxLen(100)]) -> dict[str, str]:
        """Return a book.

        Args:
            name: Which.
        """
        self.asked.append(name)
        match name:
            case "lost":
                raise NotFound("there is no such book")
            case "lent":
                raise Conflict("somebody reads it")
            case "torn":
                raise RuntimeError("a page is missing")
            case "endless":
                await trio.sleep_forever()
            case "thick":
                return {"text": "x" * 2**21}
        return {"title": name}

    @method()
    async def burn(self, name: str) -> bool:
        """Burn a book.

        Args:
            name: Which.
        """
        self.asked.append(f"burn {name}")
        return True


def handle(name: str, method: str = "shelf.book") -> dict[str, Any]:
    return {"$handle": {"method": method, "params": {"name": name}}}


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[tuple[TestHost, Shelf]]:
    shelf = Shelf()
    keys = [
        key_settings("all", ["*"]),
        key_settings("arbor-only", ["arbor:*"]),
        key_settings("red", ["arbor:*", "shelf:read@red-*"]),
    ]
    settings = {"auth": {"api_keys": keys}}
    async with open_host(tmp_path / "h", packages=["arbor"], activations=[lambda: shelf], settings=settings) as host:
        yield host, shelf


async def test_a_context_is_the_path_from_the_root_to_a_node(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree("a", {"role": "user"}, None, [1])
    await arbor("node_create", tree_id=tree_id, parent_id=ids[1], content="another branch")
    context = await arbor("context_get", node_id=ids[3])
    assert context["entries"] == [
        {"type": "node", "node_id": node_id, "content": content}
        for node_id, content in zip(ids, ["a", {"role": "user"}, None, [1]], strict=True)
    ]
    assert (context["tree_id"], context["node_id"], context["left_out"]) == (tree_id, ids[3], 0)
    assert (context["bytes"], context["tokens"]) == (3 + 15 + 4 + 3, 1 + 4 + 1 + 1)
    assert (await arbor.refusal("context_get", node_id="node_x")).kind == "arbor.node_not_found"


async def test_a_budget_keeps_whole_nodes_nearest_to_the_end(arbor: Caller) -> None:
    _tree_id, ids = await arbor.tree(*("x" * 10 for _ in range(5)))
    budgets: list[tuple[dict[str, int], int]] = [
        ({"max_bytes": 36}, 3),
        ({"max_bytes": 35}, 2),
        ({"max_tokens": 9}, 3),
        ({"max_tokens": 8}, 2),
        ({"max_tokens": 100, "max_bytes": 12}, 1),
        ({"max_bytes": 11}, 0),
        ({"max_tokens": 0}, 0),
        ({"max_bytes": 1000}, 5),
    ]
    for budget, kept in budgets:
        context = await arbor("context_get", node_id=ids[-1], **budget)
        assert [entry["node_id"] for entry in context["entries"]] == ids[5 - kept :], budget
        assert (context["left_out"], context["bytes"], context["tokens"]) == (5 - kept, 12 * kept, 3 * kept)


async def test_a_context_is_right_however_the_nodes_of_its_path_came(arbor: Caller) -> None:
    """Read in the order of keys where that is the path's, step by step where not, and both in one."""
    tree_id, dense = await arbor.tree(*range(200))
    other_id = await arbor("tree_create", name="other")
    expected = list(dense)
    for number in range(60):
        (last,) = await arbor("path_create", tree_id=tree_id, parent_id=expected[-1], contents=[number])
        expected.append(last)
        await arbor("path_create", tree_id=other_id, contents=["noise"] * 20)
        await arbor("node_create", tree_id=tree_id, parent_id=dense[0], content="beside")
    expected += await arbor("path_create", tree_id=tree_id, parent_id=expected[-1], contents=["x" * 20_000] * 3)
    expected += await arbor("path_create", tree_id=tree_id, parent_id=expected[-1], contents=[*range(100)])
    late = await arbor("path_create", tree_id=tree_id, parent_id=dense[2], contents=[*range(30)])
    await arbor("node_move", node_id=dense[100], parent_id=late[-1])
    expected = [*dense[:3], *late, *expected[100:]]
    context = await arbor("context_get", node_id=expected[-1])
    nodes = await arbor("node_path", node_id=expected[-1], limit=1000)
    assert [node["id"] for node in nodes] == expected
    assert context["entries"] == [{"type": "node", "node_id": node["id"], "content": node["content"]} for node in nodes]
    # With a budget, and with a handle on it, it is put together in another way.
    few = await arbor("context_get", node_id=expected[-1], max_bytes=context["bytes"] - 1)
    assert (few["entries"], few["left_out"]) == (context["entries"][1:], 1)
    (last,) = await arbor(
        "path_create", tree_id=tree_id, parent_id=expected[-1], contents=[{"$handle": {"method": "rpc.discover"}}]
    )
    handled = await arbor("context_get", node_id=last, resolve=False)
    assert handled["entries"][:-1] == context["entries"]
    assert (handled["bytes"], handled["tokens"]) == (context["bytes"], context["tokens"])


async def test_every_json_value_comes_back_in_a_context_as_it_was_stored(arbor: Caller) -> None:
    contents: list[Any] = [
        'He said "no"\n\t\x00\\ \u2028 \U0001f600 \x7f',
        {"": [None, True, 1.5e300, -0.0, 2**53, [], {}], "null": "null"},
        "x" * 100_000,
        [[["\\n"]]],
        "",
    ]
    tree_id, ids = await arbor.tree(*contents)
    assert [entry["content"] for entry in (await arbor("context_get", node_id=ids[-1]))["entries"]] == contents
    for content in contents:
        # Not beside each other, and so gone up step by step.
        await arbor("node_create", tree_id=tree_id, parent_id=ids[0], content="beside")
        ids += await arbor("path_create", tree_id=tree_id, parent_id=ids[-1], contents=[content])
    context = await arbor("context_get", node_id=ids[-1])
    assert [(entry["node_id"], entry["content"]) for entry in context["entries"]] == list(
        zip(ids, contents * 2, strict=True)
    )


async def test_handles_are_resolved_and_what_cannot_be_had_is_shown_as_such(
    library: tuple[TestHost, Shelf],
) -> None:
    host, _shelf = library
    arbor = caller_of(host, "all")
    names = ["emma", "lost", "lent", "torn", "thick"]
    _tree_id, ids = await arbor.tree("Read these:", *map(handle, names))
    context = await arbor("context_get", node_id=ids[-1])
    shown = [(entry["state"], entry["content"]) for entry in context["entries"][1:]]
    assert shown == [
        ("resolved", {"title": "emma"}),
        ("missing", None),
        ("failed", None),
        ("failed", None),
        ("failed", None),
    ]
    first, second, *_rest = context["entries"][1:]
    assert first["handle"] == {"method": "shelf.book", "params": {"name": "emma"}}
    assert (first["reason"], second["reason"]) == (None, "there is no such book")
    assert "a page is missing" not in str(context)
    assert "a page is missing" in host.log_text
    plain = await arbor("context_get", node_id=ids[-1], resolve=False)
    assert {entry["state"] for entry in plain["entries"][1:]} == {"unresolved"}
    handles = await arbor.pages("context_handles", "node_id", 2, node_id=ids[-1])
    assert [(one["node_id"], one["handle"]["params"]["name"]) for one in handles] == list(
        zip(ids[1:], names, strict=True)
    )
    assert (await arbor("node_get", node_id=ids[1]))["kind"] == "handle"


async def test_an_object_that_hangs_costs_the_others_nothing(
    library: tuple[TestHost, Shelf], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "EACH_WITHIN_S", 0.1)
    host, _shelf = library
    arbor = caller_of(host, "all")
    _tree_id, ids = await arbor.tree(handle("emma"), handle("endless"), "end")
    context = await arbor("context_get", node_id=ids[-1])
    assert [entry.get("state") for entry in context["entries"]] == ["resolved", "failed", None]


async def test_a_handle_shows_nothing_that_the_caller_may_not_read_itself(library: tuple[TestHost, Shelf]) -> None:
    host, shelf = library
    _tree_id, ids = await caller_of(host, "all").tree(handle("red-book"), handle("blue-book"))
    for key, states in (
        ("arbor-only", ["forbidden", "forbidden"]),
        ("red", ["resolved", "forbidden"]),
        ("all", ["resolved", "resolved"]),
    ):
        shelf.asked.clear()
        context = await caller_of(host, key)("context_get", node_id=ids[-1])
        assert [entry["state"] for entry in context["entries"]] == states, key
        assert len(shelf.asked) == states.count("resolved")


NO_HANDLES: list[tuple[Any, str]] = [
    ({"$handle": 5}, "$.content.$handle"),
    ({"$handle": {"method": "shelf.book", "more": 1}}, "$.content.$handle"),
    ({"$handle": {"method": "shelf.book"}, "more": 1}, "$.content"),
    ({"$handle": {"method": "shelf.book", "params": []}}, "$.content.$handle.params"),
    ({"$handle": {"method": ""}}, "$.content.$handle.method"),
    ({"$handle": {"params": {}}}, "$.content.$handle.method"),
    ({"$handle": {"method": "arbor.context_get"}}, "$.content.$handle.method"),
    ({"$handle": {"method": "shelf.nothing"}}, "$.content.$handle.method"),
    ({"$handle": {"method": "shelf.burn"}}, "$.content.$handle.method"),
]


async def test_a_handle_that_can_never_be_resolved_is_refused(library: tuple[TestHost, Shelf]) -> None:
    arbor = caller_of(library[0], "all")
    tree_id, _ids = await arbor.tree()
    for content, path in NO_HANDLES:
        error = await arbor.refusal("node_create", tree_id=tree_id, content=content)
        assert (error.kind, error.data["path"]) == ("invalid_params", path), content


async def test_an_imported_handle_changes_nothing_and_names_what_is_not_there(
    library: tuple[TestHost, Shelf],
) -> None:
    host, shelf = library
    arbor = caller_of(host, "all")
    lines = (
        '{"tree": 1, "name": "t"}\n'
        '{"node": "node_1", "content": {"$handle": {"method": "shelf.burn", "params": {"name": "emma"}}}}\n'
        '{"node": "node_2", "parent": "node_1", "content": {"$handle": {"method": "gone.thing"}}}\n'
    )
    await arbor("tree_import", lines=lines, ids="keep")
    context = await arbor("context_get", node_id="node_2")
    assert [entry["state"] for entry in context["entries"]] == ["failed", "missing"]
    assert shelf.asked == []


async def test_only_the_hundred_nearest_handles_are_resolved(library: tuple[TestHost, Shelf]) -> None:
    host, shelf = library
    arbor = caller_of(host, "all")
    _tree_id, ids = await arbor.tree(*(handle(str(number)) for number in range(110)))
    context = await arbor("context_get", node_id=ids[-1])
    assert [entry["state"] for entry in context["entries"]] == ["unresolved"] * 10 + ["resolved"] * 100
    assert sorted(map(int, shelf.asked)) == list(range(10, 110))


async def test_leaves_are_listed_page_by_page(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree(*range(3))
    drafts = [{"content": number, "parent_id": ids[number % 2]} for number in range(10)]
    leaves = [ids[-1], *await arbor("nodes_create", tree_id=tree_id, nodes=drafts)]
    found = await arbor.pages("context_leaves", "node_id", 4, tree_id=tree_id)
    assert [leaf["node_id"] for leaf in found] == leaves
    _other, elsewhere = await arbor.tree("x")
    error = await arbor.refusal("context_leaves", tree_id=tree_id, after=elsewhere[0])
    assert (error.kind, error.data["path"]) == ("invalid_params", "$.after")
