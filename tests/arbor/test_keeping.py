"""What is kept how long: names and versions of trees, the archive, claims, purging, and what a crash leaves."""

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import attrs
import pytest
import trio

from clonk_arbor.bell import Bell
from clonk_arbor.branches import Branches
from clonk_arbor.messages import NodeId, TreeId
from clonk_arbor.nodes import Nodes
from clonk_arbor.retention import Retention
from clonk_arbor.search import Search
from clonk_arbor.settings import ArborSettings
from clonk_arbor.store import trees as stored
from clonk_arbor.trees import Trees
from clonk_core.observe.logs import Logs
from clonk_core.plugin import Database
from clonk_core.storage.sqlite import open_sqlite
from clonk_core.testing.host import open_host
from tests.arbor.conftest import Caller


async def test_a_tree_gets_another_name_and_other_metadata(arbor: Caller) -> None:
    tree_id = await arbor("tree_create", name="old", metadata={"a": 1})
    tree = await arbor("tree_update", id=tree_id, name="new")
    assert (tree["name"], tree["metadata"], tree["version"]) == ("new", {"a": 1}, 1)
    tree = await arbor("tree_update", id=tree_id, metadata={"b": 2}, version=1)
    assert (tree["name"], tree["metadata"], tree["version"]) == ("new", {"b": 2}, 2)
    error = await arbor.refusal("tree_update", id=tree_id, name="lost", version=1)
    assert (error.kind, error.data["version"]) == ("conflict", 2)
    error = await arbor.refusal("tree_update", id=tree_id, metadata={"x": "y" * 20_000})
    assert error.kind == "arbor.content_too_large"
    assert await arbor("tree_get", id=tree_id) == tree


