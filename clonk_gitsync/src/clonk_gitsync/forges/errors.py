"""Errors about pull requests and forges, each a leaf of the core's tree.

Conflict
├── NothingToMerge       gitsync.nothing_to_merge
└── ForgeRefused         gitsync.forge_refused
NotFound
└── NoSuchPullRequest    gitsync.no_such_pull_request
RateLimited
└── ForgeLimited         gitsync.forge_limited
Unavailable
├── NoForge              gitsync.no_forge
└── ForgeFailed          gitsync.forge_failed
"""

from typing import Literal, TypeAlias

from clonk_core.plugin import Conflict, NotFound, RateLimited, Unavailable

RefusalReason: TypeAlias = Literal["authentication", "forbidden", "not_found", "conflict", "invalid", "refused"]
FailureReason: TypeAlias = Literal["unreachable", "too_slow", "redirected", "too_large", "not_understood", "failed"]


class NothingToMerge(Conflict):
    """The work branch has no commit that the remote's default branch lacks: there is nothing to open a request for."""

    kind = "gitsync.nothing_to_merge"

    def __init__(self, branch: str) -> None:
        super().__init__(
            f"{branch!r} has no commit that the remote lacks; `gitsync.commit` or `gitsync.sync` first", branch=branch
        )


class NoSuchPullRequest(NotFound):
    """There is no such pull request, or not for the token of the configuration."""

    kind = "gitsync.no_such_pull_request"

    def __init__(self, *, branch: str | None = None, number: int | None = None) -> None:
        what = f"of the branch {branch!r}; `gitsync.create_pr` makes one" if number is None else f"number {number}"
        super().__init__(f"there is no pull request {what}", branch=branch, number=number)


class NoForge(Unavailable):
    """No forge is configured for the host of the workspace's remote, or it has no use for this remote."""

    kind = "gitsync.no_forge"

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"no pull requests for remotes of {host or 'this machine'}: {reason}", host=host)


class ForgeRefused(Conflict):
    """The forge did not do it.

    `data.reason` is `authentication` (401), `forbidden` (403), `not_found` (404: there is none, or not for this token),
    `conflict` (409), `invalid` (400, 422) or `refused`; `data.status` is the HTTP status and `data.said` what the forge
    says to it, shortened.
    """

    kind = "gitsync.forge_refused"

    def __init__(self, reason: RefusalReason, status: int, said: str) -> None:
        words = {
            "authentication": "it does not accept the token; see gitsync.forges",
            "forbidden": "the token may not do this",
            "not_found": "there is no such repository, branch or request, or not for this token",
            "conflict": "something is in the way",
            "invalid": "it does not take this",
            "refused": f"it answered {status}",
        }
        text = f"the forge: {words[reason]}" + (f" ({said})" if said else "")
        super().__init__(text, reason=reason, status=status, said=said)


class ForgeLimited(RateLimited):
    """The forge wants fewer requests; come back after `data.retry_after_s` seconds."""

    kind = "gitsync.forge_limited"

    def __init__(self, retry_after_s: float, until: str) -> None:
        super().__init__(f"the forge's limit of requests is used up until {until}", retry_after_s=retry_after_s)


class ForgeFailed(Unavailable):
    """The forge gave no answer that can be used; whether it did what it was asked is not known.

    `data.reason` is `unreachable`, `too_slow`, `redirected`, `too_large`, `not_understood` or `failed` (5xx); the log
    says more.
    """

    kind = "gitsync.forge_failed"

    def __init__(self, reason: FailureReason) -> None:
        words = {
            "unreachable": "it cannot be reached",
            "too_slow": "it took too long",
            "redirected": "it leads elsewhere and is not followed: the repository was renamed, or api_url is wrong",
            "too_large": "its answer is too large; ask for fewer",
            "not_understood": "its answer cannot be understood; see gitsync.forges[].kind and api_url",
            "failed": "it failed; try again later",
        }
        super().__init__(f"the forge: {words[reason]}", reason=reason)
