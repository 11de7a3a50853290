"""Which forge a remote belongs to, where its API is, and forges that other packages bring."""

from datetime import UTC, datetime
from typing import Any

import pytest

from clonk_core.errors import ConfigError
from clonk_core.plugin import CallError, Host, hookimpl
from clonk_gitsync.forges import gitea, github, gitlab
from clonk_gitsync.forges.interface import (
    Forge,
    ForgeApi,
    ForgeKind,
    PullRequest,
    RequestPage,
    StateFilter,
    WantedRequest,
)
from clonk_gitsync.forges.paths import fits, repository_of
from clonk_gitsync.forges.refusals import said, wait_of
from clonk_gitsync.policy import Policy
from clonk_gitsync.settings import ForgeSettings, GitSyncSettings
from tests.gitsync.forges.conftest import KINDS, OpenWorld
from tests.gitsync.forges.loopback.gitea import Gitea


@pytest.mark.parametrize(
    ("kind", "host", "url"),
    [
        (github.KIND, "github.com", "https://api.github.com"),
        (github.KIND, "git.example.com", "https://git.example.com/api/v3"),
        (gitlab.KIND, "gitlab.com", "https://gitlab.com/api/v4"),
        (gitea.KIND, "codeberg.org:3000", "https://codeberg.org:3000/api/v1"),
    ],
)
def test_the_api_is_where_each_kind_has_it(kind: ForgeKind, host: str, url: str) -> None:
    assert kind.api_url(host) == url


@pytest.mark.parametrize(
    ("url", "host", "api_url", "path"),
    [
        ("https://github.com/org/repo.git", "github.com", "https://api.github.com", "org/repo"),
        ("https://GitHub.com/org/repo/", "github.com", "https://api.github.com", "org/repo"),
        ("git@github.com:org/repo.git", "github.com", "https://api.github.com", "org/repo"),
        ("ssh://git@example.com:2222/a/b/c.git", "example.com", "https://example.com/api/v4", "a/b/c"),
        ("https://example.com:8443/a/b", "example.com:8443", "https://example.com:8443/api/v4", "a/b"),
        ("https://example.com/git/a/b", "example.com", "https://example.com/git/api/v1", "a/b"),
        ("https://example.com/a/b%2Ed", "example.com", "https://example.com/api/v1", "a/b.d"),
    ],
)
def test_a_remote_leads_to_its_repository(url: str, host: str, api_url: str, path: str) -> None:
    remote = Policy(GitSyncSettings(), []).remote(url)
    assert fits(ForgeSettings(host=host, kind="github", token="x"), remote)
    assert repository_of(remote, api_url) == path


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://github.com.evil.example/org/repo", "github.com"),
        ("https://example.com:8443/a/b", "example.com"),
        ("https://example.com/a/b", "example.com:8443"),
        ("git@example.com:a/b", "com"),
    ],
)
def test_a_remote_of_another_host_or_port_is_none_of_a_forges(url: str, host: str) -> None:
    assert not fits(ForgeSettings(host=host, kind="github", token="x"), Policy(GitSyncSettings(), []).remote(url))


def test_a_path_that_leads_upwards_names_no_repository() -> None:
    remote = Policy(GitSyncSettings(), []).remote("https://example.com/a/%2e%2e/b")
    with pytest.raises(ValueError, match="names no repository"):
        repository_of(remote, "https://example.com/api/v1")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"token": "a", "app": {"app_id": 1, "private_key": "b"}},
        {"kind": "gitlab", "app": {"app_id": 1, "private_key": "b"}},
        {"token": "two words"},
        {"token": "a", "host": "https://github.com"},
        {"token": "a", "kind": ""},
        {"token": "a", "api_url": "http://api.example.com"},
        {"token": "a", "api_url": "http://127.0.0.1.example.com/"},
        {"token": "a", "api_url": "https://user:word@api.example.com"},
        {"token": "a", "api_url": "https://api.example.com/?to=elsewhere"},
        {"token": "a", "api_url": "https://api.example.com\\@evil.example"},
        {"token": "a", "api_url": "api.example.com"},
        {"token": "a", "api_url": "file:///etc/passwd"},
    ],
)
async def test_a_configuration_that_is_wrong_is_refused_at_the_start(
    open_world: OpenWorld, more: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as caught:
        async with open_world(Gitea(), entry={"token": None, "kind": "github", **more}):
            pass
    assert "gitsync.forges" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"message": "Bad credentials"}', "Bad credentials"),
        (b'{"message": "Validation Failed", "errors": [{"message": "No commits", "code": "custom"}]}',
         "Validation Failed; No commits"),
        (b'{"message": "Validation Failed", "errors": [{"field": "base", "code": "invalid"}]}',
         "Validation Failed; base invalid"),
        (b'{"message": {"title": ["is too long", "is odd"]}}', "title is too long; title is odd"),
        (b'{"message": ["One", "Two"]}', "One; Two"),
        (b'{"error": "insufficient_scope", "error_description": "Needs more."}', "insufficient_scope; Needs more."),
        (b'{"message": "the\\u0000 secret-1 \\u202e is\\nhere"}', "the *** is here"),
        (b"Retry later\n", "Retry later"),
        (b"<html><body>a proxy's page</body></html>", ""),
        (b"\xff\xfe", "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"),
        (b"", ""),
        (b"[" * 60_000, "[" * 299 + "…"),
        (b"[" * 100_000, ""),
        (b'{"a": 1}', ""),
    ],
)  # fmt: skip
def test_a_forges_own_words_come_on_one_line_without_secrets(body: bytes, words: str) -> None:
    assert said(body, "secret-1") == words