async def test_an_archived_tree_can_be_read_and_not_changed_until_it_is_restored(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree("a", "b")
    await arbor("position_create", tree_id=tree_id, name="p", node_id=ids[0])
    other_id = await arbor("tree_create", name="other")
    archived = await arbor("tree_archive", id=tree_id)
    assert archived["archived_at"] is not None
    assert await arbor("tree_archive", id=tree_id) == archived
    assert [tree["id"] for tree in await arbor("tree_list")] == [other_id]
    assert [tree["id"] for tree in await arbor("tree_list", archived=True)] == [tree_id]
    assert len(await arbor("node_path", node_id=ids[1])) == 2
    writes: list[tuple[str, dict[str, Any]]] = [
        ("node_create", {"tree_id": tree_id, "content": 1}),
        ("nodes_create", {"tree_id": tree_id, "nodes": [{"content": 1}]}),
        ("path_create", {"tree_id": tree_id, "contents": [1]}),
        ("node_move", {"node_id": ids[1], "parent_id": None}),
        ("node_delete", {"node_id": ids[1]}),
        ("position_create", {"tree_id": tree_id, "name": "q", "node_id": ids[0]}),
        ("position_move", {"tree_id": tree_id, "name": "p", "node_id": ids[1], "version": 1}),
        ("position_delete", {"tree_id": tree_id, "name": "p"}),
        ("tree_update", {"id": tree_id, "name": "x"}),
    ]
    for method, params in writes:
        assert (await arbor.refusal(method, **params)).kind == "arbor.tree_archived", method
    assert await arbor("tree_get", id=tree_id) == archived
    restored = await arbor("tree_restore", id=tree_id)
    assert (restored["archived_at"], restored["node_count"]) == (None, 2)
    for method, params in writes[:3]:
        await arbor(method, **params)


async def test_a_claimed_tree_is_neither_archived_nor_deleted(arbor: Caller) -> None:
    tree_id, _ids = await arbor.tree("a")
    assert await arbor("tree_claim", id=tree_id, owner="session:1") is True
    assert await arbor("tree_claim", id=tree_id, owner="session:1") is False
    assert await arbor("tree_claim", id=tree_id, owner="session:2") is True
    assert (await arbor("tree_get", id=tree_id))["owners"] == ["session:1", "session:2"]
    for method in ("tree_delete", "tree_archive"):
        error = await arbor.refusal(method, id=tree_id)
        assert (error.kind, error.data["owners"]) == ("arbor.tree_claimed", ["session:1", "session:2"])
    assert await arbor("tree_release", id=tree_id, owner="session:1") is True
    assert await arbor("tree_release", id=tree_id, owner="session:1") is False
    assert (await arbor.refusal("tree_delete", id=tree_id)).kind == "arbor.tree_claimed"
    assert await arbor("tree_release", id=tree_id, owner="session:2") is True
    assert await arbor("tree_delete", id=tree_id) is True
    for method in ("tree_claim", "tree_release"):
        assert (await arbor.refusal(method, id=tree_id, owner="x")).kind == "arbor.tree_not_found"


async def test_a_tree_has_at_most_a_hundred_claims(arbor: Caller) -> None:
    tree_id, _ids = await arbor.tree()
    for number in range(100):
        await arbor("tree_claim", id=tree_id, owner=f"o{number}")
    assert (await arbor.refusal("tree_claim", id=tree_id, owner="one too many")).kind == "conflict"
    assert await arbor("tree_claim", id=tree_id, owner="o7") is False


async def test_a_deleted_tree_is_gone_at_once_with_all_that_was_in_it(arbor: Caller) -> None:
    tree_id, ids = await arbor.tree("needle", "b")
    await arbor("position_create", tree_id=tree_id, name="p", node_id=ids[0])
    assert len(await arbor("context_search", query="needle")) == 1
    assert await arbor("tree_delete", id=tree_id) is True
    for method, params in (
        ("tree_get", {"id": tree_id}),
        ("tree_delete", {"id": tree_id}),
        ("tree_restore", {"id": tree_id}),
        ("tree_export", {"id": tree_id}),
        ("tree_render", {"id": tree_id}),
        ("tree_watch", {"id": tree_id}),
        ("position_get", {"tree_id": tree_id, "name": "p"}),
        ("context_leaves", {"tree_id": tree_id}),
        ("node_create", {"tree_id": tree_id, "content": 1}),
    ):
        assert (await arbor.refusal(method, **params)).kind == "arbor.tree_not_found", method
    for method in ("node_get", "node_children", "node_parent", "node_ancestors", "node_path", "context_get"):
        assert (await arbor.refusal(method, node_id=ids[0])).kind == "arbor.node_not_found", method
    assert await arbor("tree_list") == []
    assert await arbor("context_search", query="needle") == []


# ── the background's part ────────────────────────────────────────────────────


@attrs.frozen
class Kept:
    """A database, and what keeps it tidy at a time of the test's choice."""

    database: Database
    trees: Trees
    nodes: Nodes

    def retention(self, *, days_later: float = 0, **settings: Any) -> Retention:
        at = datetime.now(UTC) + timedelta(days=days_later)
        log = Logs(level="error", format="json").get("test")
        return Retention(self.database, ArborSettings(**settings), Bell(), log, clock=lambda: at)

    async def rows(self, table: str) -> int:
        sql = f"select count(*) from {table}"
        row = await self.database.read(lambda transaction: transaction.one(sql))
        assert row is not None
        return int(row[0])


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    async with open_sqlite(tmp_path / "arbor.db", "arbor", migrations=["clonk_arbor.migrations"]) as database:
        yield Kept(database, Trees(database), Nodes(database))


DAY_S = 86_400.0


async def test_archived_trees_are_purged_after_their_time_and_claimed_ones_are_not(kept: Kept) -> None:
    active, archived, claimed = [await kept.trees.create(name, None) for name in ("active", "archived", "claimed")]
    for tree_id in (archived, claimed):
        await kept.trees.archive(tree_id)
    await kept.trees.claim(claimed, "somebody", "me")
    assert await kept.retention(days_later=1000).purge_overdue() == 0
    assert await kept.retention(days_later=29, archived_retention_s=30 * DAY_S).purge_overdue() == 0
    assert await kept.retention(days_later=31, archived_retention_s=30 * DAY_S).purge_overdue() == 1
    assert [tree.id for tree in await kept.trees.list(10, None)] == [active]
    assert [tree.id for tree in await kept.trees.list(10, None, archived=True)] == [claimed]
    await kept.trees.release(claimed, "somebody")
    assert await kept.retention(days_later=31, archived_retention_s=30 * DAY_S).purge_overdue() == 1


async def test_the_sweep_takes_away_all_rows_of_a_deleted_tree_and_no_others(kept: Kept) -> None:
    gone, stays = await kept.trees.create("gone", None), await kept.trees.create("stays", None)
    for tree_id in (gone, stays):
        await kept.nodes.create_path(tree_id, None, ["words"] * 2500)
        for _ in range(3):
            await kept.nodes.create(tree_id, None, "words", None)
    await Search(kept.database).note_new()
    await kept.trees.delete(gone)
    await kept.retention().sweep()
    assert await kept.rows("nodes") == 2503
    assert await kept.rows("node_words where node_words match 'words'") == 2503
    assert await kept.rows("trees") == 1
    assert await kept.rows("changes") == (await kept.trees.get(stays)).version


async def test_of_a_tree_s_changes_the_last_ones_are_kept(kept: Kept) -> None:
    tree_id = await kept.trees.create("t", None)
    for number in range(30):
        await kept.nodes.create(tree_id, None, number, None)
    await kept.retention(changes_kept=10).sweep()
    assert await kept.rows("changes") == 10
    assert await kept.rows("changes where version > 20") == 10


async def test_what_a_cut_import_left_is_never_seen_and_goes_at_the_next_start(tmp_path: Path) -> None:
    async with open_host(tmp_path / "host", packages=["arbor"]):
        pass
    path = tmp_path / "host" / "arbor.db"
    connection = apsw.Connection(str(path))
    tree = {"id": "tree_cut", "name": "cut", "metadata": "{}", "now": "2026-01-31T12:00:00Z", "state": "importing"}
    connection.execute(stored.INSERT, tree).fetchall()
    connection.close()
    async with open_host(tmp_path / "host", packages=["arbor"]) as host:
        assert await host.client.call("arbor.tree_list") == []
        connection = apsw.Connection(str(path))
        with trio.fail_after(20):
            while connection.execute("select count(*) from trees").fetchall() != [(0,)]:
                await trio.sleep(0.01)
        connection.close()


async def test_a_database_of_the_first_version_opens_with_all_that_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "arbor.db"
    first = Path(__file__).parents[2] / "clonk_arbor/src/clonk_arbor/migrations/0001_trees.sql"
    connection = apsw.Connection(str(path))
    connection.execute(first.read_text())
    connection.execute(
        "create table schema_migrations (package text not null, number bigint not null, name text not null,"
        " checksum text not null, applied_at text not null, primary key (package, number))"
    )
    checksum = hashlib.sha256(first.read_bytes()).hexdigest()
    connection.execute(
        "insert into schema_migrations values ('clonk_arbor.migrations', 1, '0001_trees.sql', ?, '')", (checksum,)
    )
    at = "2025-01-16T12:00:00Z"
    connection.execute("begin")
    connection.execute("insert into trees values ('tree_1', 'old', '{\"a\": 1}', ?, 300, 1)", (at,))
    parent = None
    for number in range(1, 301):
        content = '{"role":"user"}' if number % 2 else '"hällo"'
        connection.execute(
            "insert into nodes values (?, 'tree_1', ?, ?, ?, ?, '{}', ?)",
            (f"node_{number}", parent, number, number - 1, content, at),
        )
        parent = f"node_{number}"
    connection.execute("commit")
    connection.close()
    async with open_sqlite(path, "arbor", migrations=["clonk_arbor.migrations"]) as database:
        tree = await Trees(database).get(TreeId("tree_1"))
        assert (tree.name, tree.metadata, tree.node_count, tree.root_ids) == ("old", {"a": 1}, 300, ("node_1",))
        nodes = Nodes(database)
        last = await nodes.create(TreeId("tree_1"), NodeId("node_300"), "new", None)
        above = await nodes.ancestors(last, 1000)
        assert [node.id for node in above] == [f"node_{number}" for number in range(300, 0, -1)]
        assert [node.kind for node in above[:2]] == ["text", "json"]
        assert (above[0].content, (await nodes.get(last)).depth) == ("hällo", 300)
        page = await Branches(database).path(last, 10, NodeId("node_150"))
        assert [node.id for node in page] == [f"node_{number}" for number in range(151, 161)]
