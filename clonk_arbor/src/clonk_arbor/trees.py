"""The domain: trees as a whole."""

import json
from collections.abc import Sequence

from clonk_arbor.bell import Bell
from clonk_arbor.errors import TreeClaimed
from clonk_arbor.limits import MAX_OWNERS
from clonk_arbor.messages import Metadata, NodeId, Tree, TreeId, TreeSummary
from clonk_arbor.reach import Reach, everywhere, seen_tree, touch
from clonk_arbor.store import changes
from clonk_arbor.store import trees as stored
from clonk_arbor.values import metadata_text, moment, now
from clonk_core.plugin import Conflict, Database, Forbidden, Transaction, new_id


class Trees:
    """The trees of one realm. Every method is one transaction."""

    def __init__(self, database: Database, bell: Bell | None = None) -> None:
        self._database = database
        self._bell = bell or Bell()

    async def create(self, name: str, metadata: Metadata | None) -> TreeId:
        """Create an empty tree."""
        tree_id = new_id("tree")
        await self._database.run(stored.insert, tree_id, name, metadata_text(metadata), now())
        return TreeId(tree_id)

    async def get(self, tree_id: TreeId, reach: Reach = everywhere) -> Tree:
        """Return one tree with its roots."""
        return await self._database.read(_read, tree_id, reach)

    async def list(
        self, limit: int, after: str | None, *, archived: bool = False, reach: Reach = everywhere
    ) -> tuple[TreeSummary, ...]:
        """Return trees, oldest first."""
        states = ("archived",) if archived else ("active",)
        return tuple(await self._database.read(_list, states, after or "", limit, reach))

    async def update(
        self,
        tree_id: TreeId,
        name: str | None,
        metadata: Metadata | None,
        version: int | None,
        reach: Reach = everywhere,
    ) -> Tree:
        """Give a tree another name or other metadata."""
        text = None if metadata is None else metadata_text(metadata)
        tree = await self._database.run(_update, tree_id, name, text, version, reach)
        self._bell.ring(tree_id)
        return tree

    async def archive(self, tree_id: TreeId, reach: Reach = everywhere) -> Tree:
        """Make a tree read-only and leave it out of lists; nothing when it is so already."""
        tree = await self._database.run(_archive, tree_id, reach)
        self._bell.ring(tree_id)
        return tree

    async def restore(self, tree_id: TreeId, reach: Reach = everywhere) -> Tree:
        """Undo `archive`; nothing when it is not archived."""
        tree = await self._database.run(_restore, tree_id, reach)
        self._bell.ring(tree_id)
        return tree

    async def delete(self, tree_id: TreeId, reach: Reach = everywhere) -> None:
        """Delete a tree. It is not seen from now on; its rows are taken away in the background."""
        await self._database.run(_delete, tree_id, reach)
        self._bell.ring(tree_id)

    async def claim(self, tree_id: TreeId, owner: str, by: str, reach: Reach = everywhere) -> bool:
        """Note that an owner uses a tree; False when that is noted already."""
        return await self._database.run(_claim, tree_id, owner, by, reach)

    async def release(self, tree_id: TreeId, owner: str, reach: Reach = everywhere) -> bool:
        """Drop an owner's claim; False when there is none."""
        return await self._database.run(_release, tree_id, owner, reach)


def _read(transaction: Transaction, tree_id: str, reach: Reach) -> Tree:
    return _tree(transaction, seen_tree(transaction, tree_id, reach))


def _tree(transaction: Transaction, row: stored.TreeRow) -> Tree:
    return Tree(
        id=TreeId(row.id),
        name=row.name,
        metadata=json.loads(row.metadata),
        created_at=moment(row.created_at),
        node_count=row.node_count,
        root_ids=tuple(NodeId(node_id) for node_id in stored.root_ids(transaction, row.key)),
        updated_at=moment(row.updated_at),
        version=row.version,
        archived_at=None if row.archived_at is None else moment(row.archived_at),
        owners=tuple(stored.owners(transaction, row.key)),
    )


def _list(transaction: Transaction, states: Sequence[str], after: str, limit: int, reach: Reach) -> list[TreeSummary]:
    found: list[TreeSummary] = []
    while len(found) < limit:
        page = stored.after(transaction, after, states, limit)
        found += [_summary(row) for row in page if reach(row.name)]
        if len(page) < limit:
            break
        after = page[-1].id
    return found[:limit]


def _summary(row: stored.TreeRow) -> TreeSummary:
    return TreeSummary(
        id=TreeId(row.id),
        name=row.name,
        metadata=json.loads(row.metadata),
        created_at=moment(row.created_at),
        node_count=row.node_count,
        updated_at=moment(row.updated_at),
        version=row.version,
        archived_at=None if row.archived_at is None else moment(row.archived_at),
    )


def _update(
    transaction: Transaction, tree_id: str, name: str | None, metadata: str | None, version: int | None, reach: Reach
) -> Tree:
    before = seen_tree(transaction, tree_id, reach)
    if version is not None and version != before.version:
        raise Conflict(
            f"tree {tree_id!r} has been changed since version {version}; read it again",
            tree_id=tree_id,
            version=before.version,
        )
    if name is not None and not reach(name):
        raise Forbidden("the caller's scopes do not cover a tree of this name", name=name)
    at = now()
    touched = touch(transaction, tree_id, reach, at)
    stored.change(
        transaction,
        touched.key,
        before.name if name is None else name,
        before.metadata if metadata is None else metadata,
    )
    changes.insert(transaction, touched.key, touched.version, "updated", at)
    return _read(transaction, tree_id, reach)


def _archive(transaction: Transaction, tree_id: str, reach: Reach) -> Tree:
    row = seen_tree(transaction, tree_id, reach)
    if row.state == "active":
        _check_unclaimed(transaction, row)
        at = now()
        touched = touch(transaction, tree_id, reach, at)
        changes.insert(transaction, row.key, touched.version, "archived", at)
        stored.set_state(transaction, row.key, "archived", at)
    return _read(transaction, tree_id, reach)


def _restore(transaction: Transaction, tree_id: str, reach: Reach) -> Tree:
    row = seen_tree(transaction, tree_id, reach)
    if row.state == "archived":
        at = now()
        stored.set_state(transaction, row.key, "active")
        touched = touch(transaction, tree_id, reach, at)
        changes.insert(transaction, row.key, touched.version, "restored", at)
    return _read(transaction, tree_id, reach)


def _delete(transaction: Transaction, tree_id: str, reach: Reach) -> None:
    row = seen_tree(transaction, tree_id, reach)
    _check_unclaimed(transaction, row)
    stored.set_state(transaction, row.key, "deleted")


def _check_unclaimed(transaction: Transaction, row: stored.TreeRow) -> None:
    owners = stored.owners(transaction, row.key)
    if owners:
        raise TreeClaimed(row.id, owners)


def _claim(transaction: Transaction, tree_id: str, owner: str, by: str, reach: Reach) -> bool:
    row = seen_tree(transaction, tree_id, reach)
    owners = stored.owners(transaction, row.key)
    if owner not in owners and len(owners) >= MAX_OWNERS:
        raise Conflict(f"tree {tree_id!r} has {MAX_OWNERS} claims already", tree_id=tree_id, limit=MAX_OWNERS)
    return stored.claim(transaction, row.key, owner, by, now())


def _release(transaction: Transaction, tree_id: str, owner: str, reach: Reach) -> bool:
    return stored.release(transaction, seen_tree(transaction, tree_id, reach).key, owner)
