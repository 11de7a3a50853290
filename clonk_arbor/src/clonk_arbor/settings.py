"""The section `arbor` of `clonk.yaml`."""

from typing import Annotated

import attrs

from clonk_arbor.limits import MAX_CONTENT_BYTES, MIB
from clonk_core.plugin import Ge, Gt, Le


@attrs.frozen(kw_only=True)
class ArborSettings:
    """Conversation trees.

    Attributes:
        max_content_bytes: Largest content of one node, as JSON, in bytes. Over the wire `server.max_body_bytes` and
            `server.max_message_bytes` come first, which count the whole request.
        archived_retention_s: How long an archived tree is kept before it is deleted for good, in seconds; one that
            somebody claims is kept. None: for ever.
        purge_interval_s: How often what is over its time is looked for, in seconds.
        changes_kept: How many of a tree's last changes `arbor.tree_watch` can go back, at least.
    """

    max_content_bytes: Annotated[int, Ge(1024), Le(64 * MIB)] = MAX_CONTENT_BYTES
    archived_retention_s: Annotated[float, Gt(0), Le(100 * 366 * 86_400)] | None = None
    purge_interval_s: Annotated[float, Gt(0), Le(7 * 86_400)] = 3600.0
    changes_kept: Annotated[int, Ge(0), Le(1_000_000)] = 10_000
