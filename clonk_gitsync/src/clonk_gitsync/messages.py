"""What gitsync's methods take and return."""

from pathlib import Path

import attrs


@attrs.frozen(kw_only=True)
class WorkspaceConfig:
    """One folder and the branch of the repository it belongs to.

    Attributes:
        path: The folder, absolute, symbolic links resolved.
        remote: Where the repository lives, as git takes it: `git@github.com:org/repo.git`.
        branch: Branch that the folder's work belongs to.
        auto_commit: Whether each completed chat is committed.
        auto_push: Whether each commit is pushed.
    """

    path: Path
    remote: str
    branch: str
    auto_commit: bool = False
    auto_push: bool = False
