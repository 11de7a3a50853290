"""The methods that arbor offers. Thin: `tree.py` has the rules, `store.py` the SQL."""

from clonk_arbor.errors import ContentTooLarge, NodeNotFound, ParentInOtherTree, TooManyRoots, TreeNotFound
from clonk_arbor.messages import (
    Metadata,
    Node,
    NodeId,
    NodeRef,
    PageSize,
    Tree,
    TreeId,
    TreeName,
    TreeRef,
    TreeSummary,
)
from clonk_arbor.tree import Trees
from clonk_core.plugin import Activation, Call, Host, JsonValue, method


class Arbor(Activation):
    """Conversation trees: every message is a node, every fork a branch."""

    namespace = "arbor"
    version = "1.0.0"

    def __init__(self, host: Host) -> None:
        self._trees = Trees(host.database("arbor", migrations="clonk_arbor.migrations"))

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
        tree = await self._trees.get(id)
        if not call.may_reach(tree.name):
            raise TreeNotFound(id)
        return tree

    @method(scope="read", narrows=True, read_only=True, idempotent=True)
    async def tree_list(
        self, call: Call, limit: PageSize = 200, after: TreeRef | None = None
    ) -> tuple[TreeSummary, ...]:
        """Return trees, oldest first, a page at a time.

        Args:
            limit: At most this many; fewer come back only at the end.
            after: Id of the last tree of the page before; leave it out for the first page.
        """
        found: list[TreeSummary] = []
        while len(found) < limit:
            page = await self._trees.list(limit, after)
            found += [tree for tree in page if call.may_reach(tree.name)]
            if len(page) < limit or not call.is_narrowed:
                break
            after = page[-1].id
        return tuple(found[:limit])

    @method(narrows=True, errors=[TreeNotFound, NodeNotFound, ParentInOtherTree, TooManyRoots, ContentTooLarge])
    async def node_create(
        self,
        call: Call,
        tree_id: TreeRef,
        parent_id: NodeRef | None = None,
        *,
        content: JsonValue,
        metadata: Metadata | None = None,
    ) -> NodeId:
        """Add a node to a tree and return its id. Nodes never change once they are there.

        Args:
            tree_id: Tree to add to.
            parent_id: Node of the same tree that it follows; null makes it a root. Several nodes may follow one.
            content: Any JSON value, at most 1 MiB.
            metadata: Members of your own, given back with the node; at most 16 KiB as JSON.

        Raises:
            TreeNotFound: There is no such tree.
            NodeNotFound: There is no such parent.
            ParentInOtherTree: The parent is a node of another tree.
            TooManyRoots: The tree has 1000 roots already.
            ContentTooLarge: `content` or `metadata` is over its limit.
        """
        if call.is_narrowed and not call.may_reach((await self._trees.get(tree_id)).name):
            raise TreeNotFound(tree_id)
        if parent_id is not None:
            await self._check_reach(call, parent_id)
        return await self._trees.add_node(tree_id, parent_id, content, metadata)

    @method(scope="read", narrows=True, read_only=True, idempotent=True, errors=[NodeNotFound])
    async def node_get(self, call: Call, node_id: NodeRef) -> Node:
        """Return one node.

        Args:
            node_id: Node to read.

        Raises:
            NodeNotFound: There is no such node.
        """
        await self._check_reach(call, node_id)
        return await self._trees.node(node_id)

    @method(scope="read", narrows=True, read_only=True, idempotent=True, errors=[NodeNotFound])
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
        """
        await self._check_reach(call, node_id)
        if after is not None:
            await self._check_reach(call, after)
        return await self._trees.children(node_id, limit, after)

    @method(scope="read", narrows=True, read_only=True, idempotent=True, errors=[NodeNotFound])
    async def node_ancestors(self, call: Call, node_id: NodeRef, limit: PageSize = 200) -> tuple[Node, ...]:
        """Return the nodes above one, nearest first: its parent, the parent's parent and so on.

        A page ends early when it has about 4 MiB of content. The path is complete when its last node has no parent; to
        read on, call again with that last node's id.

        Args:
            node_id: Node whose ancestors to read; it is not among them.
            limit: At most this many.

        Raises:
            NodeNotFound: There is no such node.
        """
        await self._check_reach(call, node_id)
        return await self._trees.ancestors(node_id, limit)

    async def _check_reach(self, call: Call, node_id: NodeRef) -> None:
        """Refuse a node of a tree whose name a narrowed caller's scopes do not cover: for them it does not exist.

        Raises:
            NodeNotFound: It is so, or there is no such node.
        """
        if call.is_narrowed and not call.may_reach(await self._trees.name_of_node(node_id)):
            raise NodeNotFound(node_id)
