"""Methods about positions, the named places of a tree."""

from typing import Annotated

from clonk_arbor.errors import (
    ContentTooLarge,
    NodeInOtherTree,
    NodeNotFound,
    PositionNotFound,
    TooManyPositions,
    TreeArchived,
    TreeNotFound,
)
from clonk_arbor.messages import Metadata, NodeRef, PageSize, Position, PositionName, TreeRef
from clonk_arbor.positions import Positions
from clonk_core.plugin import Call, Conflict, Ge, Le, method

PositionVersion = Annotated[int, Ge(1), Le(2**53)]


class PositionMethods:
    """What `Arbor` offers about positions."""

    _positions: Positions

    @method(
        narrows=True,
        errors=[
            TreeNotFound,
            TreeArchived,
            NodeNotFound,
            NodeInOtherTree,
            TooManyPositions,
            ContentTooLarge,
            Conflict,
        ],
    )
    async def position_create(
        self,
        call: Call,
        tree_id: TreeRef,
        name: PositionName,
        node_id: NodeRef,
        metadata: Metadata | None = None,
    ) -> Position:
        """Name a place in a tree, and return it. Unlike a node, a position can be moved.

        Args:
            tree_id: The tree.
            name: What to call the place; unique in the tree.
            node_id: The node it points to.
            metadata: Members of your own, given back with the position; at most 16 KiB as JSON.

        Raises:
            TreeNotFound: There is no such tree.
            TreeArchived: It can only be read.
            NodeNotFound: There is no such node.
            NodeInOtherTree: The node belongs to another tree.
            TooManyPositions: The tree has 1000 positions already.
            ContentTooLarge: `metadata` is over its limit.
            Conflict: The name is taken.
        """
        return await self._positions.create(tree_id, name, node_id, metadata, call.may_reach)

    @method(scope="read", narrows=True, read_only=True, idempotent=True, errors=[TreeNotFound, PositionNotFound])
    async def position_get(self, call: Call, tree_id: TreeRef, name: PositionName) -> Position:
        """Return one position.

        Args:
            tree_id: The tree.
            name: The position.

        Raises:
            TreeNotFound: There is no such tree.
            PositionNotFound: It has no such position.
        """
        return await self._positions.get(tree_id, name, call.may_reach)

    @method(scope="read", narrows=True, read_only=True, idempotent=True, errors=[TreeNotFound])
    async def position_list(
        self, call: Call, tree_id: TreeRef, limit: PageSize = 200, after: PositionName | None = None
    ) -> tuple[Position, ...]:
        """Return the positions of a tree, by name, a page at a time.

        Args:
            tree_id: The tree.
            limit: At most this many; fewer come back only at the end.
            after: Name of the last position of the page before; leave it out for the first page.

        Raises:
            TreeNotFound: There is no such tree.
        """
        return await self._positions.list(tree_id, limit, after, call.may_reach)

    @method(
        narrows=True,
        errors=[TreeNotFound, TreeArchived, PositionNotFound, NodeNotFound, NodeInOtherTree, Conflict],
    )
    async def position_move(
        self, call: Call, tree_id: TreeRef, name: PositionName, node_id: NodeRef, version: PositionVersion
    ) -> Position:
        """Let a position point to another node, and return it. Of two who move it at once one gets a `conflict`.

        Args:
            tree_id: The tree.
            name: The position.
            node_id: The node it shall point to.
            version: The position's `version`, as the caller saw it.

        Raises:
            TreeNotFound: There is no such tree.
            TreeArchived: It can only be read.
            PositionNotFound: It has no such position.
            NodeNotFound: There is no such node.
            NodeInOtherTree: The node belongs to another tree.
            Conflict: The position has been moved since; `data.version` and `data.node_id` say where it is.
        """
        return await self._positions.move(tree_id, name, node_id, version, call.may_reach)

    @method(narrows=True, destructive=True, errors=[TreeNotFound, TreeArchived, PositionNotFound, Conflict])
    async def position_delete(
        self, call: Call, tree_id: TreeRef, name: PositionName, version: PositionVersion | None = None
    ) -> bool:
        """Delete a position; the node stays. True when it is gone.

        Args:
            tree_id: The tree.
            name: The position.
            version: Delete it only if it has not been moved since; whatever it is when left out.

        Raises:
            TreeNotFound: There is no such tree.
            TreeArchived: It can only be read.
            PositionNotFound: It has no such position.
            Conflict: The position has been moved since.
        """
        await self._positions.delete(tree_id, name, version, call.may_reach)
        return True
