"""What arbor's methods take and return: trees, nodes and positions. What is read along a path is in `views.py`."""

from datetime import datetime
from typing import Annotated, Literal, NewType

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

PositionName = Annotated[
    str, MinLen(1), MaxLen(100), Pattern(r"[^\u0000-\u001f\u007f]*", says="no control characters are allowed")
]
"""What people call a place in a tree: 1 to 100 characters on one line; unique in its tree."""

OwnerName = Annotated[
    str, MinLen(1), MaxLen(200), Pattern(r"[^\u0000-\u001f\u007f]*", says="no control characters are allowed")
]
"""Who claims a tree, such as `claudecode:sess_...`: 1 to 200 characters on one line."""

PageSize = Annotated[int, Ge(1), Le(1000)]
"""Most entries of one page."""

Version = Annotated[int, Ge(0), Le(2**53)]
"""Number of a change."""

Metadata = dict[str, JsonValue]
"""Members of the caller's own; kept and given back, never looked into. At most 16 KiB as JSON."""

Kind = Literal["text", "json", "handle"]
"""What a node holds: a string, another JSON value, or a handle to another activation's object."""


@attrs.frozen(kw_only=True)
class Handle:
    """Names an object of another activation by the call that reads it.

    As a node's content it is written `{"$handle": {"method": "claudecode.get", "params": {"name": "main"}}}`.

    Attributes:
        method: A plain method that only reads, of another activation than arbor.
        params: Its arguments.
    """

    method: str
    params: dict[str, JsonValue]


@attrs.frozen(kw_only=True)
class TreeSummary:
    """One tree, as a list shows it.

    Attributes:
        id: Names the tree.
        name: What people call it.
        metadata: Members that its creator gave.
        created_at: When it was created (UTC).
        node_count: How many nodes it has.
        updated_at: When it was last changed (UTC).
        version: Number of its last change; 0 for one that was never changed.
        archived_at: When it was archived (UTC); null when it is not.
    """

    id: TreeId
    name: str
    metadata: Metadata
    created_at: datetime
    node_count: int
    updated_at: datetime
    version: int
    archived_at: datetime | None


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
        updated_at: When it was last changed (UTC).
        version: Number of its last change; 0 for one that was never changed.
        archived_at: When it was archived (UTC); null when it is not.
        owners: Who claims it, by name; at most 100.
    """

    id: TreeId
    name: str
    metadata: Metadata
    created_at: datetime
    node_count: int
    root_ids: tuple[NodeId, ...]
    updated_at: datetime
    version: int
    archived_at: datetime | None
    owners: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Node:
    """One node of a tree. What it holds never changes; a conversation grows by new ones.

    Attributes:
        id: Names the node.
        tree_id: Tree it belongs to.
        parent_id: Node it follows; null for a root.
        depth: How many ancestors it has: 0 for a root.
        kind: What it holds.
        content: What its creator stored; a handle as it was given, not resolved.
        metadata: Members that its creator gave.
        created_at: When it was created (UTC).
    """

    id: NodeId
    tree_id: TreeId
    parent_id: NodeId | None
    depth: int
    kind: Kind
    content: JsonValue
    metadata: Metadata
    created_at: datetime


@attrs.frozen(kw_only=True)
class NodeDraft:
    """A node to be created together with others.

    Attributes:
        content: Any JSON value, or a handle; see `arbor.node_create`.
        metadata: Members of your own.
        parent_id: Node of the tree that it follows.
        parent_index: Instead of `parent_id`: the node of the same call that it follows, by its place in the list, from
            0; an earlier one. Without either it becomes a root.
    """

    content: JsonValue
    metadata: Metadata | None = None
    parent_id: NodeRef | None = None
    parent_index: Annotated[int, Ge(0)] | None = None


@attrs.frozen(kw_only=True)
class Position:
    """A named place in a tree.

    Attributes:
        tree_id: The tree.
        name: What people call the place.
        node_id: The node it points to.
        version: How often it was put somewhere: 1 for a new one. A move names the version it saw.
        metadata: Members that its creator gave.
        created_at: When it was created (UTC).
        moved_at: When it was last put somewhere (UTC).
    """

    tree_id: TreeId
    name: str
    node_id: NodeId
    version: int
    metadata: Metadata
    created_at: datetime
    moved_at: datetime
