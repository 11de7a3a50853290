"""Methods about trees as a whole."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from clonk_arbor.errors import ContentTooLarge, TreeArchived, TreeClaimed, TreeNotFound
from clonk_arbor.importing import Imports
from clonk_arbor.messages import (
    Metadata,
    NodeRef,
    OwnerName,
    PageSize,
    Tree,
    TreeId,
    TreeName,
    TreeRef,
    TreeSummary,
    Version,
)
from clonk_arbor.render import Drawing, Page
from clonk_arbor.retention import Retention
from clonk_arbor.transfer import Exports
from clonk_arbor.trees import Trees
from clonk_arbor.views import Change, Export, Imported, Rendering
from clonk_arbor.watch import Watch
from clonk_core.plugin import Call, Conflict, Forbidden, Ge, InvalidParams, Le, MaxLen, NotFound, TooLarge, method

WATCH_S = 3600.0
"""Longest time of one watch, in seconds: one whose reader never comes back ends."""


class TreeMethods(ABC):
    """What `Arbor` offers about trees."""

    _trees: Trees
    _drawing: Drawing
    _exports: Exports
    _imports: Imports
    _watch: Watch
    _retention: Retention

    @abstractmethod
    def _sweep_soon(self) -> None:
        """Have what was deleted swept in the background."""

    @method(target="name", errors=[ContentTooLarge])
    async def tree_create(self, name: TreeName, metadata: Metadata | None = None) -> TreeId:
        """Create an empty tree and return its id.

        Args:
            name: What people call it; need not be unique.
            metadata: Members of your own, given back with the tree; at most 16 KiB as JSON.

        Raises:
            ContentTooLarge: `metadata` is over its limit.
        """
        return await self._trees.create(name, metadata)

    @method(scope="read", narrows=True, read_only=True, idempotent=True, errors=[TreeNotFound])
    async def tree_get(self, call: Call, id: TreeRef) -> Tree:
        """Return one tree with the ids of its roots.

        Args:
            id: Tree to read.

        Raises:
            TreeNotFound: There is no such tree.
        """
        return await self._trees.get(id, call.may_reach)

    @method(scope="read", narrows=True, read_only=True, idempotent=True)
    async def tree_list(
        self, call: Call, limit: PageSize = 200, after: TreeRef | None = None, archived: bool = False
    ) -> tuple[TreeSummary, ...]:
        """Return trees, oldest first, a page at a time.

        Args:
            limit: At most this many; fewer come back only at the end.
            after: Id of the last tree of the page before; leave it out for the first page.
            archived: Return the archived trees, which are left out otherwise.
        """
        return await self._trees.list(limit, after, archived=archived, reach=call.may_reach)

    @method(narrows=True, idempotent=True, errors=[TreeNotFound, TreeArchived, ContentTooLarge, Conflict, Forbidden])
    async def tree_update(
        self,
        call: Call,
        id: TreeRef,
        name: TreeName | None = None,
        metadata: Metadata | None = None,
        version: Version | None = None,
    ) -> Tree:
        """Give a tree another name, other metadata, or both, and return it.

        Args:
            id: The tree.
            name: The new name; the old one stays when left out.
            metadata: The new members, in place of all old ones; the old ones stay when left out.
            version: Change it only if this is still the number of its last change.

        Raises:
            TreeNotFound: There is no such tree.
            TreeArchived: It can only be read.
            ContentTooLarge: `metadata` is over its limit.
            Conflict: The tree has been changed since `version`.
            Forbidden: The caller's scopes do not cover the new name.
        """
        return await self._trees.update(id, name, metadata, version, call.may_reach)

    @method(narrows=True, idempotent=True, errors=[TreeNotFound, TreeClaimed])
    async def tree_archive(self, call: Call, id: TreeRef) -> Tree:
        """Archive a tree: from now on it can only be read, and `arbor.tree_list` leaves it out.

        With `arbor.archived_retention_s` set it is deleted for good after that time.

        Args:
            id: The tree.

        Raises:
            TreeNotFound: There is no such tree.
            TreeClaimed: Somebody uses it.
        """
        return await self._trees.archive(id, call.may_reach)

    @method(narrows=True, idempotent=True, errors=[TreeNotFound])
    async def tree_restore(self, call: Call, id: TreeRef) -> Tree:
        """Take a tree back out of the archive.

        Args:
            id: The tree.

        Raises:
            TreeNotFound: There is no such tree (any more).
        """
        return await self._trees.restore(id, call.may_reach)

    @method(narrows=True, destructive=True, errors=[TreeNotFound, TreeClaimed])
    async def tree_delete(self, call: Call, id: TreeRef) -> bool:
        """Delete a tree for good, with its nodes and positions. True when it is gone.

        Args:
            id: The tree.

        Raises:
            TreeNotFound: There is no such tree.
            TreeClaimed: Somebody uses it.
        """
        await self._trees.delete(id, call.may_reach)
        self._sweep_soon()
        return True

    @method(narrows=True, idempotent=True, errors=[TreeNotFound, Conflict])
    async def tree_claim(self, call: Call, id: TreeRef, owner: OwnerName) -> bool:
        """Claim a tree for an owner that uses it: until it is released it is neither archived, deleted nor purged.

        True when the claim is new, false when the owner had it.

        Args:
            id: The tree.
            owner: Who uses it, such as `claudecode:sess_...`. Whoever knows the name can release it.

        Raises:
            TreeNotFound: There is no such tree.
            Conflict: The tree has 100 claims already.
        """
        return await self._trees.claim(id, owner, call.caller.id, call.may_reach)

    @method(narrows=True, idempotent=True, errors=[TreeNotFound])
    async def tree_release(self, call: Call, id: TreeRef, owner: OwnerName) -> bool:
        """Release an owner's claim on a tree. False when there was none.

        Args:
            id: The tree.
            owner: Who used it.

        Raises:
            TreeNotFound: There is no such tree.
        """
        return await self._trees.release(id, owner, call.may_reach)

    @method(scope="read", narrows=True, read_only=True, idempotent=True, errors=[TreeNotFound, NotFound, InvalidParams])
    async def tree_render(
        self,
        call: Call,
        id: TreeRef,
        node_id: NodeRef | None = None,
        limit: PageSize = 200,
        after: NodeRef | None = None,
    ) -> Rendering:
        """Draw a tree as text, a line for each node, a page at a time.

        Args:
            id: The tree.
            node_id: Draw only this node and what is below it.
            limit: At most this many nodes.
            after: The `after` of the page before; leave it out for the first page.

        Raises:
            TreeNotFound: There is no such tree.
            NotFound: There is no such node.
        """
        return await self._drawing.draw(id, Page(node_id, after, limit), call.may_reach)

    @method(scope="read", narrows=True, read_only=True, idempotent=True, errors=[TreeNotFound, NotFound, Conflict])
    async def tree_export(
        self,
        call: Call,
        id: TreeRef,
        limit: Annotated[int, Ge(1), Le(10_000)] = 1000,
        after: NodeRef | None = None,
        version: Version | None = None,
    ) -> Export:
        """Write a tree out as JSON lines, a page at a time; `arbor.tree_import` reads them.

        A page ends early when it has about 4 MiB of content. Handles are written as they are, not resolved.

        Args:
            id: The tree.
            limit: At most this many nodes.
            after: The `after` of the page before; leave it out for the first page.
            version: The `version` of the first page, so that all pages are of one moment.

        Raises:
            TreeNotFound: There is no such tree.
            NotFound: There is no such node to go on behind.
            Conflict: The tree has been changed since `version`.
        """
        return await self._exports.page(id, limit, after, version, call.may_reach)

    @method(narrows=True, deadline_s=600, errors=[InvalidParams, TooLarge, ContentTooLarge, Conflict, Forbidden])
    async def tree_import(
        self,
        call: Call,
        lines: Annotated[str, MaxLen(512 * 1024 * 1024)],
        name: TreeName | None = None,
        ids: Literal["new", "keep"] = "new",
    ) -> Imported:
        """Add a tree from JSON lines, as `arbor.tree_export` writes them: whole, or not at all.

        Every line is checked before anything is written. Nodes may stand in any order; each one's parent must be
        there, and the line of the tree comes first.

        Args:
            lines: The JSON lines. Over the wire the server's limit of one message comes first.
            name: What to call it, instead of its old name.
            ids: `new` gives all nodes new ids; `keep` leaves them as they are, and is refused when one is there.

        Raises:
            InvalidParams: Something is wrong, with the line.
            TooLarge: It is too long.
            ContentTooLarge: A node is.
            Conflict: A node of the same id is there already.
            Forbidden: The caller's scopes do not cover the tree's name.
        """
        return await self._imports.add(lines, name=name, keep_ids=ids == "keep", reach=call.may_reach)

    @method(
        scope="read",
        narrows=True,
        durable=True,
        read_only=True,
        deadline_s=WATCH_S,
        errors=[TreeNotFound, InvalidParams],
    )
    async def tree_watch(
        self, call: Call, id: TreeRef, after: Version | None = None, follow: bool = True
    ) -> AsyncIterator[Change]:
        """Tell what happens to a tree, as it happens, until it is deleted.

        The run can be resumed as every durable one. It ends with `limited` after an hour; go on with the last `version`
        seen as `after`, which also works when the run is kept no more.

        Args:
            id: The tree.
            after: Number of the last change seen (`version`), 0 for the very first; what comes from now on when left
                out. The last 10 000 changes are kept, or as many as `arbor.changes_kept` says.
            follow: Wait for changes to come; false ends with what is there.

        Raises:
            TreeNotFound: There is no such tree.
            InvalidParams: The tree has not had so many changes.
        """
        start = await self._watch.start(id, after, call.may_reach)
        return self._watch.changes(id, start, call.may_reach, follow=follow)
