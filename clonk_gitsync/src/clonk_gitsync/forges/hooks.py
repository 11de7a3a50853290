"""The hook by which other packages add forges."""

from collections.abc import Sequence
from typing import Any

from clonk_core.plugin import Host, hookspec


@hookspec
def gitsync_forges(host: Host) -> Sequence[Any]:  # type: ignore[empty-body]
    """Return a list of kinds of forges for pull requests, beside GitHub, GitLab and Gitea.

    Each is a `ForgeKind` of `clonk_gitsync.forges.interface`, the one module of gitsync that another package imports,
    and that in this function, so that it can be loaded where gitsync is not. `kind` in `gitsync.forges` then names it.
    A name that is taken is left out and told to the log.

    Args:
        host: What the host gives to the package that adds them.
    """
