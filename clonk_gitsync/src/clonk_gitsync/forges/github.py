"""GitHub, and GitHub Enterprise Server.

https://docs.github.com/en/rest/pulls/pulls, https://docs.github.com/en/rest/issues/labels,
https://docs.github.com/en/rest/pulls/review-requests.
"""

from collections.abc import Mapping
from typing import Any, Final

from clonk_core.plugin import JsonValue
from clonk_gitsync.forges import fields
from clonk_gitsync.forges.additions import lacking_labels, lacking_reviewers, people
from clonk_gitsync.forges.interface import (
    ForgeApi,
    ForgeKind,
    PullRequest,
    RequestPage,
    RequestState,
    StateFilter,
    WantedRequest,
)
from clonk_gitsync.forges.paths import owner_and_name, part

PAGES: Final = 5
"""Pages of 100 that are looked through for the requests of one branch."""


class GitHub:
    """One repository at GitHub.

    Args:
        api: Its API.
        repository: `owner/name`.
    """

    def __init__(self, api: ForgeApi, repository: str) -> None:
        self._owner, self._name = owner_and_name(repository)
        self._api = api
        self._root = f"/repos/{part(self._owner)}/{part(self._name)}"

    async def find(self, head: str, base: str | None, *, ended: bool) -> PullRequest | None:
        """See `interface.Forge`."""
        query: dict[str, str | int] = {"head": f"{self._owner}:{head}", "state": "all" if ended else "open"}
        if base is not None:
            query["base"] = base
        newest: PullRequest | None = None
        for page in range(1, PAGES + 1):
            answer = await self._page(query, page, 100)
            for one in fields.entries(answer.value):
                # A filter that GitHub does not understand is none to it.
                if not self._is_of(one, head, base):
                    continue
                found = _request(one)
                if found.state == "open":
                    return await self.get(found.number)
                newest = newest or found
            if not answer.more:
                break
        return newest if newest is None else await self.get(newest.number)

    def _is_of(self, entry: Mapping[str, Any], head: str, base: str | None) -> bool:
        of = fields.text_or_none(entry, "head", "repo", "full_name")
        here = of is not None and of.lower() == f"{self._owner}/{self._name}".lower()
        wanted = base in {None, fields.text(entry, "base", "ref")}
        return here and wanted and fields.text(entry, "head", "ref") == head

    async def create(self, wanted: WantedRequest) -> PullRequest:
        """See `interface.Forge`."""
        body: dict[str, JsonValue] = {
            "title": wanted.title,
            "body": wanted.body,
            "head": wanted.head,
            "base": wanted.base,
            "draft": bool(wanted.draft),
        }
        answer = await self._api.send("POST", f"{self._root}/pulls", body=body)
        return await self._with_people(_request(fields.entry(answer.value)), wanted)

    async def update(self, known: PullRequest, wanted: WantedRequest) -> PullRequest:
        """See `interface.Forge`. A draft stays one, and the other way round: the REST API cannot change it."""
        body: dict[str, JsonValue] = {}
        if known.title != wanted.title:
            body["title"] = wanted.title
        if known.body != wanted.body:
            body["body"] = wanted.body
        if body:
            answer = await self._api.send("PATCH", f"{self._root}/pulls/{known.number}", body=body)
            known = _request(fields.entry(answer.value))
        return await self._with_people(known, wanted)

    async def _with_people(self, request: PullRequest, wanted: WantedRequest) -> PullRequest:
        """Add the labels and ask the reviewers that are lacking."""
        labels, reviewers = lacking_labels(request, wanted), lacking_reviewers(request, wanted)
        if labels:
            body: JsonValue = {"labels": [*labels]}
            await self._api.send("POST", f"{self._root}/issues/{request.number}/labels", body=body)
        if reviewers:
            path = f"{self._root}/pulls/{request.number}/requested_reviewers"
            await self._api.send("POST", path, body=people(reviewers))
        return await self.get(request.number) if labels or reviewers else request

    async def get(self, number: int) -> PullRequest:
        """See `interface.Forge`."""
        answer = await self._api.send("GET", f"{self._root}/pulls/{number}")
        return _request(fields.entry(answer.value))

    async def list(self, state: StateFilter, page: int, size: int) -> RequestPage:
        """See `interface.Forge`."""
        asked = "closed" if state in {"merged", "closed"} else state
        answer = await self._page({"state": asked}, page, size)
        requests = [_request(one) for one in fields.entries(answer.value)]
        return RequestPage(requests=[one for one in requests if state in {"all", one.state}], more=answer.more)

    async def _page(self, query: Mapping[str, str | int], page: int, size: int) -> Any:
        order: dict[str, str | int] = {"sort": "created", "direction": "desc", "page": page, "per_page": size}
        return await self._api.send("GET", f"{self._root}/pulls", query={**query, **order})


def _request(entry: Mapping[str, Any]) -> PullRequest:
    merged = entry.get("merged_at") is not None or entry.get("merged") is True
    state: RequestState = "merged" if merged else "open" if fields.text(entry, "state") == "open" else "closed"
    return PullRequest(
        number=fields.number(entry, "number"),
        url=fields.text(entry, "html_url"),
        state=state,
        draft=fields.truth(entry, "draft") or False,
        title=fields.text(entry, "title"),
        body=fields.text_or_none(entry, "body") or "",
        head=fields.text(entry, "head", "ref"),
        base=fields.text(entry, "base", "ref"),
        author=fields.text_or_none(entry, "user", "login"),
        labels=fields.texts(entry, "labels", "name"),
        reviewers=(
            *fields.texts(entry, "requested_reviewers", "login"),
            *(_team(entry, one) for one in fields.texts(entry, "requested_teams", "slug")),
        ),
        created_at=fields.moment(entry, "created_at"),
        updated_at=fields.moment(entry, "updated_at"),
        commit=fields.text_or_none(entry, "head", "sha"),
        mergeable=fields.truth(entry, "mergeable"),
    )


def _team(entry: Mapping[str, Any], slug: str) -> str:
    return f"{fields.text_or_none(entry, 'base', 'repo', 'owner', 'login') or ''}/{slug}"


def _api_url(host: str) -> str:
    return "https://api.github.com" if host == "github.com" else f"https://{host}/api/v3"


KIND: Final = ForgeKind(
    name="github",
    make=GitHub,
    api_url=_api_url,
    headers={"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"},
    max_title=256,
    max_body=65_536,
)
