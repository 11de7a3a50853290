"""The domain: takes away what is deleted or over its time, a little at a time, so that nobody waits for it long."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from clonk_arbor.bell import Bell
from clonk_arbor.settings import ArborSettings
from clonk_arbor.store import changes, nodes, positions, search, trees
from clonk_core.plugin import Database, Log, Transaction

ROWS_AT_ONCE: Final = 1000
"""Most rows that one transaction takes away: some ten milliseconds."""

TREES_AT_ONCE: Final = 100


class Retention:
    """Purges trees.

    Args:
        database: Where they are.
        settings: How long what is kept.
        bell: Rung for each tree that is purged.
        log: Where it is told.
        clock: The time, in UTC.
    """

    def __init__(
        self,
        database: Database,
        settings: ArborSettings,
        bell: Bell,
        log: Log,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._settings = settings
        self._bell = bell
        self._log = log
        self._clock = clock

    async def forget_cut_imports(self) -> None:
        """Delete what a crash has left of imports that were under way. To be called before the first import."""
        await self._database.run(_forget_imports)

    async def purge_overdue(self) -> int:
        """Delete the trees that have been archived long enough and that nobody claims; return how many."""
        keep_s = self._settings.archived_retention_s
        if keep_s is None:
            return 0
        before = (self._clock() - timedelta(seconds=keep_s)).isoformat().replace("+00:00", "Z")
        count = 0
        while gone := await self._database.run(_delete_overdue, before):
            count += len(gone)
            for tree_id in gone:
                self._bell.ring(tree_id)
        if count:
            self._log.info("archived trees purged", count=count)
        return count

    async def sweep(self) -> None:
        """Take away the rows of deleted trees, and changes beyond what is kept."""
        while keys := await self._database.read(trees.in_state, "deleted", TREES_AT_ONCE):
            for key in keys:
                while await self._database.run(_take_some, key):
                    pass
        await self._prune_changes()

    async def _prune_changes(self) -> None:
        kept = self._settings.changes_kept
        key = 0
        while page := await self._database.read(changes.trees_after, key, kept, TREES_AT_ONCE):
            for key, version in page:
                while await self._database.run(changes.prune, key, version - kept, ROWS_AT_ONCE) == ROWS_AT_ONCE:
                    pass


def _forget_imports(transaction: Transaction) -> None:
    for key in trees.in_state(transaction, "importing", 1_000_000):
        trees.set_state(transaction, key, "deleted")


def _delete_overdue(transaction: Transaction, before: str) -> list[str]:
    """Delete some overdue trees; return their ids."""
    found = trees.overdue(transaction, before, TREES_AT_ONCE)
    for key, _tree_id in found:
        trees.set_state(transaction, key, "deleted")
    return [tree_id for _key, tree_id in found]


def _take_some(transaction: Transaction, key: int) -> bool:
    """Take away some rows of a deleted tree, and at the end the tree; False when nothing is left."""
    positions.drop(transaction, key)
    some = nodes.some_of_tree(transaction, key, ROWS_AT_ONCE)
    if some:
        search.forget(transaction, some)
        nodes.delete(transaction, some)
        return True
    if changes.drop_some(transaction, key, ROWS_AT_ONCE):
        return True
    trees.drop(transaction, key)
    return False
