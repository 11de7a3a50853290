"""A host with claudecode and arbor, the real binary, a scripted model, and a workspace that may be a repository."""

import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import attrs
import pytest

from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.testing.host import TestHost, open_host
from tests.claudecode.sessions.conftest import claudecode_settings
from tests.claudecode.sharing.conftest import client_of

__all__ = ["client_of"]

OpenHub = Callable[..., AbstractAsyncContextManager[TestHost]]


def git(folder: Path, *arguments: str) -> str:
    """Run git as the workspace's user does, and return what it says."""
    done = subprocess.run(
        ["git", "-c", "user.name=Test", "-c", "user.email=test@localhost", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture(name="git")
def _git() -> Callable[..., str]:
    return git


@pytest.fixture
def open_hub(tmp_path: Path, model: ScriptedModel, claude: object) -> OpenHub:
    """Open a hub on the test's data directory; again after it was closed, to restart it."""

    def opened(*, packages: tuple[str, ...] = ("arbor", "claudecode"), **changes: Any) -> Any:
        settings = {
            "claudecode": claudecode_settings(model, session={"permission_mode": "bypassPermissions"}, **changes),
            "workspaces": {"roots": [str(tmp_path / "workspace")]},
        }
        return open_host(tmp_path / "data", packages=packages, settings=settings)

    return opened


@pytest.fixture
async def hub(open_hub: OpenHub, workspace: Path) -> AsyncIterator[TestHost]:
    async with open_hub() as opened:
        yield opened


@attrs.frozen
class Talk:
    """Sessions of a hub, as a test speaks with them."""

    hub: TestHost
    model: ScriptedModel

    async def create(self, name: str = "one", folder: Path | None = None) -> Any:
        where = {} if folder is None else {"working_dir": str(folder)}
        return await self.call("create", name=name, **where)

    async def call(self, method: str, **params: Any) -> Any:
        return await self.hub.client.call(f"claudecode.{method}", **params)

    async def say(self, prompt: str, name: str = "one") -> Any:
        """Chat, and return `done`."""
        events = await self.hub.client.events("claudecode.chat", name=name, prompt=prompt)
        assert events[-1]["outcome"] == "complete", events[-1]
        return events[-1]

    async def history(self, name: str = "one") -> list[Any]:
        found: list[Any] = []
        while page := await self.call("history", name=name, limit=1000, after=len(found)):
            found += page
        assert [one["seq"] for one in found] == list(range(1, len(found) + 1))
        return found

    async def told(self, prompt: str, name: str) -> list[tuple[str, str]]:
        """Say something, and return the conversation that the model was shown, without the binary's own words."""
        await self.say(prompt, name)
        return spoken(self.model.turns[-1].messages)


def spoken(messages: list[Any]) -> list[tuple[str, str]]:
    """What was said in a request: who, and the text or the kind of block."""
    said: list[tuple[str, str]] = []
    for message in messages:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks:
            text = block.get("text", "")
            if block["type"] == "tool_result":
                inner = block["content"]
                text = inner if isinstance(inner, str) else "".join(part.get("text", "") for part in inner)
            if message["role"] == "system" or text.lstrip().startswith("<system-reminder>"):
                continue
            said.append((message["role"], text if block["type"] == "text" else f"{block['type']} {text}".strip()))
    return said


@pytest.fixture
def talk(hub: TestHost, model: ScriptedModel) -> Talk:
    return Talk(hub, model)


@pytest.fixture
def repo(workspace: Path) -> Path:
    """The workspace as a repository with one commit."""
    git(workspace, "init", "-q", "-b", "main")
    (workspace / "a.txt").write_text("one\n")
    (workspace / ".gitignore").write_text("*.log\n")
    git(workspace, "add", "-A")
    git(workspace, "commit", "-q", "-m", "first")
    return workspace
