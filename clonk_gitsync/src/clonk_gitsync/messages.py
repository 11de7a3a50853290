"""What gitsync's methods take and return."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import attrs

from clonk_core.plugin import ErrorObject, MaxLen
from clonk_gitsync.forges.interface import PullRequest

StatusWord: TypeAlias = Literal[
    "clean", "dirty", "ahead", "behind", "diverged", "merging", "detached", "missing", "no_remote"
]
SyncStatus: TypeAlias = Literal["pushed", "committed", "up_to_date", "rejected"]
PullMode: TypeAlias = Literal["ff", "merge", "rebase"]
Source: TypeAlias = Literal["registered", "mapping", "discovered", "cloned"]
Message = Annotated[str, MaxLen(20_000)]


@attrs.frozen(kw_only=True)
class WorkspaceConfig:
    """One folder and the branch of the repository it belongs to.

    Attributes:
        path: The folder, absolute, symbolic links resolved.
        remote: Where the repository lives, as git takes it: `git@github.com:org/repo.git`.
        branch: Branch that the folder's work belongs to. When it is protected, work goes to a branch of Clonk's own.
        auto_commit: Whether each completed chat is committed.
        auto_push: Whether each commit is pushed.
        base: Branch that the work is meant for, never pushed to; null for none but the remote's default branch.
        protect: Patterns of further branches that are never pushed to.
        source: How it came to be registered: by `register` or `clone`, by `workspaces.mappings`, or as
            `workspaces.auto_discover` found it.
    """

    path: Path
    remote: str
    branch: str
    auto_commit: bool = False
    auto_push: bool = False
    base: str | None = None
    protect: tuple[str, ...] = ()
    source: Source = "registered"


@attrs.frozen(kw_only=True)
class WorkspaceStatus:
    """How a workspace is.

    Attributes:
        path: The folder.
        status: One word for the whole, the first that is true: `missing` (no folder, or no repository in it that may be
            used), `merging` (in the middle of a merge, rebase or the like), `detached`, `dirty`, `diverged`, `ahead`,
            `behind`, `no_remote` (the work branch was never pushed or fetched), `clean`.
        branch: What is checked out; null when HEAD is detached.
        commit: What HEAD is; null before the first commit.
        work_branch: Where work goes.
        ahead: Commits that the remote's branch lacks.
        behind: Commits of the remote's branch that are lacking here.
        staged: Files that differ between HEAD and the index.
        unstaged: Files that differ from the index.
        untracked: Files that git does not know.
        conflicted: Files in conflict.
    """

    path: Path
    status: StatusWord
    branch: str | None = None
    commit: str | None = None
    work_branch: str | None = None
    ahead: int = 0
    behind: int = 0
    staged: int = 0
    unstaged: int = 0
    untracked: int = 0
    conflicted: int = 0


@attrs.frozen(kw_only=True)
class FileDiff:
    r"""What has changed in one file.

    Attributes:
        path: Its path below the folder. What is no UTF-8 in it is shown as `\xNN`.
        old_path: What it was called before, when it was renamed or copied.
        change: How it has changed.
        is_binary: Whether it is no text; then there are no hunks and no lines.
        insertions: Lines added.
        deletions: Lines removed.
        old_size: Bytes it had; null when it was not there.
        new_size: Bytes it has; null when it is there no more.
        hunks: Its part of the unified diff, a text for each hunk, from `@@` on.
    """

    path: str
    change: Literal["added", "modified", "deleted", "renamed", "copied", "type_changed"]
    old_path: str | None = None
    is_binary: bool = False
    insertions: int = 0
    deletions: int = 0
    old_size: int | None = None
    new_size: int | None = None
    hunks: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Diff:
    """What has changed, file by file.

    Attributes:
        against: The commit it is compared with; null before the first one.
        files: The files, in git's order, at most 5000.
        left_out: Files that a commit would leave out: too large, behind a filter, or repositories of their own.
        truncated: Whether hunks are missing because the diff is longer than `gitsync.max_diff_bytes`, or files because
            they are too many; `paths` asks for a part.
    """

    against: str | None
    files: tuple[FileDiff, ...]
    left_out: tuple[str, ...] = ()
    truncated: bool = False


@attrs.frozen(kw_only=True)
class LogEntry:
    """One commit.

    Attributes:
        commit: Its id.
        parents: What it was made from.
        author: Name of its author.
        email: The author's address.
        date: When it was made.
        subject: First line of its message.
        body: The rest.
    """

    commit: str
    parents: tuple[str, ...]
    author: str
    email: str
    date: datetime
    subject: str
    body: str


@attrs.frozen(kw_only=True)
class CommitResult:
    """What a commit holds.

    Attributes:
        commit: Its id; of HEAD when nothing had changed, null when there is none.
        branch: The branch it is on.
        made: Whether there was anything to commit.
        files_changed: Files that it changes.
        insertions: Lines added.
        deletions: Lines removed.
        left_out: Files that were left out: too large, behind a filter, or repositories of their own.
    """

    commit: str | None
    branch: str | None
    made: bool
    files_changed: int = 0
    insertions: int = 0
    deletions: int = 0
    left_out: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class PushResult:
    """Where a push has brought the remote.

    Attributes:
        pushed: Whether the remote's branch was moved; false when it was there already.
        commit: What was pushed; null when there is no commit.
        branch: The remote's branch.
        forced: Whether something else was overwritten there.
    """

    pushed: bool
    commit: str | None
    branch: str
    forced: bool = False


@attrs.frozen(kw_only=True)
class PullResult:
    """Where a pull has brought the workspace.

    Attributes:
        updated: Whether anything new came.
        before: The commit before; null for none.
        commit: The commit now.
        branch: The remote's branch that was fetched.
    """

    updated: bool
    before: str | None
    commit: str
    branch: str


@attrs.frozen(kw_only=True)
class SyncResult:
    """How a sync ended.

    Attributes:
        status: `pushed`; `committed` when the remote cannot be reached now and the next sync will push; `up_to_date`
            when there was nothing to do; `rejected` when the remote refused, or has what is lacking here.
        commit: The commit, shortened; null when there is none.
        branch: The remote's branch.
        remote: Always `origin`.
        files_changed: Files that the commit changes.
        insertions: Lines added.
        deletions: Lines removed.
    """

    status: SyncStatus
    commit: str | None
    branch: str
    remote: str = "origin"
    files_changed: int = 0
    insertions: int = 0
    deletions: int = 0


@attrs.frozen(kw_only=True)
class WorkspaceSynced:
    """One workspace of `sync_all`.

    Attributes:
        path: Which.
        result: How it ended.
        error: Why it failed; null when it did not.
    """

    type: Literal["workspace"] = "workspace"
    path: Path
    result: SyncResult | None = None
    error: ErrorObject | None = None


@attrs.frozen(kw_only=True)
class Cloned:
    """A workspace that was made by `clone`.

    Attributes:
        workspace: It, registered.
        commit: What is checked out; null for an empty repository.
    """

    type: Literal["cloned"] = "cloned"
    workspace: WorkspaceConfig
    commit: str | None


@attrs.frozen(kw_only=True)
class CreatedPullRequest(PullRequest):
    """A pull request that was made, or was there and is up to date now.

    Attributes:
        created: Whether it was made now.
        pushed: Whether the work branch was moved at the remote before.
    """

    created: bool
    pushed: bool


@attrs.frozen(kw_only=True)
class PullRequestList:
    """A page of pull requests.

    Attributes:
        requests: They, the newest first; texts longer than 1000 characters are cut.
        after: What `after` must be for the next page; null at the end.
    """

    requests: tuple[PullRequest, ...]
    after: str | None = None
