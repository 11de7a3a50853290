"""Work of a finished chat is committed and pushed by itself, on a host that knows nothing of Claude Code."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
import trio

from clonk_core.plugin import Activation, Host, method
from clonk_core.testing.host import TestHost, open_host
from clonk_gitsync.automatic import message_of
from tests.gitsync.conftest import Place, git


@attrs.frozen(kw_only=True)
class TurnEnded:
    """The event by its name and its members."""

    name: ClassVar[str] = "claudecode.turn_ended"

    session: str
    working_dir: str
    prompt: str
    snapshot_id: str | None = None


class Chats(Activation):
    """Ends turns."""

    namespace = "chats"

    def __init__(self, host: Host) -> None:
        self._host = host

    @method()
    async def end(self, session: str, working_dir: str, prompt: str) -> None:
        """End one."""
        await self._host.emit(TurnEnded(session=session, working_dir=working_dir, prompt=prompt, snapshot_id="node_1"))


@pytest.fixture
async def chats(tmp_path: Path, place: Place) -> AsyncIterator[TestHost]:
    settings = place.settings()
    async with open_host(tmp_path / "host", activations=[Chats], packages=["gitsync"], settings=settings) as host:
        yield host


async def test_a_chat_is_committed_on_its_sessions_branch_and_pushed(chats: TestHost, place: Place) -> None:
    path = str(place.work)
    await chats.client.call(
        "gitsync.register", path=path, remote=place.remote, branch="main", auto_commit=True, auto_push=True
    )
    (place.work / "folder").mkdir()
    (place.work / "folder" / "new").write_text("new\n")
    await chats.client.call(
        "chats.end", session="feature-auth", working_dir=str(place.work / "folder"), prompt="Add it\n\nSigned-off-by: x"
    )
    assert git(place.work, "symbolic-ref", "HEAD") == "refs/heads/claude/feature-auth"
    commit = git(place.work, "rev-parse", "HEAD")
    body = git(place.work, "log", "-1", "--format=%B")
    assert body == "Add it\n\n    Signed-off-by: x\n\nClonk-Session: feature-auth\nClonk-Snapshot: node_1"
    with trio.fail_after(30):
        while "refs/heads/claude/feature-auth" not in place.refs():
            await trio.sleep(0.05)
    assert place.refs() == {"refs/heads/main": place.main, "refs/heads/claude/feature-auth": commit}


@pytest.mark.parametrize("auto_commit", [False, None])
async def test_nothing_is_committed_where_it_is_not_wanted(
    chats: TestHost, place: Place, auto_commit: bool | None
) -> None:
    if auto_commit is not None:
        await chats.client.call("gitsync.register", path=str(place.work), remote=place.remote, branch="main")
    (place.work / "a.txt").write_text("changed\n")
    await chats.client.call("chats.end", session="s", working_dir=str(place.work), prompt="x")
    assert git(place.work, "rev-parse", "HEAD") == place.main


async def test_what_cannot_be_committed_is_logged_and_breaks_nothing(chats: TestHost, place: Place) -> None:
    await chats.client.call(
        "gitsync.register", path=str(place.work), remote=place.remote, branch="main", auto_commit=True
    )
    (place.work / "a.txt").write_text("changed\n")
    (place.work / ".git" / "index.lock").touch()
    await chats.client.call("chats.end", session="s", working_dir=str(place.work), prompt="x")
    assert "a chat's work is not committed" in chats.log_text
    assert git(place.work, "rev-parse", "HEAD") == place.main


@pytest.mark.parametrize("prompt", ["", "\n\n", None, "\x00\x1b[2J", "x" * 2000, "a\n" * 500])
def test_any_prompt_gives_a_message(prompt: Any) -> None:
    message = message_of({"session": "s", "prompt": prompt, "snapshot_id": None})
    subject, blank, *_ = message.split("\n")
    assert 0 < len(subject) <= 72
    assert blank == ""
    assert message.endswith("\n\nClonk-Session: s")
    assert "\x1b" not in message
