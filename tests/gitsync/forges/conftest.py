"""A workspace whose remote is at a forge on loopback, and a host that knows it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import pytest

from clonk_core.testing.host import TestHost
from tests.gitsync.conftest import OpenHost, Place, git, keep_secret
from tests.gitsync.forges.loopback.forge import TOKEN, Forge, Repository
from tests.gitsync.forges.loopback.gitea import Gitea
from tests.gitsync.forges.loopback.github import GitHub
from tests.gitsync.forges.loopback.gitlab import GitLab
from tests.gitsync.forges.loopback.serving import Server

KINDS: dict[str, type[Forge]] = {"github": GitHub, "gitlab": GitLab, "gitea": Gitea}


@attrs.define(kw_only=True)
class World:
    """A workspace, its repository at a forge, and the host."""

    place: Place
    forge: Forge
    repository: Repository
    remote: str
    host: TestHost

    async def call(self, method: str, **params: Any) -> Any:
        return await self.host.client.call(f"gitsync.{method}", path=str(self.place.work), **params)

    async def create(self, **params: Any) -> Any:
        return await self.call("create_pr", **{"title": "Add words", "body": "They were lacking.", **params})

    def change(self, text: str = "changed\n") -> None:
        (self.place.work / "a.txt").write_text(text)

    async def commit(self, text: str = "changed\n") -> None:
        self.change(text)
        await self.call("commit", message="Change it")


OpenWorld: TypeAlias = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def open_world(open_gitsync: OpenHost, place: Place, tmp_path: Path) -> OpenWorld:
    """Open a workspace at a forge, registered for `main` and with a commit to bring there."""

    @asynccontextmanager
    async def opened(
        forge: Forge,
        path: str = "org/repo",
        *,
        token: str = TOKEN,
        entry: dict[str, Any] | None = None,
        plugins: dict[str, object] | None = None,
        plugins_dir: Path | None = None,
        committed: bool = True,
        **more: Any,
    ) -> AsyncIterator[World]:
        await keep_secret(tmp_path, token)
        git(place.bare, "config", "http.receivepack", "true")
        repository = forge.repositories.setdefault(path, Repository(place.bare))
        with Server(forge):
            given = {
                "host": forge.host, "kind": forge.kind, "api_url": forge.api_url, "token": "forge", **(entry or {})
            }  # fmt: skip
            given["api_url"] = given["api_url"] and given["api_url"].format(url=forge.url, host=forge.host)
            settings = {
                "workspaces": {"roots": [str(place.root)]},
                "plugins": {"dir": plugins_dir and str(plugins_dir)},
                "gitsync": {
                    "allowed_remotes": [f"{forge.url}/*"],
                    "credentials": [{"host": forge.host, "forge": True}],
                    "forges": [{name: value for name, value in given.items() if value is not None}],
                    "network_timeout_s": 30,
                    **more,
                },
            }
            async with open_gitsync(settings, plugins=plugins) as host:
                remote = f"{forge.url}/{path}.git"
                world = World(place=place, forge=forge, repository=repository, remote=remote, host=host)
                await world.call("register", remote=remote, branch="main")
                if committed:
                    await world.commit()
                yield world

    return opened


@pytest.fixture(params=sorted(KINDS))
async def world(request: pytest.FixtureRequest, open_world: OpenWorld) -> AsyncIterator[World]:
    """Each kind of forge in turn."""
    async with open_world(KINDS[request.param]()) as opened:
        yield opened


@pytest.fixture
async def one_world(open_world: OpenWorld) -> AsyncIterator[World]:
    """One kind of forge, for what has nothing to do with its kind."""
    async with open_world(Gitea()) as opened:
        yield opened
