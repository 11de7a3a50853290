"""Trees, beside SQLite itself with the same statements on the same kind of file.

The raw side is a plain loop in one thread: nobody waits, no thread is handed work, nothing is checked. It is given the
same contents and makes the same rows of them, an id and JSON text each; the places in the tree it knows beforehand.
Both take turns, round by round.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import attrs
import orjson
import trio

from clonk_arbor.limits import CHANGE_SPAN, MAX_BATCH
from clonk_arbor.messages import NodeDraft, NodeId, TreeId
from clonk_arbor.nodes import Nodes
from clonk_arbor.search import Search
from clonk_arbor.store import changes, nodes, trees
from clonk_arbor.trees import Trees
from clonk_core.interfaces.storage import Database
from clonk_core.messages import Reply, Request
from clonk_core.plugin import new_id
from clonk_core.storage.sqlite import open_sqlite
from clonk_core.testing.host import TestHost, open_host
from tests.bench.figures import Figure, median, spread

NOW: Final = "2026-01-31T12:00:00.123456Z"
CONTENT: Final = {"role": "user", "content": "a sentence of some forty characters or so"}


@attrs.frozen(kw_only=True)
class Size:
    """How much is done.

    Attributes:
        singles: Nodes of one round, one a call.
        writers: Tasks that share them.
        path: Nodes of a path.
        paths: Paths of one round.
        rounds: Of each kind.
        depth: Of the context.
        contexts: How often it is read.
        fill: Nodes of the large tree.
        ends: Nodes timed at its beginning and at its end.
    """

    singles: int = 5000
    writers: int = 50
    path: int = 1000
    paths: int = 5
    rounds: int = 7
    depth: int = 10_000
    contexts: int = 30
    fill: int = 1_000_000
    ends: int = 10_000


QUICK: Final = Size(singles=100, path=50, paths=1, rounds=1, depth=200, contexts=2, fill=2000, ends=100)


def measure(*, quick: bool) -> Iterator[Figure]:
    """Give the figures."""
    size = QUICK if quick else Size()
    yield from trio.run(_inserts, size)
    yield from trio.run(_contexts, size)
    yield from trio.run(_million, size)


@asynccontextmanager
async def _database(folder: str, name: str) -> Any:
    async with open_sqlite(Path(folder) / f"{name}.db", "arbor", migrations=["clonk_arbor.migrations"]) as database:
        yield database


# ── inserts ──────────────────────────────────────────────────────────────────


async def _inserts(size: Size) -> list[Figure]:
    many, alone, paths = [], [], []
    raw_singles, raw_paths, statements = [], [], []
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as folder:
        async with _database(folder, "ours") as database, _database(folder, "raw"):
            ours = await _Ours.open(database)
            raw = _Raw(Path(folder) / "raw.db")
            for _ in range(size.rounds):
                many.append(size.singles / await ours.singles(size.singles, size.writers))
                raw_singles.append(size.singles / raw.singles(size.singles))
                alone.append(size.singles / await ours.singles(size.singles, 1))
                paths.append(size.path * size.paths / await ours.paths(size.path, size.paths))
                took, statements_s = raw.paths(size.path, size.paths)
                raw_paths.append(size.path * size.paths / took)
                statements.append(size.path * size.paths / statements_s)
            raw.close()
    return [
        _rate(f"arbor, nodes one by one, {size.writers} writers", many, raw_singles, 0.5),
        _rate("arbor, nodes one by one, one writer", alone, raw_singles, None),
        _rate(f"arbor, paths of {size.path} nodes", paths, raw_paths, 0.7, statements),
    ]


def _rate(
    name: str, ours: list[float], raw: list[float], bound: float | None, statements: list[float] | None = None
) -> Figure:
    value, limit = median(ours), median(raw)
    alone = f"; the statements without making rows {1e6 / median(statements):.1f}" if statements else ""
    return Figure(
        name=name,
        value=value,
        unit="1/s",
        peer="raw apsw",
        limit=limit,
        bound="" if bound is None else f"ratio at least {bound}",
        ok=None if bound is None else value / limit >= bound,
        note=f"{1e6 / value:.1f} us a node against {1e6 / limit:.1f}{alone}; 80 % {spread(ours)}",
    )


@attrs.frozen
class _Ours:
    """A tree of ours with a root."""

    nodes: Nodes
    tree_id: TreeId
    root: NodeId

    @classmethod
    async def open(cls, database: Database) -> "_Ours":
        tree_id = await Trees(database).create("bench", None)
        ours = Nodes(database)
        return cls(ours, tree_id, await ours.create(tree_id, None, CONTENT, None))

    async def singles(self, count: int, writers: int) -> float:
        """Return the seconds that nodes one by one take: each writer's follow each other."""

        async def write() -> None:
            last = self.root
            for _ in range(count // writers):
                last = await self.nodes.create(self.tree_id, last, CONTENT, None)

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(writers):
                nursery.start_soon(write)
        return time.perf_counter() - began

    async def paths(self, length: int, count: int) -> float:
        """Return the seconds that paths take."""
        contents = [CONTENT] * length
        began = time.perf_counter()
        for _ in range(count):
            await self.nodes.create_path(self.tree_id, self.root, contents)
        return time.perf_counter() - began


class _Raw:
    """The same tree written with the same statements by apsw alone."""

    def __init__(self, path: Path) -> None:
        self._connection = apsw.Connection(str(path))
        self._connection.execute("pragma synchronous = normal; pragma foreign_keys = on")
        self._tree = {"id": "tree_raw", "name": "bench", "metadata": "{}", "now": NOW, "state": "active"}
        self._key = self._number(trees.INSERT, self._tree)
        root = self._row(None, None, 0)
        self._root_id = str(root["id"])
        self._root = self._number(nodes.INSERT, root)

    def close(self) -> None:
        self._connection.close()

    def _number(self, sql: str, bindings: dict[str, Any] | None = None) -> int:
        row = self._connection.execute(sql, bindings or {}).fetchone()
        assert row is not None
        return int(row[0])

    def _row(self, parent: int | None, jump: int | None, depth: int) -> dict[str, Any]:
        text = orjson.dumps(CONTENT)
        return {
            "id": new_id("node"),
            "tree": self._key,
            "parent": parent,
            "jump": jump,
            "depth": depth,
            "kind": "json",
            "size": len(text),
            "created_at": NOW,
            "metadata": "{}",
            "content": text.decode(),
        }

    def _touch(self, *, changed: int, added: int) -> int:
        bindings = {"id": "tree_raw", "now": NOW, "changes": changed, "nodes": added, "roots": 0, "state": "active"}
        row = self._connection.execute(trees.TOUCH, bindings).fetchone()
        assert row is not None
        return int(row[2])

    def singles(self, count: int) -> float:
        """Return the seconds that nodes one by one take, each in a transaction of its own."""
        execute = self._connection.execute
        parent, above = self._root, self._root_id
        began = time.perf_counter()
        for depth in range(1, count + 1):
            row = self._row(parent, parent, depth)
            execute("begin immediate")
            version = self._touch(changed=1, added=1)
            execute(nodes.PLACE, {"id": above}).fetchone()
            parent = self._number(nodes.INSERT, row)
            execute(changes.INSERT, self._change(version, parent, parent))
            execute("commit")
            above = row["id"]
        return time.perf_counter() - began

    def _change(self, version: int, first: int, last: int) -> dict[str, Any]:
        return {
            "tree": self._key,
            "version": version,
            "kind": "nodes_created",
            "first": first,
            "last": last,
            "detail": None,
            "at": NOW,
        }

    def paths(self, length: int, count: int) -> tuple[float, float]:
        """Return the seconds that paths take, each in a transaction of its own, and those without making the rows."""
        execute = self._connection.execute
        rows_s = 0.0
        began = time.perf_counter()
        for _ in range(count):
            execute("begin immediate")
            first = self._number(nodes.LAST_KEY) + 1
            spans = range(first, first + length, CHANGE_SPAN)
            version = self._touch(changed=len(spans), added=length)
            execute(nodes.PLACE, {"id": self._root_id}).fetchone()
            rows_began = time.perf_counter()
            rows = []
            for key in range(first, first + length):
                parent = key - 1 if key > first else self._root
                text = orjson.dumps(CONTENT)
                place = (key, self._key, parent, parent, key - first + 1)
                rows.append((*place, new_id("node"), "json", len(text), NOW, "{}", text.decode()))
            rows_s += time.perf_counter() - rows_began
            self._connection.executemany(nodes.INSERT_KEYED, rows)
            some = [self._change(version, start, start + CHANGE_SPAN - 1) for start in spans]
            some = [{**one, "version": version - place} for place, one in enumerate(some)]
            self._connection.executemany(changes.INSERT, some)
            execute("commit")
        took = time.perf_counter() - began
        return took, took - rows_s


# ── reading ──────────────────────────────────────────────────────────────────


async def _contexts(size: Size) -> list[Figure]:
    """Read a long path through the whole gateway, up to the bytes of the answer."""
    return [
        await _context(size, f"arbor, context_get of depth {size.depth}", batch=min(size.depth, MAX_BATCH), branches=1),
        await _context(size, f"arbor, context_get of depth {size.depth}, branches in turns", batch=5, branches=2),
    ]


async def _context(size: Size, name: str, *, batch: int, branches: int) -> Figure:
    """Read one of several branches that were written in turns, some nodes at a time."""
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as folder:
        async with open_host(Path(folder) / "host", packages=["arbor"]) as host:
            tree_id = await host.client.call("arbor.tree_create", name="long")
            ends: list[str | None] = [None] * branches
            for _ in range(size.depth // batch):
                for branch, end in enumerate(ends):
                    ids = await host.client.call(
                        "arbor.path_create", tree_id=tree_id, parent_id=end, contents=[CONTENT] * batch
                    )
                    ends[branch] = ids[-1]
            last = str(ends[0])
            raw = apsw.Connection(str(Path(folder) / "host" / "arbor.db"), flags=apsw.SQLITE_OPEN_READONLY)
            took, raw_took = [], []
            for _ in range(size.contexts):
                took.append(await _read_context(host, last, size.depth))
                began = time.perf_counter()
                rows = raw.execute(RAW_PATH, {"id": last}).fetchall()
                raw_took.append((time.perf_counter() - began) * 1000)
                assert len(rows) == size.depth
            raw.close()
    value = median(took)
    return Figure(
        name=name,
        value=value,
        unit="ms",
        peer="raw apsw, step by step",
        limit=median(raw_took),
        bound="under 30 ms",
        ok=value < 30,
        note=f"whole call up to the answer's bytes; 80 % {spread(took)}",
    )


RAW_PATH: Final = (
    "with recursive up (node, above) as (select key, parent from nodes where id = :id union all"
    " select n.key, n.parent from up join nodes n on n.key = above)"
    " select n.id, n.kind, n.content from up join nodes n on n.key = node"
)


async def _read_context(host: TestHost, node_id: str, depth: int) -> float:
    request = Request(method="arbor.context_get", params={"node_id": node_id}, id=1)
    began = time.perf_counter()
    answer = await host.dispatch(request, host.client.connection)
    took = (time.perf_counter() - began) * 1000
    assert isinstance(answer, Reply)
    assert len(json.loads(answer.result)["entries"]) == depth
    return took


# ── a large tree ─────────────────────────────────────────────────────────────


async def _million(size: Size) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="clonk-bench-") as folder:
        async with _database(folder, "arbor") as database:
            ours = await _Ours.open(database)
            first = await ours.singles(size.ends, 50)
            fill_s = await _fill(ours, size)
            last = await ours.singles(size.ends, 50)
            some = size.ends
            began = time.perf_counter()
            await Search(database).note_new()
            words_s = time.perf_counter() - began
    total = size.fill
    return [
        Figure(
            name=f"arbor, the last {some} of {total} nodes",
            value=last / some * 1e6,
            unit="us",
            peer="the first",
            limit=first / some * 1e6,
            bound="ratio under 1.5",
            ok=last / first < 1.5,
            note=f"a node, 50 writers; between them {total - 2 * some} nodes in {fill_s:.0f} s",
        ),
        Figure(
            name="arbor, words noted for the search",
            value=total / words_s,
            unit="1/s",
            peer="nodes written at once",
            limit=(total - 2 * some) / fill_s,
            note="behind the writers, in the background",
        ),
    ]


async def _fill(ours: _Ours, size: Size) -> float:
    """Add bushy nodes, each batch hung below nodes of earlier ones; return the seconds."""
    left = size.fill - 2 * size.ends
    parents: list[NodeId] = [ours.root]
    began = time.perf_counter()
    while left > 0:
        count = min(left, MAX_BATCH)
        drafts = [
            NodeDraft(content=CONTENT, parent_id=parents[place * 7919 % len(parents)])
            if place % 10 == 0
            else NodeDraft(content=CONTENT, parent_index=place - 1 - place * 31 % (place % 10))
            for place in range(count)
        ]
        ids = await ours.nodes.create_many(ours.tree_id, drafts)
        parents = (parents + list(ids[::97]))[-20_000:]
        left -= count
    return time.perf_counter() - began
