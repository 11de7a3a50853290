"""Methods about nodes."""

from abc import ABC, abstractmethod
from typing import Annotated

from clonk_arbor.branches import Branches
from clonk_arbor.errors import (
    BelowItself,
    ContentTooLarge,
    NodeNotFound,
    ParentInOtherTree,
    PositionInSubtree,
    SubtreeTooLarge,
    TooDeep,
    TooManyRoots,
    TreeArchived,
    TreeNotFound,
)
from clonk_arbor.limits import MAX_BATCH
from clonk_arbor.messages import Metadata, Node, NodeDraft, NodeId, NodeRef, PageSize, TreeRef
from clonk_arbor.nodes import Nodes
from clonk_core.plugin import Call, InvalidParams, JsonValue, MaxLen, MinLen, method

WRITING = (
    TreeNotFound,
    TreeArchived,
    NodeNotFound,
    ParentInOtherTree,
    TooManyRoots,
    TooDeep,
    ContentTooLarge,
    InvalidParams,
)


class NodeMethods(ABC):
    """What `Arbor` offers about nodes."""

    _nodes: Nodes
    _branches: Branches

    @abstractmethod
    def _check_handles(self, *contents: JsonValue) -> None:
        """See that handles among new contents can be resolved here."""

    @method(narrows=True, errors=WRITING)
    async def node_create(
        self,
        call: Call,
        tree_id: TreeRef,
        parent_id: NodeRef | None = None,
        *,
        content: JsonValue,
        metadata: Metadata | None = None,
    ) -> NodeId:
        """Add a node to a tree and return its id. What a node holds never changes.

        Args:
            tree_id: Tree to add to.
            parent_id: Node of the same tree that it follows; null makes it a root. Several nodes may follow one.
            content: A text, or any other JSON value, at most 10 MiB (`arbor.max_content_bytes`). A handle to another
                activation's object is written `{"$handle": {"method": "claudecode.get", "params": {"name": "main"}}}`:
                the call of a plain method that only reads. `arbor.context_get` shows the object in its place.
            metadata: Members of your own, given back with the node; at most 16 KiB as JSON.

        Raises:
            TreeNotFound: There is no such tree.
            TreeArchived: It can only be read.
            NodeNotFound: There is no such parent.
            ParentInOtherTree: The parent is a node of another tree.
            TooManyRoots: The tree has 1000 roots already.
            TooDeep: The parent has a million ancestors.
            ContentTooLarge: `content` or `metadata` is over its limit.
            InvalidParams: `content` is a handle that can never be resolved.
        """
        self._check_handles(content)
        return await self._nodes.create(tree_id, parent_id, content, metadata, call.may_reach)

    @method(narrows=True, errors=WRITING)
    async def nodes_create(
        self, call: Call, tree_id: TreeRef, nodes: Annotated[tuple[NodeDraft, ...], MinLen(1), MaxLen(MAX_BATCH)]
    ) -> tuple[NodeId, ...]:
        """Add many nodes to a tree at once, all or none, and return their ids in the same order.

        Args:
            tree_id: Tree to add to.
            nodes: 1 to 10 000 nodes with at most 16 MiB of content, each behind its parent.

        Raises:
            TreeNotFound: There is no such tree.
            TreeArchived: It can only be read.
            NodeNotFound: There is no such parent.
            ParentInOtherTree: A parent is a node of another tree.
            TooManyRoots: The tree would have more than 1000 roots.
            TooDeep: A node would have more than a million ancestors.
            ContentTooLarge: A content or metadata is over its limit, or all of them together.
            InvalidParams: A `parent_index` names no earlier node, or a handle can never be resolved.
        """
        self._check_handles(*(node.content for node in nodes))
        return await self._nodes.create_many(tree_id, nodes, call.may_reach)

    @method(narrows=True, errors=WRITING)
    async def path_create(
        self,
        call: Call,
        tree_id: TreeRef,
        parent_id: NodeRef | None = None,
        *,
        contents: Annotated[tuple[JsonValue, ...], MinLen(1), MaxLen(MAX_BATCH)],
    ) -> tuple[NodeId, ...]:
        """Add a path: nodes each of which follows the one before, all or none. Return their ids, the first one's first.

        Args:
            tree_id: Tree to add to.
            parent_id: Node that the first one follows; null makes it a root.
            contents: What they hold, 1 to 10 000 values with at most 16 MiB; see `arbor.node_create`.

        Raises:
            TreeNotFound: There is no such tree.
            TreeArchived: It can only be read.
            NodeNotFound: There is no such parent.
            ParentInOtherTree: The parent is a node of another tree.
            TooManyRoots: The tree has 1000 roots already.
            TooDeep: A node would have more than a million ancestors.
            ContentTooLarge: A content is over its limit, or all of them together.
            InvalidParams: A handle can never be resolved.
        """
        self._check_handles(*contents)
        return await self._nodes.create_path(tree_id, parent_id, contents, call.may_reach)

    @method(scope="read", narrows=True, read_only=True, idempotent=True, errors=[NodeNotFound])
    async def node_get(self, call: Call, node_id: NodeRef) -> Node:
        """Return one node.

        Args:
            node_id: Node to read.

        Raises:
            NodeNotFound: There is no such node.
        """
        return await self._nodes.get(node_id, call.may_reach)

    @method(scope="read", narrows=True, read_only=True, idempotent=True, errors=[NodeNotFound, InvalidParams])
    async def node_children(
        self, call: Call, node_id: NodeRef, limit: PageSize = 200, after: NodeRef | None = None
    ) -> tuple[Node, ...]:
        """Return the direct children of a node, oldest first, a page at a time.

        A page ends early when it has about 4 MiB of content; the children are all read when a page comes back empty.

        Args:
            node_id: Node whose children to read.
            limit: At most this many.
            after: Id of the last child of the page before; leave it out for the first page.

        Raises:
            NodeNotFound: There is no such node, or no such `after`.
            InvalidParams: `after` is no child of the node.
        """
        return await self._nodes.children(node_id, limit, after, call.may_reach)

    @method(scope="read", narrows=True, read_only=True, idempotent=True, errors=[NodeNotFound])
    async def node_parent(self, call: Call, node_id: NodeRef) -> Node | None:
        """Return the node above one; null above a root.

        Args:
            node_id: Node whose parent to read.

        Raises:
            NodeNotFound: There is no such node.
        """
        return await self._nodes.parent(node_id, call.may_reach)

    @method(scope="read", narrows=True, read_only=True, idempotent=True, errors=[NodeNotFound, InvalidParams])
    async def node_ancestors(
        self, call: Call, node_id: NodeRef, limit: PageSize = 200, after: NodeRef | None = None
    ) -> tuple[Node, ...]:
        """Return the nodes above one, nearest first: its parent, the parent's parent and so on.

        A page ends early when it has about 4 MiB of content. The path is complete when its last node has no parent.

        Args:
            node_id: Node whose ancestors to read; it is not among them.
            limit: At most this many.
            after: Id of the last node of the page before; leave it out for the first page.

        Raises:
            NodeNotFound: There is no such node, or no such `after`.
            InvalidParams: `after` is in another tree.
        """
        return await self._nodes.ancestors(node_id, limit, after, call.may_reach)

    @method(scope="read", narrows=True, read_only=True, idempotent=True, errors=[NodeNotFound, InvalidParams])
    async def node_path(
        self, call: Call, node_id: NodeRef, limit: PageSize = 200, after: NodeRef | None = None
    ) -> tuple[Node, ...]:
        """Return the path from the root to a node, root first, itself the last, a page at a time.

        A page ends early when it has about 4 MiB of content; the path is complete when its last node is the one asked
        for.

        Args:
            node_id: Node at the end of the path.
            limit: At most this many.
            after: Id of the last node of the page before; leave it out for the first page.

        Raises:
            NodeNotFound: There is no such node, or no such `after`.
            InvalidParams: `after` is not on the path.
        """
        return await self._branches.path(node_id, limit, after, call.may_reach)

    @method(
        narrows=True,
        idempotent=True,
        errors=[
            NodeNotFound,
            TreeArchived,
            ParentInOtherTree,
            BelowItself,
            TooManyRoots,
            TooDeep,
            SubtreeTooLarge,
        ],
    )
    async def node_move(self, call: Call, node_id: NodeRef, parent_id: NodeRef | None) -> Node:
        """Put a node, with all below it, under another node of its tree, and return it.

        Args:
            node_id: The node.
            parent_id: Its new parent; null makes it a root.

        Raises:
            NodeNotFound: There is no such node, or no such parent.
            TreeArchived: The tree can only be read.
            ParentInOtherTree: The parent is a node of another tree.
            BelowItself: The parent is the node, or lies below it.
            TooManyRoots: The tree has 1000 roots already.
            TooDeep: A node would have more than a million ancestors.
            SubtreeTooLarge: More than 200 000 nodes would be moved.
        """
        return await self._branches.move(node_id, parent_id, call.may_reach)

    @method(narrows=True, destructive=True, errors=[NodeNotFound, TreeArchived, PositionInSubtree, SubtreeTooLarge])
    async def node_delete(self, call: Call, node_id: NodeRef) -> int:
        """Delete a node and all below it for good, and return how many nodes that were.

        Args:
            node_id: The node.

        Raises:
            NodeNotFound: There is no such node.
            TreeArchived: The tree can only be read.
            PositionInSubtree: Positions point to nodes that would be deleted.
            SubtreeTooLarge: More than 200 000 nodes would be deleted.
        """
        return await self._branches.delete(node_id, call.may_reach)
