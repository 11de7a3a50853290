"""Errors of gitsync's own, each a leaf of the core's tree.

Forbidden
└── PathOutsideRoots     gitsync.path_outside_roots
NotFound
└── FolderNotFound       gitsync.folder_not_found
Conflict
└── AlreadyRegistered    gitsync.already_registered
"""

from clonk_core.plugin import Conflict, Forbidden, NotFound


class PathOutsideRoots(Forbidden):
    """The path leads, symbolic links resolved, to a place outside the allowed folders."""

    kind = "gitsync.path_outside_roots"

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path!r} is not below an allowed folder; the operator sets them in `workspaces.roots`", path=path
        )


class FolderNotFound(NotFound):
    """There is no folder at the path."""

    kind = "gitsync.folder_not_found"

    def __init__(self, path: str) -> None:
        super().__init__(f"there is no folder {path!r}; create it first", path=path)


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
