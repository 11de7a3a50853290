"""GitLab, of the company or one's own.

https://docs.gitlab.com/api/merge_requests/, https://docs.gitlab.com/api/users/. A project is known by its path,
URL-encoded, groups inside groups included (https://docs.gitlab.com/api/rest/#namespaced-paths). A draft is a request
whose title begins with `Draft:`, `[Draft]` or `(Draft)` (https://docs.gitlab.com/user/project/merge_requests/drafts/).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from clonk_core.plugin import InvalidParams, JsonValue
from clonk_gitsync.forges import fields
from clonk_gitsync.forges.additions import lacking_labels, lacking_reviewers
from clonk_gitsync.forges.drafts import DraftMark
from clonk_gitsync.forges.interface import (
    ForgeApi,
    ForgeKind,
    PullRequest,
    RequestPage,
    RequestState,
    StateFilter,
    WantedRequest,
)
from clonk_gitsync.forges.paths import part

_MARK: Final = DraftMark("Draft:", r"Draft:|\[Draft\]|\(Draft\)")

_STATES: Final[Mapping[str, RequestState]] = {
    "opened": "open", "locked": "open", "merged": "merged", "closed": "closed"
}  # fmt: skip
"""`locked` is one that is being merged."""

_ASKED: Final[Mapping[StateFilter, str]] = {"open": "opened", "merged": "merged", "closed": "closed", "all": "all"}


class GitLab:
    """One project at a GitLab.

    Args:
        api: Its API.
        repository: Its path: `group/name`, `group/subgroup/name`.
    """

    def __init__(self, api: ForgeApi, repository: str) -> None:
        if "/" not in repository:
            raise ValueError("its path is not group/name")
        self._api = api
        self._root = f"/projects/{part(repository)}/merge_requests"

    async def find(self, head: str, base: str | None, *, ended: bool) -> PullRequest | None:
        """See `interface.Forge`."""
        for state in ("opened", "all") if ended else ("opened",):
            query: dict[str, str | int] = {"state": state, "source_branch": head}
            if base is not None:
                query["target_branch"] = base
            answer = await self._page(query, 1, 100)
            for one in fields.entries(answer.value):
                # A fork's branch may have the same name.
                if one.get("source_project_id") == one.get("target_project_id"):
                    return await self.get(fields.number(one, "iid"))
        return None

    async def create(self, wanted: WantedRequest) -> PullRequest:
        """See `interface.Forge`."""
        body: dict[str, JsonValue] = {
            "source_branch": wanted.head,
            "target_branch": wanted.base,
            "title": _MARK.title(wanted),
            "description": wanted.body,
        }
        if wanted.labels:
            body["labels"] = ",".join(wanted.labels)
        if wanted.reviewers:
            body["reviewer_ids"] = [*await self._user_ids(wanted.reviewers)]
        answer = await self._api.send("POST", self._root, body=body)
        return _request(fields.entry(answer.value))

    async def update(self, known: PullRequest, wanted: WantedRequest) -> PullRequest:
        """See `interface.Forge`."""
        body: dict[str, JsonValue] = {}
        title = _MARK.title(wanted, known)
        if title is not None:
            body["title"] = title
        if known.body != wanted.body:
            body["description"] = wanted.body
        labels = lacking_labels(known, wanted)
        if labels:
            body["add_labels"] = ",".join(labels)
        reviewers = lacking_reviewers(known, wanted)
        if reviewers:
            # They replace those that are there, so these go along.
            body["reviewer_ids"] = [*await self._user_ids([*known.reviewers, *reviewers])]
        if not body:
            return known
        answer = await self._api.send("PUT", f"{self._root}/{known.number}", body=body)
        return _request(fields.entry(answer.value))

    async def _user_ids(self, names: Sequence[str]) -> list[int]:
        ids: list[int] = []
        for place, name in enumerate(names):
            answer = await self._api.send("GET", "/users", query={"username": name})
            found = [
                fields.number(one, "id")
                for one in fields.entries(answer.value)
                if fields.text(one, "username").lower() == name.lower()
            ]
            if not found:
                raise InvalidParams(f"the forge knows no user {name!r}", path=f"$.reviewers[{place}]")
            ids.append(found[0])
        return ids

    async def get(self, number: int) -> PullRequest:
        """See `interface.Forge`."""
        answer = await self._api.send("GET", f"{self._root}/{number}")
        return _request(fields.entry(answer.value))

    async def list(self, state: StateFilter, page: int, size: int) -> RequestPage:
        """See `interface.Forge`."""
        answer = await self._page({"state": _ASKED[state]}, page, size)
        return RequestPage(requests=[_request(one) for one in fields.entries(answer.value)], more=answer.more)

    async def _page(self, query: Mapping[str, str | int], page: int, size: int) -> Any:
        order: dict[str, str | int] = {"order_by": "created_at", "sort": "desc", "page": page, "per_page": size}
        return await self._api.send("GET", self._root, query={**query, **order})


def _request(entry: Mapping[str, Any]) -> PullRequest:
    title = fields.text(entry, "title")
    state = _STATES.get(fields.text(entry, "state"), "closed")
    # `merge_status` is deprecated in favour of `detailed_merge_status`, which tells of rules and not of conflicts.
    merge = {"can_be_merged": True, "cannot_be_merged": False}.get(fields.text_or_none(entry, "merge_status") or "")
    return PullRequest(
        number=fields.number(entry, "iid"),
        url=fields.text(entry, "web_url"),
        state=state,
        draft=fields.truth(entry, "draft") or _MARK.is_on(title),
        title=_MARK.without(title),
        body=fields.text_or_none(entry, "description") or "",
        head=fields.text(entry, "source_branch"),
        base=fields.text(entry, "target_branch"),
        author=fields.text_or_none(entry, "author", "username"),
        labels=fields.texts(entry, "labels", "name"),
        reviewers=fields.texts(entry, "reviewers", "username"),
        created_at=fields.moment(entry, "created_at"),
        updated_at=fields.moment(entry, "updated_at"),
        commit=fields.text_or_none(entry, "sha"),
        mergeable=merge if state == "open" else None,
    )


KIND: Final = ForgeKind(
    name="gitlab",
    make=GitLab,
    api_url=lambda host: f"https://{host}/api/v4",
    max_title=255,
    max_body=1_048_576,
)
