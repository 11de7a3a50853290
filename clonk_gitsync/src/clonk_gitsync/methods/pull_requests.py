"""Methods about pull requests."""

from pathlib import Path
from typing import Annotated, Final

from clonk_core.plugin import Ge, Le, MaxLen, MinLen, Pattern, method
from clonk_gitsync import errors
from clonk_gitsync.forges.errors import (
    ForgeFailed,
    ForgeLimited,
    ForgeRefused,
    NoForge,
    NoSuchPullRequest,
    NothingToMerge,
)
from clonk_gitsync.forges.interface import PullRequest, StateFilter
from clonk_gitsync.messages import CreatedPullRequest, PullRequestList
from clonk_gitsync.methods.common import LONG_S, ON_DISK, WITH_REMOTE, Name
from clonk_gitsync.pull_requests import PullRequests
from clonk_gitsync.workspaces import Workspaces

WITH_FORGE: Final = (NoForge, ForgeRefused, ForgeLimited, ForgeFailed)

Label = Annotated[str, Pattern(r"[^,\x00-\x1f]{1,255}", "1 to 255 characters without commas")]
Reviewer = Annotated[str, Pattern(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)?", "a user, or organisation/team")]


class PullRequestMethods:
    """What `GitSync` offers about pull requests."""

    _workspaces: Workspaces
    _pull_requests: PullRequests

    @method(
        target="path",
        idempotent=True,
        deadline_s=LONG_S,
        errors=[*ON_DISK, *WITH_REMOTE, errors.PushRejected, NothingToMerge, *WITH_FORGE],
    )
    async def create_pr(
        self,
        path: Path,
        title: Annotated[str, MinLen(1), MaxLen(256)],
        body: Annotated[str, MaxLen(1_048_576)],
        base: Name | None = None,
        draft: bool | None = None,
        labels: Annotated[tuple[Label, ...], MaxLen(50)] = (),
        reviewers: Annotated[tuple[Reviewer, ...], MaxLen(50)] = (),
    ) -> CreatedPullRequest:
        """Open a pull request for the work branch, or bring the open one up to date. What is committed is pushed first.

        Files that are not committed stay out: `gitsync.sync` commits them. Called twice, or at the same time, it makes
        one request; after a failure, a repeated call finishes what was begun.

        Args:
            path: The folder, absolute.
            title: One line; GitHub takes 249 characters, others 248.
            body: Its text, Markdown; GitHub takes 65,536 characters, others 1,048,576. It replaces that of an open
                request.
            base: Branch to merge into. When left out, that of the branch's open request; else the workspace's `base`,
                the registered branch if it is protected, or the remote's default branch.
            draft: Whether it is a draft. When left out, a new one is none and an open one stays what it is. GitHub
                cannot change an open one.
            labels: Labels to add. One that is not there is made.
            reviewers: Users to ask for a review, beside those who are asked; `organisation/team` for a team of GitHub's
                or Gitea's.

        Raises:
            NotRegistered: It is not registered.
            NotARepository, GitUnusable: There is no repository that may be used, or git failed.
            BranchProtected: The work branch is protected, here or by the remote.
            RemoteNotAllowed: The configuration does not allow the remote.
            RemoteFailed, PushRejected: The work branch cannot be pushed.
            NothingToMerge: There is no commit that the remote's default branch lacks.
            NoForge: The configuration has no forge for the remote's host.
            ForgeRefused: The forge did not do it; its own words are in `data.said`.
            ForgeLimited: The forge wants fewer requests.
            ForgeFailed: The forge gave no answer that can be used.
            InvalidParams: Title or text are too long for the forge, or it knows no such reviewer.
        """
        return await self._pull_requests.create(
            await self._workspaces.get(path),
            title=title,
            body=body,
            base=base,
            draft=draft,
            labels=labels,
            reviewers=reviewers,
        )

    @method(
        scope="read",
        target="path",
        read_only=True,
        idempotent=True,
        deadline_s=LONG_S,
        errors=[*ON_DISK, errors.RemoteNotAllowed, NoSuchPullRequest, *WITH_FORGE],
    )
    async def get_pr(self, path: Path, number: Annotated[int, Ge(1), Le(2**53)] | None = None) -> PullRequest:
        """Return a pull request, as the forge tells it now.

        Args:
            path: The folder, absolute.
            number: Its number; when left out, the open one of the work branch, or the last that it had.

        Raises:
            NotRegistered: It is not registered.
            NotARepository, GitUnusable: There is no repository that may be used, or git failed.
            RemoteNotAllowed: The configuration does not allow the remote.
            NoSuchPullRequest: There is none, or not for the token of the configuration.
            NoForge: The configuration has no forge for the remote's host.
            ForgeRefused, ForgeLimited, ForgeFailed: The forge did not answer.
        """
        return await self._pull_requests.get(await self._workspaces.get(path), number)

    @method(
        scope="read",
        target="path",
        read_only=True,
        idempotent=True,
        deadline_s=LONG_S,
        errors=[errors.NotRegistered, errors.RemoteNotAllowed, *WITH_FORGE],
    )
    async def list_prs(
        self,
        path: Path,
        state: StateFilter = "open",
        limit: Annotated[int, Ge(1), Le(100)] = 30,
        after: Annotated[str, MaxLen(20)] | None = None,
    ) -> PullRequestList:
        """Return pull requests of the workspace's repository, whoever made them, newest first, a page at a time.

        Args:
            path: The folder, absolute.
            state: Only these.
            limit: At most this many. There may be fewer although more follow: Gitea gives 50 at once, and GitHub and
                Gitea do not sort merged from closed ones.
            after: `after` of the page before, whose limit holds on; leave it out for the first page. A request that is
                made meanwhile may shift another one to the next page, where it is seen again.

        Raises:
            NotRegistered: It is not registered.
            RemoteNotAllowed: The configuration does not allow the remote.
            NoForge: The configuration has no forge for the remote's host.
            ForgeRefused, ForgeLimited, ForgeFailed: The forge did not answer.
        """
        return await self._pull_requests.list(await self._workspaces.get(path), state=state, limit=limit, after=after)
