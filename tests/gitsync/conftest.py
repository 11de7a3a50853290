"""Real repositories, and a real host beside them."""

import os
import stat
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from clonk_core.app import draw, secret_keys
from clonk_core.storage.open_secrets import open_secrets
from clonk_core.testing.host import TestHost, open_host

ENVIRON = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "A Person",
    "GIT_AUTHOR_EMAIL": "person@example.com",
    "GIT_COMMITTER_NAME": "A Person",
    "GIT_COMMITTER_EMAIL": "person@example.com",
}


def git(folder: Path, *words: str, check: bool = True) -> str:
    """Run git by hand, as a person would."""
    done = subprocess.run(["git", *words], cwd=folder, env=ENVIRON, capture_output=True, check=False)
    if check and done.returncode:
        raise AssertionError(done.stderr.decode())
    return done.stdout.decode(errors="replace").strip()


def let_others_in(folder: Path) -> None:
    """Let every user go through to a folder, and read it; what else was allowed on the way stays."""
    for one in (folder, *folder.parents):
        mode = stat.S_IMODE(one.stat().st_mode)
        if mode | 0o055 != mode:
            one.chmod(mode | 0o055)


class Place:
    """A workspace below an allowed root, and the bare repository that is its remote."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.work = self.root / "work"
        self.bare = folder / "remotes" / "repo.git"
        self.root.mkdir(parents=True)
        self.bare.mkdir(parents=True)
        git(self.bare, "init", "-q", "--bare", "-b", "main")
        self.work.mkdir()
        git(self.work, "init", "-q", "-b", "main")
        (self.work / "a.txt").write_text("one\ntwo\n")
        git(self.work, "add", ".")
        git(self.work, "commit", "-q", "-m", "first")
        git(self.work, "push", "-q", self.remote, "main")
        self.main = git(self.work, "rev-parse", "HEAD")

    @property
    def remote(self) -> str:
        return f"file://{self.bare}"

    def refs(self) -> dict[str, str]:
        """Return every ref of the remote."""
        words = git(self.bare, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict(line.split() for line in words)

    def settings(self, **more: Any) -> dict[str, Any]:
        return {
            "workspaces": {"roots": [str(self.root)]},
            "gitsync": {"allowed_remotes": [f"file://{self.bare.parent}/*"], **more},
        }


async def keep_secret(tmp_path: Path, value: str, name: str = "forge") -> None:
    """Keep a secret where the host that `open_gitsync` opens next reads it."""
    folder = tmp_path / "host"
    folder.mkdir(exist_ok=True)
    drawn = draw(None, {}, {"storage.data_dir": str(folder)}, extra_plugins={}, entry_points=[])
    async with open_secrets(folder, secret_keys(drawn.loaded.settings, folder)) as (store, _database):
        await store.set("default", name, value)


OpenHost: TypeAlias = Callable[..., AbstractAsyncContextManager[TestHost]]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path.resolve())


@pytest.fixture
def open_gitsync(place: Place, tmp_path: Path) -> OpenHost:
    """Open a host whose configuration names the place's remote."""

    @asynccontextmanager
    async def opened(
        settings: Mapping[str, Any] | None = None, plugins: Mapping[str, object] | None = None, **more: Any
    ) -> AsyncIterator[TestHost]:
        chosen = settings if settings is not None else place.settings(**more)
        async with open_host(tmp_path / "host", packages=["gitsync"], plugins=plugins, settings=chosen) as host:
            yield host

    return opened


@pytest.fixture
async def host(open_gitsync: OpenHost) -> AsyncIterator[TestHost]:
    async with open_gitsync() as opened:
        yield opened


@pytest.fixture
async def registered(host: TestHost, place: Place) -> TestHost:
    """The host, with the place's workspace registered for `main`, which is protected."""
    await host.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
    return host
