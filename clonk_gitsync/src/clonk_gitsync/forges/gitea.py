"""Gitea and Forgejo, whose API is the same here.

https://docs.gitea.com/api/ and https://codeberg.org/api/swagger, tags "repository" and "issue". A draft is a request
whose title begins with a word of `repository.pull-request.WORK_IN_PROGRESS_PREFIXES`, `WIP:` and `[WIP]` by default.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from clonk_core.plugin import JsonValue
from clonk_gitsync.forges import fields
from clonk_gitsync.forges.additions import lacking_labels, lacking_reviewers, people
from clonk_gitsync.forges.drafts import DraftMark
from clonk_gitsync.forges.errors import ForgeRefused
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

PAGE: Final = 50
"""Most that a page has by default (`api.MAX_RESPONSE_ITEMS`)."""

PAGES: Final = 40
"""Pages that are looked through for the request of a branch, as the API has no filter for it; and for a label."""

LABEL_COLOUR: Final = "#ededed"
"""Of a label that is made here; GitHub's."""

_MARK: Final = DraftMark("WIP:", r"\[WIP\]|WIP:")


class Gitea:
    """One repository at a Gitea or Forgejo.

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
        newest: PullRequest | None = None
        for state in ("open", "closed") if ended else ("open",):
            for page in range(1, PAGES + 1):
                answer = await self._page({"state": state}, page, PAGE)
                for one in fields.entries(answer.value):
                    if self._is_of(one, head, base):
                        found = _request(one)
                        if newest is None or found.number > newest.number:
                            newest = found
                if newest is not None:
                    return newest
                if not answer.more:
                    break
        return newest

    def _is_of(self, entry: Mapping[str, Any], head: str, base: str | None) -> bool:
        ends = [entry.get(name) for name in ("head", "base")]
        source, target = (one.get("repo_id") if isinstance(one, dict) else None for one in ends)
        wanted = base in {None, fields.text(entry, "base", "ref")}
        return source == target and wanted and fields.text(entry, "head", "ref") == head

    async def create(self, wanted: WantedRequest) -> PullRequest:
        """See `interface.Forge`."""
        body: dict[str, JsonValue] = {
            "title": _MARK.title(wanted),
            "body": wanted.body,
            "head": wanted.head,
            "base": wanted.base,
        }
        if wanted.labels:
            body["labels"] = [*await self._label_ids(wanted.labels)]
        answer = await self._api.send("POST", f"{self._root}/pulls", body=body)
        return await self._with_people(_request(fields.entry(answer.value)), wanted)

    async def update(self, known: PullRequest, wanted: WantedRequest) -> PullRequest:
        """See `interface.Forge`."""
        body: dict[str, JsonValue] = {}
        title = _MARK.title(wanted, known)
        if title is not None:
            body["title"] = title
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
            ids: JsonValue = {"labels": [*await self._label_ids(labels)]}
            await self._api.send("POST", f"{self._root}/issues/{request.number}/labels", body=ids)
        if reviewers:
            path = f"{self._root}/pulls/{request.number}/requested_reviewers"
            await self._api.send("POST", path, body=people(reviewers))
        return await self.get(request.number) if labels or reviewers else request

    async def _label_ids(self, names: Sequence[str]) -> list[int]:
        """Return the ids of labels; one that is not there is made, as other forges do by themselves."""
        found = await self._labels(f"{self._root}/labels", names)
        if any(name not in found for name in names):
            # Refused where the owner is a person, or the token may not look.
            with suppress(ForgeRefused):
                found = {**await self._labels(f"/orgs/{part(self._owner)}/labels", names), **found}
        for name in names:
            if name not in found:
                body: JsonValue = {"name": name, "color": LABEL_COLOUR}
                made = await self._api.send("POST", f"{self._root}/labels", body=body)
                found[name] = fields.number(fields.entry(made.value), "id")
        return [found[name] for name in names]

    async def _labels(self, path: str, names: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for page in range(1, PAGES + 1):
            answer = await self._api.send("GET", path, query={"page": page, "limit": PAGE})
            for one in fields.entries(answer.value):
                found.setdefault(fields.text(one, "name"), fields.number(one, "id"))
            if not answer.more or all(name in found for name in names):
                break
        return found

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
        return await self._api.send("GET", f"{self._root}/pulls", query={**query, "page": page, "limit": size})


def _request(entry: Mapping[str, Any]) -> PullRequest:
    title = fields.text(entry, "title")
    is_open = fields.text(entry, "state") == "open"
    state: RequestState = "merged" if fields.truth(entry, "merged") else "open" if is_open else "closed"
    return PullRequest(
        number=fields.number(entry, "number"),
        url=fields.text(entry, "html_url"),
        state=state,
        draft=fields.truth(entry, "draft") or _MARK.is_on(title),
        title=_MARK.without(title),
        body=fields.text_or_none(entry, "body") or "",
        head=fields.text(entry, "head", "ref"),
        base=fields.text(entry, "base", "ref"),
        author=fields.text_or_none(entry, "user", "login"),
        labels=fields.texts(entry, "labels", "name"),
        reviewers=(
            *fields.texts(entry, "requested_reviewers", "login"),
            *(f"{_owner(entry)}/{one}" for one in fields.texts(entry, "requested_reviewers_teams", "name")),
        ),
        created_at=fields.moment(entry, "created_at"),
        updated_at=fields.moment(entry, "updated_at"),
        commit=fields.text_or_none(entry, "head", "sha"),
        mergeable=fields.truth(entry, "mergeable") if is_open else None,
    )


def _owner(entry: Mapping[str, Any]) -> str:
    return fields.text_or_none(entry, "base", "repo", "owner", "login") or ""


KIND: Final = ForgeKind(
    name="gitea",
    make=Gitea,
    api_url=lambda host: f"https://{host}/api/v1",
    authorization=lambda token: f"token {token}",
    max_title=255,
    max_body=1_048_576,
)
