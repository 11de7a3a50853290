"""What arbor's methods return of a tree as a whole: contexts, leaves, matches, drawings, exports, changes."""

from datetime import datetime
from typing import Literal

import attrs

from clonk_arbor.messages import Handle, Kind, NodeId, TreeId
from clonk_core.plugin import JsonValue, Written

ObjectState = Literal["resolved", "unresolved", "missing", "forbidden", "failed"]


@attrs.frozen
class NodeEntry:
    """A node of a context with a content of its own.

    Attributes:
        node_id: The node.
        content: What it holds.
    """

    node_id: NodeId
    content: JsonValue
    type: Literal["node"] = "node"


@attrs.frozen(kw_only=True)
class ObjectEntry:
    """A node of a context that holds a handle.

    Attributes:
        node_id: The node.
        handle: The handle.
        state: `resolved`: the object is there; `missing`: there is no such object (any more); `forbidden`: it is not
            for this caller; `failed`: it could not be read now; `unresolved`: it was not asked for.
        content: The object; null where there is none.
        reason: Why there is none; null where there is one.
    """

    type: Literal["object"] = "object"
    node_id: NodeId
    handle: Handle
    state: ObjectState
    content: JsonValue
    reason: str | None


@attrs.frozen(kw_only=True)
class Context:
    """The path from a root to a node, as much of it as was asked for.

    Attributes:
        tree_id: The tree.
        node_id: The node.
        entries: Its nodes, the root's end first. Those nearest to the node are kept where not all fit.
        left_out: How many nodes at the root's end did not fit.
        bytes: Bytes of the contents, as JSON.
        tokens: About how many tokens they are for a model: a fourth of the bytes of each, rounded up.
    """

    tree_id: TreeId
    node_id: NodeId
    entries: Written[tuple[NodeEntry | ObjectEntry, ...]]
    left_out: int
    bytes: int
    tokens: int


@attrs.frozen(kw_only=True)
class Leaf:
    """A node without children: the end of a branch.

    Attributes:
        node_id: The node.
        depth: How many ancestors it has.
        kind: What it holds.
        created_at: When it was created (UTC).
    """

    node_id: NodeId
    depth: int
    kind: Kind
    created_at: datetime


@attrs.frozen(kw_only=True)
class NodeHandle:
    """A handle on a path.

    Attributes:
        node_id: The node that holds it.
        depth: How many ancestors that has.
        handle: The handle, not resolved.
    """

    node_id: NodeId
    depth: int
    handle: Handle


@attrs.frozen(kw_only=True)
class Match:
    """A node that was found.

    Attributes:
        tree_id: Its tree.
        tree_name: What people call that.
        node_id: The node.
        depth: How many ancestors it has.
        kind: What it holds.
        snippet: Some 200 characters of its text around the first word that was looked for.
        created_at: When it was created (UTC).
    """

    tree_id: TreeId
    tree_name: str
    node_id: NodeId
    depth: int
    kind: Kind
    snippet: str
    created_at: datetime


@attrs.frozen(kw_only=True)
class Rendering:
    """A drawing of a tree, or a page of it.

    Attributes:
        text: One line for each node; a branch is indented, a node with one child is followed by it.
        after: The last node drawn, when there is more: to be given as `after` for the next page. Null at the end.
    """

    text: str
    after: NodeId | None


@attrs.frozen(kw_only=True)
class Export:
    """A page of an exported tree.

    Attributes:
        lines: JSON lines, each with its line end. The pages one behind the other are the whole.
        version: Number of the tree's last change, to be given for the next page.
        after: The last node in it, when there is more: to be given as `after` for the next page. Null at the end.
    """

    lines: str
    version: int
    after: NodeId | None


@attrs.frozen(kw_only=True)
class Imported:
    """A tree that was imported.

    Attributes:
        tree_id: The new tree.
        node_count: How many nodes it has.
        position_count: How many positions it has.
        root_ids: Its roots, oldest first.
    """

    tree_id: TreeId
    node_count: int
    position_count: int
    root_ids: tuple[NodeId, ...]


@attrs.frozen(kw_only=True)
class CreatedNode:
    """A new node.

    Attributes:
        id: Names it.
        parent_id: Node it follows; null for a root.
        kind: What it holds.
    """

    id: NodeId
    parent_id: NodeId | None
    kind: Kind


@attrs.frozen(kw_only=True)
class NodesCreated:
    """Nodes were created.

    Attributes:
        version: Number of the change.
        at: When (UTC).
        nodes: The nodes as they are now, oldest first; at most 500. Those deleted since are missing.
    """

    type: Literal["nodes_created"] = "nodes_created"
    version: int
    at: datetime
    nodes: tuple[CreatedNode, ...]


@attrs.frozen(kw_only=True)
class NodeMoved:
    """A node was moved, with all below it.

    Attributes:
        version: Number of the change.
        at: When (UTC).
        node_id: The node.
        parent_id: Its new parent; null when it became a root.
    """

    type: Literal["node_moved"] = "node_moved"
    version: int
    at: datetime
    node_id: NodeId
    parent_id: NodeId | None


@attrs.frozen(kw_only=True)
class NodesDeleted:
    """A node was deleted, with all below it.

    Attributes:
        version: Number of the change.
        at: When (UTC).
        node_id: The node.
        count: How many nodes were deleted.
    """

    type: Literal["nodes_deleted"] = "nodes_deleted"
    version: int
    at: datetime
    node_id: NodeId
    count: int


@attrs.frozen(kw_only=True)
class PositionChanged:
    """A position was created, moved or deleted.

    Attributes:
        version: Number of the change.
        at: When (UTC).
        name: The position.
        node_id: The node it points to; null when it was deleted.
    """

    type: Literal["position_changed"] = "position_changed"
    version: int
    at: datetime
    name: str
    node_id: NodeId | None


@attrs.frozen(kw_only=True)
class TreeUpdated:
    """The tree got another name or other metadata, was archived or restored.

    Attributes:
        version: Number of the change.
        at: When (UTC).
        what: Which of these.
    """

    type: Literal["tree_updated"] = "tree_updated"
    version: int
    at: datetime
    what: Literal["updated", "archived", "restored"]


@attrs.frozen(kw_only=True)
class TreeDeleted:
    """The tree was deleted, or is not for this caller any more; nothing follows."""

    type: Literal["tree_deleted"] = "tree_deleted"


@attrs.frozen(kw_only=True)
class ChangesLost:
    """Changes are kept no more; read the tree anew.

    Attributes:
        first: Number of the first that is missing.
        last: Number of the last that is missing.
    """

    type: Literal["changes_lost"] = "changes_lost"
    first: int
    last: int


Change = NodesCreated | NodeMoved | NodesDeleted | PositionChanged | TreeUpdated | TreeDeleted | ChangesLost
"""What happened to a tree."""
