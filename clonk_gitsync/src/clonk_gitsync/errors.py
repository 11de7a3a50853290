"""Errors of gitsync's own, each a leaf of the core's tree. Those about pull requests are in `forges/errors.py`.

Conflict
├── AlreadyRegistered    gitsync.already_registered
├── NotARepository       gitsync.not_a_repository
├── WorkspaceBusy        gitsync.workspace_busy
├── BranchDiverged       gitsync.branch_diverged
├── MergeConflict        gitsync.merge_conflict
└── PushRejected         gitsync.push_rejected
Forbidden
├── RemoteNotAllowed     gitsync.remote_not_allowed
└── BranchProtected      gitsync.branch_protected
NotFound
└── NotRegistered        gitsync.not_registered
Unavailable
├── RemoteFailed         gitsync.remote_failed
├── GitUnusable          gitsync.git_failed
└── SigningFailed        gitsync.signing_failed
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from clonk_core.plugin import Conflict, Forbidden, NotFound, Unavailable

RemoteProblem: TypeAlias = Literal[
    "authentication", "host_key", "not_found", "unreachable", "too_slow", "refused", "disk_full", "failed"
]


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


class NotARepository(Conflict):
    """The folder is no git repository that may be used."""

    kind = "gitsync.not_a_repository"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path!r} {reason}", path=path)


class WorkspaceBusy(Conflict):
    """The workspace is in a state in which nothing is done; `data.state` says which: `merge`, `index_locked`, `dirty`.

    `branch_locked` and `checked_out_elsewhere` are about the branch that work goes to. `data.paths` names files that
    are in the way, at most 100.
    """

    kind = "gitsync.workspace_busy"

    def __init__(self, state: str, message: str, paths: Sequence[str] = ()) -> None:
        more = {"paths": list(paths)} if paths else {}
        super().__init__(message, state=state, **more)


class BranchDiverged(Conflict):
    """Two branches have each something that the other lacks, and neither is overwritten."""

    kind = "gitsync.branch_diverged"

    def __init__(self, branch: str, message: str) -> None:
        super().__init__(message, branch=branch)


class MergeConflict(Conflict):
    """A merge or rebase would change the same in two ways. Nothing was changed.

    `data.paths` names the files, at most 100; `data.commit` the commit that a rebase could not put on the others, null
    in a merge.
    """

    kind = "gitsync.merge_conflict"

    def __init__(self, branch: str, paths: Sequence[str], commit: str | None) -> None:
        shown = ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")
        super().__init__(
            f"{branch!r} of the remote and the commits here change the same: {shown}; nothing was changed here",
            branch=branch,
            paths=list(paths),
            commit=commit,
        )


class PushRejected(Conflict):
    """The remote's branch has moved on, or the server refused the push; nothing was overwritten."""

    kind = "gitsync.push_rejected"

    def __init__(self, branch: str, reason: str) -> None:
        super().__init__(f"the remote refused {branch!r}: {reason}", branch=branch, reason=reason)


class RemoteNotAllowed(Forbidden):
    """The remote may not be used; the message says why."""

    kind = "gitsync.remote_not_allowed"

    def __init__(self, reason: str) -> None:
        super().__init__(f"this remote may not be used: {reason}")


class BranchProtected(Forbidden):
    """The branch is protected: it is never pushed to."""

    kind = "gitsync.branch_protected"

    def __init__(self, branch: str) -> None:
        super().__init__(f"{branch!r} is protected and is never pushed to; work on another branch", branch=branch)


class NotRegistered(NotFound):
    """The folder is not registered."""

    kind = "gitsync.not_registered"

    def __init__(self, path: str) -> None:
        super().__init__(f"{path!r} is not registered; `gitsync.register` it first", path=path)


class RemoteFailed(Unavailable):
    """The exchange with the remote failed.

    `data.reason` is `authentication`, `host_key`, `not_found`, `unreachable`, `too_slow`, `refused`, `disk_full` or
    `failed`; the log has git's own words.
    """

    kind = "gitsync.remote_failed"

    def __init__(self, reason: RemoteProblem) -> None:
        words = {
            "authentication": "it does not accept the credential; see gitsync.credentials",
            "host_key": "its host key is not known; see gitsync.known_hosts",
            "not_found": "there is no such repository or branch, or not for this credential",
            "unreachable": "it cannot be reached",
            "too_slow": "it took too long (gitsync.network_timeout_s)",
            "refused": "it refused",
            "disk_full": "no room is left on the disk, here or there",
            "failed": "the exchange failed; the log says more",
        }
        super().__init__(f"the remote: {words[reason]}", reason=reason)


class GitUnusable(Unavailable):
    """Git is missing, or failed on the workspace; the log has its words."""

    kind = "gitsync.git_failed"

    def __init__(self, message: str = "git failed on this workspace; the server's log says why") -> None:
        super().__init__(message)


class SigningFailed(Unavailable):
    """A commit is to be signed (`gitsync.signing_key`) and cannot be, so it was not made; the message says why."""

    kind = "gitsync.signing_failed"

    def __init__(self, reason: str) -> None:
        super().__init__(f"nothing was committed, since it cannot be signed: {reason}", reason=reason)
