"""Errors of gitsync's own, each a leaf of the core's tree.

Conflict
└── AlreadyRegistered    gitsync.already_registered
"""

from clonk_core.plugin import Conflict


class AlreadyRegistered(Conflict):
    """The folder is registered with another remote or branch."""

    kind = "gitsync.already_registered"

    def __init__(self, path: str, remote: str, branch: str) -> None:
        super().__init__(
            f"{path!r} is registered with branch {branch!r} of {remote!r}; `gitsync.unregister` it first",
            path=path,
            remote=remote,
            branch=branch,
        )
