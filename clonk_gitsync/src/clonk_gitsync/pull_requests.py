"""Pull requests of workspaces: pushed first, made once, found again."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from unicodedata import category
from weakref import WeakValueDictionary

import attrs
import trio

from clonk_core.plugin import InvalidParams
from clonk_gitsync.exchange import Exchange
from clonk_gitsync.forges.errors import ForgeRefused, NoSuchPullRequest, NothingToMerge
from clonk_gitsync.forges.interface import MAX_PAGE, Forge, PullRequest, StateFilter, WantedRequest
from clonk_gitsync.forges.opening import Forges, OpenForge
from clonk_gitsync.git.names import problem_with_branch
from clonk_gitsync.messages import CreatedPullRequest, PullRequestList, WorkspaceConfig
from clonk_gitsync.workbench import Workbench, protected_of

LIST_BODY: Final = 1000
"""Characters of a text in a list."""

_AFTER: Final = re.compile(r"(?P<page>[1-9][0-9]{0,6})x(?P<size>[1-9][0-9]{0,2})")


@attrs.frozen(kw_only=True)
class _Ends:
    """What a pull request is to go from and to.

    Attributes:
        head: The work branch.
        base: Where it shall be merged.
        pushed: Whether the head was moved at the remote just now.
    """

    head: str
    base: str
    pushed: bool


class PullRequests:
    """Opens and finds the pull requests of workspaces.

    Args:
        bench: Works on the workspaces.
        exchange: Pushes them.
        forges: Opens the forges of their remotes.
    """

    def __init__(self, bench: Workbench, exchange: Exchange, forges: Forges) -> None:
        self._bench = bench
        self._exchange = exchange
        self._forges = forges
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()

    async def create(
        self,
        workspace: WorkspaceConfig,
        *,
        title: str,
        body: str,
        base: str | None,
        draft: bool | None,
        labels: Sequence[str],
        reviewers: Sequence[str],
    ) -> CreatedPullRequest:
        """Push the work branch, and make its request or bring it up to date."""
        if base is not None and (problem := problem_with_branch(base)) is not None:
            raise InvalidParams(problem, path="$.base")
        async with self._open(workspace) as opened:
            _check_texts(opened, title, body)
            # One at a time for a remote: whoever comes second finds what the first has made.
            lock = self._locks.setdefault(workspace.remote, trio.Lock())
            async with lock:
                ends = await self._pushed(workspace, base)
                wanted = WantedRequest(
                    title=title,
                    body=body,
                    head=ends.head,
                    base=ends.base,
                    draft=draft,
                    labels=tuple(dict.fromkeys(labels)),
                    reviewers=tuple(dict.fromkeys(reviewers)),
                )
                request, created = await self._make(opened.forge, wanted, any_base=base is None)
        return CreatedPullRequest(**attrs.asdict(request, recurse=False), created=created, pushed=ends.pushed)

    async def _pushed(self, workspace: WorkspaceConfig, base: str | None) -> _Ends:
        push = await self._exchange.push(workspace, None, force=False)
        chosen = base or workspace.base
        if chosen is None and self._bench.policy.is_protected(workspace.branch, protected_of(workspace)):
            chosen = workspace.branch
        if chosen is None or not push.pushed:
            remote = self._bench.policy.remote(workspace.remote)
            refs = await self._bench.hub(workspace).look(remote, push.branch)
            if refs.commit is None:
                raise NothingToMerge(push.branch)
            chosen = chosen or refs.default_branch
        if chosen is None:
            raise InvalidParams("the remote tells no default branch; name one", path="$.base")
        if chosen == push.branch:
            raise InvalidParams("is the work branch itself; name another", path="$.base")
        return _Ends(head=push.branch, base=chosen, pushed=push.pushed)

    async def _make(self, forge: Forge, wanted: WantedRequest, *, any_base: bool) -> tuple[PullRequest, bool]:
        """Return the request, and whether it was made now."""
        known = await self._known(forge, wanted, any_base=any_base)
        if known is None:
            try:
                return await forge.create(wanted), True
            except ForgeRefused as error:
                # Somebody else may have made it meanwhile; each forge says so in other words.
                if error.data["reason"] not in {"conflict", "invalid"}:
                    raise
                known = await self._known(forge, wanted, any_base=any_base)
                if known is None:
                    raise
        return await forge.update(known, wanted), False

    @staticmethod
    async def _known(forge: Forge, wanted: WantedRequest, *, any_base: bool) -> PullRequest | None:
        known = await forge.find(wanted.head, wanted.base, ended=False)
        if known is None and any_base:
            known = await forge.find(wanted.head, None, ended=False)
        return known

    async def get(self, workspace: WorkspaceConfig, number: int | None) -> PullRequest:
        """Return one request; that of the work branch without a number."""
        async with self._open(workspace) as opened:
            if number is not None:
                try:
                    return await opened.forge.get(number)
                except ForgeRefused as error:
                    if error.data["reason"] != "not_found":
                        raise
                    raise NoSuchPullRequest(number=number) from error
            async with self._bench.at(workspace) as shadow:
                branch = self._bench.work_branch(workspace, shadow.repository.head_branch())
            found = await opened.forge.find(branch, None, ended=True)
            if found is None:
                raise NoSuchPullRequest(branch=branch)
            return found

    async def list(
        self, workspace: WorkspaceConfig, *, state: StateFilter, limit: int, after: str | None
    ) -> PullRequestList:
        """Return some requests of the repository, the newest first."""
        page, size = 1, min(limit, MAX_PAGE)
        if after is not None:
            found = _AFTER.fullmatch(after)
            if found is None or int(found["size"]) > MAX_PAGE:
                raise InvalidParams("must be `after` of an earlier answer", path="$.after")
            page, size = int(found["page"]) + 1, int(found["size"])
        async with self._open(workspace) as opened:
            answer = await opened.forge.list(state, page, size)
        return PullRequestList(
            requests=tuple(_shortened(one) for one in answer.requests),
            after=f"{page}x{size}" if answer.more else None,
        )

    @asynccontextmanager
    async def _open(self, workspace: WorkspaceConfig) -> AsyncIterator[OpenForge]:
        async with self._forges.open(self._bench.policy.remote(workspace.remote)) as opened:
            yield opened


def _check_texts(opened: OpenForge, title: str, body: str) -> None:
    # The mark of a draft is put before it.
    room = opened.kind.max_title - len("Draft: ")
    if not title.strip() or any(category(letter) in {"Cc", "Zl", "Zp"} for letter in title):
        raise InvalidParams("must be one line that is not empty", path="$.title")
    if len(title) > room:
        raise InvalidParams(f"has {len(title)} characters; {opened.kind.name} takes {room}", path="$.title")
    if len(body) > opened.kind.max_body:
        limit = opened.kind.max_body
        raise InvalidParams(f"has {len(body)} characters; {opened.kind.name} takes {limit}", path="$.body")


def _shortened(request: PullRequest) -> PullRequest:
    if len(request.body) <= LIST_BODY:
        return request
    return attrs.evolve(request, body=request.body[: LIST_BODY - 1] + "…")
