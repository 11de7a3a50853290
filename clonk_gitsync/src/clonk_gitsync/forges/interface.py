"""What a forge is to gitsync. A package that adds one (hook `gitsync_forges`) imports this module of gitsync alone.

A forge opens no connection and sees no token: it is given a `ForgeApi` that is bound to the API's address, and says
with it what it wants.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, Protocol, TypeAlias

import attrs

from clonk_core.plugin import JsonValue

RequestState: TypeAlias = Literal["open", "merged", "closed"]
StateFilter: TypeAlias = Literal["open", "merged", "closed", "all"]

MAX_PAGE: Final = 100
"""Requests of one page: GitHub and GitLab give no more at once."""


@attrs.frozen(kw_only=True)
class PullRequest:
    """One pull request, or merge request.

    Attributes:
        number: Its number in the repository.
        url: Its page, for people.
        state: `open`, `merged`, or `closed` without having been merged.
        draft: Whether it is marked as not ready.
        title: Its title, without the mark of a draft.
        body: Its text, Markdown; in lists its beginning.
        head: Branch whose commits it wants merged.
        base: Branch that it wants them merged into.
        author: Who made it; null when the forge does not tell.
        labels: Its labels.
        reviewers: Who is asked to review it. GitHub leaves out those who have.
        created_at: When it was made.
        updated_at: When it was changed last.
        commit: Where the head is; null when the forge does not tell.
        mergeable: Whether it can be merged without conflicts; null when the forge does not tell, or not yet.
    """

    number: int
    url: str
    state: RequestState
    draft: bool
    title: str
    body: str
    head: str
    base: str
    author: str | None
    labels: tuple[str, ...]
    reviewers: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    commit: str | None
    mergeable: bool | None


@attrs.frozen(kw_only=True)
class WantedRequest:
    """What a pull request shall be like.

    Attributes:
        title: Its title, without the mark of a draft.
        body: Its text, Markdown.
        head: The branch with the commits, which is there.
        base: The branch to merge into.
        draft: Whether it shall be a draft; None to leave one that is there as it is.
        labels: Labels that it shall have beside those it has.
        reviewers: Names of those who shall review it, beside those who are asked already.
    """

    title: str
    body: str
    head: str
    base: str
    draft: bool | None = None
    labels: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class RequestPage:
    """Some pull requests.

    Attributes:
        requests: They, the newest first.
        more: Whether there is a next page.
    """

    requests: Sequence[PullRequest]
    more: bool


@attrs.frozen(kw_only=True)
class ApiAnswer:
    """What the API has answered; always with a status of success.

    Attributes:
        value: Its body.
        more: Whether its header `Link` (RFC 8288) names a next page.
    """

    value: JsonValue
    more: bool = False


class ForgeApi(Protocol):
    """The API of one forge, with the token that the configuration names."""

    async def send(
        self, verb: str, path: str, *, query: Mapping[str, str | int] | None = None, body: JsonValue = None
    ) -> ApiAnswer:
        """Make one request. No redirect is followed.

        Args:
            verb: `GET`, `POST`, `PUT` or `PATCH`.
            path: Below the API's address, beginning with a slash, its parts URL-encoded.
            query: Parameters of the address.
            body: What is sent, as JSON; None for nothing.

        Raises:
            ForgeRefused: The forge answered with 4xx. Its `data` has `reason` and `status`.
            ForgeLimited: Too many requests, and the wait that the forge asks for is too long to be waited here.
            ForgeFailed: No answer, or none that can be understood.
        """


class Forge(Protocol):
    """One repository at a forge."""

    async def find(self, head: str, base: str | None, *, ended: bool) -> PullRequest | None:
        """Return the newest request of a branch of the repository itself, an open one first; None when there is none.

        Args:
            head: The branch with the commits.
            base: The branch to merge into; None for any.
            ended: Whether one that was merged or closed will do.
        """

    async def create(self, wanted: WantedRequest) -> PullRequest:
        """Make a request and return it."""

    async def update(self, known: PullRequest, wanted: WantedRequest) -> PullRequest:
        """Change what differs from what is wanted, and return the request as it is then."""

    async def get(self, number: int) -> PullRequest:
        """Return one request."""

    async def list(self, state: StateFilter, page: int, size: int) -> RequestPage:
        """Return requests, the newest first.

        Args:
            state: Only these. A forge that cannot tell merged from closed ones gives fewer than `size`.
            page: Which page, from 1 on.
            size: Requests of one page, 1 to 100. A forge may give fewer.
        """


@attrs.frozen(kw_only=True)
class ForgeKind:
    """A kind of forge, as `gitsync.forges` names it.

    Attributes:
        name: What `kind` says: a letter, then letters, digits, `_` and `-`.
        make: Makes the forge from its API and the repository's path, `owner/name`, without `.git`. A path that it has
            no use for is a ValueError with the reason.
        api_url: The API's address on a host, where the configuration gives none.
        authorization: The header `Authorization` for a token.
        headers: Further headers of each request.
        max_title: Characters of a title, the mark of a draft included.
        max_body: Characters of a text.
    """

    name: str
    make: Callable[[ForgeApi, str], Forge]
    api_url: Callable[[str], str]
    authorization: Callable[[str], str] = attrs.field(default=lambda token: f"Bearer {token}")
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    max_title: int = 255
    max_body: int = 65_536
