"""The domain: trees read in. Written a part at a time and out of sight, then shown whole or not at all."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import attrs
import trio

from clonk_arbor.bell import Bell
from clonk_arbor.limits import MAX_CONTENT_BYTES
from clonk_arbor.messages import NodeId, TreeId
from clonk_arbor.nodes import insert_placed
from clonk_arbor.reach import Reach, everywhere
from clonk_arbor.reading import ReadTree, read_lines
from clonk_arbor.store import nodes, positions, trees
from clonk_arbor.store.walks import Jumps
from clonk_arbor.values import now
from clonk_arbor.views import Imported
from clonk_core.plugin import Conflict, ConstraintViolation, Database, Forbidden, Transaction, new_id

NODES_AT_ONCE: Final = 5000
"""Most nodes of one transaction: others write in between."""


class Imports:
    """Reads trees into one realm.

    Args:
        database: Where they go.
        bell: Rung after each import.
        max_content_bytes: Largest content of one node.
    """

    def __init__(
        self, database: Database, bell: Bell | None = None, *, max_content_bytes: int = MAX_CONTENT_BYTES
    ) -> None:
        self._database = database
        self._bell = bell or Bell()
        self._max_content_bytes = max_content_bytes

    async def add(
        self, lines: str, *, name: str | None = None, keep_ids: bool = False, reach: Reach = everywhere
    ) -> Imported:
        """Add a tree from JSON lines."""
        read = partial(read_lines, lines, keep_ids=keep_ids, max_content_bytes=self._max_content_bytes)
        tree = await trio.to_thread.run_sync(read)
        tree = tree if name is None else attrs.evolve(tree, name=name)
        if not reach(tree.name):
            raise Forbidden("the caller's scopes do not cover a tree of this name", name=tree.name)
        tree_id = new_id("tree")
        key = await self._database.run(_begin, tree_id, tree)
        try:
            await self._fill(key, tree)
            root_ids = await self._database.run(_show, key, tree)
        except BaseException:
            # What was written is not seen; the sweep takes it away.
            with trio.move_on_after(10, shield=True):
                await self._database.run(trees.set_state, key, "deleted")
            raise
        self._bell.ring(tree_id)
        return Imported(
            tree_id=TreeId(tree_id),
            node_count=len(tree.nodes),
            position_count=len(tree.positions),
            root_ids=tuple(NodeId(one) for one in root_ids),
        )

    async def _fill(self, key: int, tree: ReadTree) -> None:
        keys: list[int] = []
        try:
            for start in range(0, len(tree.nodes), NODES_AT_ONCE):
                keys += await self._database.run(_insert_some, key, tree, start, keys)
        except ConstraintViolation as error:
            raise Conflict("a node of the same id is there already; import with new ids") from error
        await self._database.run(_insert_positions, key, tree, keys)


def _begin(transaction: Transaction, tree_id: str, tree: ReadTree) -> int:
    return trees.insert(transaction, tree_id, tree.name, tree.metadata, now(), state="importing")


def _insert_some(transaction: Transaction, key: int, tree: ReadTree, start: int, keys: Sequence[int]) -> Sequence[int]:
    """Add the nodes from a place on; return their keys."""
    some = tree.nodes[start : start + NODES_AT_ONCE]
    first = nodes.last_key(transaction) + 1
    parents = [
        None if parent is None else keys[parent] if parent < start else first + parent - start
        for parent in tree.parents[start : start + NODES_AT_ONCE]
    ]
    insert_placed(transaction, some, key, first, parents, Jumps(transaction))
    return range(first, first + len(some))


def _insert_positions(transaction: Transaction, key: int, tree: ReadTree, keys: Sequence[int]) -> None:
    at = now()
    for one in tree.positions:
        positions.insert(transaction, key, one.name, keys[one.node], one.metadata, at)


def _show(transaction: Transaction, key: int, tree: ReadTree) -> list[str]:
    roots = sum(1 for parent in tree.parents if parent is None)
    trees.show_filled(transaction, key, len(tree.nodes), roots, now())
    return trees.root_ids(transaction, key)