@pytest.mark.parametrize(
    ("status", "headers", "body", "wait_s"),
    [
        (403, {}, b'{"message": "Must have admin rights"}', None),
        (403, {"x-ratelimit-remaining": "12", "x-ratelimit-reset": "1100"}, b"", None),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1100"}, b"", 100),
        (403, {"retry-after": "7"}, b"", 7),
        (403, {}, b"You have exceeded a secondary rate limit", 60),
        (429, {}, b"", 60),
        (429, {"ratelimit-reset": "1020"}, b"", 20),
        (429, {"retry-after": "Thu, 01 Jan 1970 00:17:10 GMT"}, b"", 30),
        (429, {"retry-after": "soon"}, b"", 60),
        (429, {"retry-after": "9" * 30}, b"", 86_400),
        (429, {"x-ratelimit-reset": "1"}, b"", 1),
        (422, {"retry-after": "7"}, b"", None),
    ],
)
def test_a_limit_is_told_from_a_refusal_and_its_end_is_read(
    status: int, headers: dict[str, str], body: bytes, wait_s: float | None
) -> None:
    assert wait_of(status, headers, body, 1000.0) == wait_s


# ── Other packages ────────────────────────────────────────────────────────────


class Patches:
    """A forge of another package, whose API is as small as can be: it asks Gitea's for a list."""

    def __init__(self, api: ForgeApi, repository: str) -> None:
        self._api = api
        self._repository = repository

    async def find(self, head: str, base: str | None, *, ended: bool) -> PullRequest | None:
        return None

    async def create(self, wanted: WantedRequest) -> PullRequest:
        await self._api.send("GET", f"/repos/{self._repository}/labels")
        return self._request(wanted)

    async def update(self, known: PullRequest, wanted: WantedRequest) -> PullRequest:
        return known

    async def get(self, number: int) -> PullRequest:
        raise KeyError(number)

    async def list(self, state: StateFilter, page: int, size: int) -> RequestPage:
        await self._api.send("GET", "/../../elsewhere")
        return RequestPage(requests=(), more=False)

    def _request(self, wanted: WantedRequest) -> PullRequest:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        return PullRequest(
            number=5, url="https://patches.example/5", state="open", draft=False, title=wanted.title,
            body=wanted.body, head=wanted.head, base=wanted.base, author=None, labels=wanted.labels, reviewers=(),
            created_at=now, updated_at=now, commit=None, mergeable=None,
        )  # fmt: skip


def as_forge(api: ForgeApi, repository: str) -> Forge:
    return Patches(api, repository)


class PatchesPackage:
    @hookimpl
    def gitsync_forges(self, host: Host) -> Any:
        mine = ForgeKind(
            name="patches", make=as_forge, api_url=lambda host: f"https://{host}/api/v1",
            authorization=lambda token: f"token {token}", headers={"X-Tenant": host.tenant},
        )  # fmt: skip
        taken = ForgeKind(name="github", make=as_forge, api_url=lambda host: "https://evil.example")
        return [mine, taken, "nonsense"]


class BrokenPackage:
    @hookimpl
    def gitsync_forges(self) -> Any:
        raise RuntimeError("no forge today")


async def test_a_forge_of_another_package_is_used_like_our_own(open_world: OpenWorld) -> None:
    plugins = {"patches": PatchesPackage(), "broken": BrokenPackage()}
    async with open_world(Gitea(), entry={"kind": "patches"}, plugins=plugins) as world:
        answer = await world.create(labels=["a"])
        assert (answer["number"], answer["labels"], answer["created"]) == (5, ["a"], True)
        assert world.forge.seen[0].headers["x-tenant"] == "default"
        assert world.forge.seen[0].headers["authorization"].startswith("token ")
        for method in ("get_pr", "list_prs"):
            with pytest.raises(CallError) as caught:
                await world.call(method, **({"number": 1} if method == "get_pr" else {}))
            # What breaks in it is its own, and told as a fault.
            assert caught.value.kind == "internal"
        assert len(world.forge.seen) == 1
        assert "no forge today" in world.host.log_text
        assert world.host.log_text.count("a kind of forge is left out") == 2


async def test_a_kind_of_our_own_cannot_be_taken_by_another_package(open_world: OpenWorld) -> None:
    async with open_world(KINDS["github"](), plugins={"patches": PatchesPackage()}, committed=False) as world:
        assert (await world.call("list_prs"))["requests"] == []
        assert len(world.forge.seen) == 1
