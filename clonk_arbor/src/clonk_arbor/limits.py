"""How large things may become, and why."""

from typing import Final

MIB: Final = 1024 * 1024

MAX_CONTENT_BYTES: Final = 10 * MIB
"""Largest content of one node, as JSON, where the configuration says no other."""

MAX_NESTING: Final = 128
"""Deepest nesting of a stored value: what is kept can be read back on any stack, and by clients' parsers."""

MAX_METADATA_BYTES: Final = 16 * 1024
"""Largest metadata of one tree, node or position, as JSON."""

MAX_ROOTS: Final = 1000
"""Most roots of one tree: `tree_get` gives them all at once."""

MAX_DEPTH: Final = 1_000_000
"""Deepest node."""

MAX_POSITIONS: Final = 1000
"""Most positions of one tree: each is looked at before nodes are deleted."""

MAX_OWNERS: Final = 100
"""Most claims on one tree: `tree_get` gives them all at once."""

MAX_BATCH: Final = 10_000
"""Most nodes created by one call: some 0.1 s in which nobody else can write."""

MAX_BATCH_BYTES: Final = 16 * MIB
"""Most content of one call."""

MAX_SUBTREE: Final = 200_000
"""Most nodes that one call moves or deletes: a few seconds in which nobody else can write."""

MAX_IMPORT_BYTES: Final = 512 * MIB
"""Largest text of an import. Over the wire the server's own limit of a message comes first."""

PAGE_BYTES: Final = 4 * MIB
"""A page of nodes ends early with the node that fills it to this: no answer is larger by more than one node."""

CHANGE_SPAN: Final = 500
"""Most new nodes that one change tells of."""
