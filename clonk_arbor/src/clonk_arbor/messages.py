"""What arbor's methods take and return."""

from datetime import datetime
from typing import Annotated, NewType

import attrs

from clonk_core.plugin import Ge, JsonValue, Le, MaxLen, MinLen, Pattern

TreeId = NewType("TreeId", str)
"""Names one tree: `tree_...`."""

NodeId = NewType("NodeId", str)
"""Names one node: `node_...`. Unique across trees."""

TreeRef = Annotated[TreeId, MinLen(1), MaxLen(64)]
"""A tree named by a caller; bounded, because it comes back in error messages."""

NodeRef = Annotated[NodeId, MinLen(1), MaxLen(64)]
"""A node named by a caller."""

TreeName = Annotated[
    str, MinLen(1), MaxLen(200), Pattern(r"[^\u0000-\u001f\u007f]*", says="no control characters are allowed")
]
"""What people call a tree: 1 to 200 characters on one line. Names need not be unique."""

PageSize = Annotated[int, Ge(1), Le(1000)]
"""Most entries of one page."""

Metadata = dict[str, JsonValue]
"""Members of the caller's own; kept and given back, never looked into. At most 16 KiB as JSON."""


@attrs.frozen(kw_only=True)
class TreeSummary:
    """One tree, as a list shows it.

    Attributes:
        id: Names the tree.
        name: What people call it.
        metadata: Members that its creator gave.
        created_at: When it was created (UTC).
        node_count: How many nodes it has.
    """

    id: TreeId
    name: str
    metadata: Metadata
    created_at: datetime
    node_count: int


@attrs.frozen(kw_only=True)
class Tree:
    """One tree.

    Attributes:
        id: Names the tree.
        name: What people call it.
        metadata: Members that its creator gave.
        created_at: When it was created (UTC).
        node_count: How many nodes it has.
        root_ids: Its nodes without a parent, oldest first; at most 1000.
    """

    id: TreeId
    name: str
    metadata: Metadata
    created_at: datetime
    node_count: int
    root_ids: tuple[NodeId, ...]


@attrs.frozen(kw_only=True)
class Node:
    """One node of a tree. Nodes never change; a conversation grows by new ones.

    Attributes:
        id: Names the node.
        tree_id: Tree it belongs to.
        parent_id: Node it follows; null for a root.
        depth: How many ancestors it has: 0 for a root.
        content: What its creator stored.
        metadata: Members that its creator gave.
        created_at: When it was created (UTC).
    """

    id: NodeId
    tree_id: TreeId
    parent_id: NodeId | None
    depth: int
    content: JsonValue
    metadata: Metadata
    created_at: datetime
