"""Methods about what lies along a path, and about finding nodes."""

from typing import Annotated

from clonk_arbor.context import Budget, Contexts
from clonk_arbor.errors import NodeNotFound, TreeNotFound
from clonk_arbor.limits import MIB
from clonk_arbor.messages import NodeRef, PageSize, TreeRef
from clonk_arbor.resolve import Resolver
from clonk_arbor.search import Search
from clonk_arbor.views import Context, Leaf, Match, NodeHandle
from clonk_core.plugin import Call, Ge, Host, InvalidParams, Le, MaxLen, MinLen, method


class ContextMethods:
    """What `Arbor` offers about contexts."""

    _host: Host
    _contexts: Contexts
    _search: Search

    @method(scope="read", narrows=True, read_only=True, idempotent=True, errors=[NodeNotFound])
    async def context_get(
        self,
        call: Call,
        node_id: NodeRef,
        max_tokens: Annotated[int, Ge(0), Le(100_000_000)] | None = None,
        max_bytes: Annotated[int, Ge(0), Le(64 * MIB)] = 4 * MIB,
        resolve: bool = True,
    ) -> Context:
        """Return what a model would be given at a node: the path from its root, within a budget.

        Handles are resolved by asking the activations that own the objects, as the caller; an object that is missing,
        or not for the caller, is shown as such. At most 100 are resolved, those nearest to the node. Whole nodes are
        left out at the root's end where not all fit.

        Args:
            node_id: Node at the end of the path.
            max_tokens: At most about this many tokens, four bytes of JSON each.
            max_bytes: At most this many bytes of JSON.
            resolve: Resolve handles; false shows them as they are.

        Raises:
            NodeNotFound: There is no such node.
        """
        resolver = Resolver(self._host, call.caller) if resolve else None
        return await self._contexts.get(node_id, Budget(max_bytes, max_tokens), resolver, call.may_reach)

    @method(
        scope="read", narrows=True, read_only=True, idempotent=True, errors=[TreeNotFound, NodeNotFound, InvalidParams]
    )
    async def context_leaves(
        self, call: Call, tree_id: TreeRef, limit: PageSize = 200, after: NodeRef | None = None
    ) -> tuple[Leaf, ...]:
        """Return the ends of a tree's branches, the nodes without children, oldest first, a page at a time.

        Args:
            tree_id: The tree.
            limit: At most this many; fewer come back only at the end.
            after: Id of the last node of the page before; leave it out for the first page.

        Raises:
            TreeNotFound: There is no such tree.
            NodeNotFound: There is no such `after`.
            InvalidParams: `after` is in another tree.
        """
        return await self._contexts.leaves(tree_id, limit, after, call.may_reach)

    @method(scope="read", narrows=True, read_only=True, idempotent=True, errors=[NodeNotFound, InvalidParams])
    async def context_handles(
        self, call: Call, node_id: NodeRef, limit: PageSize = 200, after: NodeRef | None = None
    ) -> tuple[NodeHandle, ...]:
        """Return the handles on the path to a node, the root's end first, not resolved, a page at a time.

        Args:
            node_id: Node at the end of the path.
            limit: At most this many; fewer come back only at the end.
            after: Id of the last node of the page before; leave it out for the first page.

        Raises:
            NodeNotFound: There is no such node, or no such `after`.
            InvalidParams: `after` is not on the path.
        """
        return await self._contexts.handles(node_id, limit, after, call.may_reach)

    @method(
        scope="read", narrows=True, read_only=True, idempotent=True, errors=[TreeNotFound, NodeNotFound, InvalidParams]
    )
    async def context_search(
        self,
        call: Call,
        query: Annotated[str, MinLen(1), MaxLen(1000)],
        tree_id: TreeRef | None = None,
        limit: PageSize = 50,
        after: NodeRef | None = None,
    ) -> tuple[Match, ...]:
        """Find nodes by the words in them, newest first, a page at a time.

        Args:
            query: Words that must all be there; `"several words"` in this order, `begin*` for a beginning. Case and
                accents do not count. Texts and all strings in JSON values are looked at, up to 1 MiB of a node.
            tree_id: Only in this tree.
            limit: At most this many; fewer come back only at the end.
            after: Id of the last node of the page before; leave it out for the first page.

        Raises:
            TreeNotFound: There is no such tree.
            NodeNotFound: There is no such `after`.
            InvalidParams: There is no word in the query.
        """
        return await self._search.find(query, limit, tree_id=tree_id, after=after, reach=call.may_reach)
