"""Arbor as callers see it: through the whole gateway of a real host."""

from pathlib import Path
from typing import Any

import pytest

from clonk_arbor.activation import Arbor
from clonk_core.plugin import CallError
from clonk_core.testing.contract import check_activation
from clonk_core.testing.host import TestHost


async def refusal(host: TestHost, method: str, **params: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await host.client.call(method, **params)
    return caught.value


async def test_a_conversation_is_kept_and_read_back(host: TestHost) -> None:
    tree_id = await host.client.call("arbor.tree_create", name="Fix the parser")
    question = await host.client.call("arbor.node_create", tree_id=tree_id, parent_id=None, content={"role": "user"})
    answer = await host.client.call("arbor.node_create", tree_id=tree_id, parent_id=question, content=["text"])
    tree = await host.client.call("arbor.tree_get", id=tree_id)
    assert (tree["id"], tree["name"], tree["root_ids"], tree["node_count"]) == (
        tree_id,
        "Fix the parser",
        [question],
        2,
    )
    (child,) = await host.client.call("arbor.node_children", node_id=question)
    assert (child["id"], child["parent_id"], child["content"], child["depth"]) == (answer, question, ["text"], 1)
    (parent,) = await host.client.call("arbor.node_ancestors", node_id=answer)
    assert parent == await host.client.call("arbor.node_get", node_id=question)
    assert parent["created_at"].endswith("Z")


async def test_arguments_may_be_given_by_position_in_the_specification_s_order(host: TestHost) -> None:
    tree_id = await host.client.call("arbor.tree_create", "t")
    root = await host.client.call("arbor.node_create", tree_id, None, {"a": 1})
    node = await host.client.call("arbor.node_create", tree_id, root, {"b": 2})
    assert (await host.client.call("arbor.node_get", node))["content"] == {"b": 2}


@pytest.mark.parametrize(
    ("method", "params", "path"),
    [
        ("arbor.tree_create", {}, "$.name"),
        ("arbor.tree_create", {"name": ""}, "$.name"),
        ("arbor.tree_create", {"name": "x" * 201}, "$.name"),
        ("arbor.tree_create", {"name": "two\nlines"}, "$.name"),
        ("arbor.tree_create", {"name": 5}, "$.name"),
        ("arbor.tree_create", {"name": "t", "metadata": []}, "$.metadata"),
        ("arbor.tree_list", {"limit": 0}, "$.limit"),
        ("arbor.tree_list", {"limit": 1001}, "$.limit"),
        ("arbor.node_create", {"tree_id": "tree_x"}, "$.content"),
        ("arbor.node_children", {"node_id": "x" * 65}, "$.node_id"),
        ("arbor.node_ancestors", {"node_id": "n", "limit": "10"}, "$.limit"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_with_their_path(
    host: TestHost, method: str, params: dict[str, Any], path: str
) -> None:
    error = await refusal(host, method, **params)
    assert (error.kind, error.data["path"]) == ("invalid_params", path)


async def test_errors_bear_arbor_s_own_kinds(host: TestHost) -> None:
    assert (await refusal(host, "arbor.tree_get", id="tree_x")).kind == "arbor.tree_not_found"
    assert (await refusal(host, "arbor.node_get", node_id="node_x")).kind == "arbor.node_not_found"
    tree_id = await host.client.call("arbor.tree_create", name="t")
    error = await refusal(host, "arbor.node_create", tree_id=tree_id, content="x" * 10 * 2**20)
    assert error.kind == "arbor.content_too_large"


async def test_reading_needs_the_scope_read_and_writing_the_method_s_own(host: TestHost) -> None:
    schemas = await host.client.call("hub.schema", "arbor")
    scopes = {one["name"].removeprefix("arbor."): one["scope"] for one in schemas["methods"]}
    reading = {name for name, scope in scopes.items() if scope == "arbor:read"}
    assert reading == {
        "tree_get", "tree_list", "tree_render", "tree_export", "tree_watch",
        "node_get", "node_children", "node_parent", "node_ancestors", "node_path",
        "context_get", "context_leaves", "context_handles", "context_search",
        "position_get", "position_list",
    }  # fmt: skip
    writing = {
        "tree_create", "tree_update", "tree_archive", "tree_restore", "tree_delete", "tree_claim", "tree_release",
        "tree_import", "node_create", "nodes_create", "path_create", "node_move", "node_delete",
        "position_create", "position_move", "position_delete",
    }  # fmt: skip
    assert {name: scope for name, scope in scopes.items() if name not in reading} == {
        name: f"arbor:{name}" for name in writing
    }


async def test_arbor_keeps_the_contract_of_every_activation(tmp_path: Path) -> None:
    await check_activation(Arbor, tmp_path, {"arbor.tree_create": {"name": "t", "metadata": {"a": 1}}})
