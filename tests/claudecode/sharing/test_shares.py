"""Tokens that are given out for one session."""

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from clonk_claudecode.sharing.shares import MAX_GOOD
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.client.base import RemoteError
from clonk_core.errors import CallError
from clonk_core.testing.host import TestHost, open_host
from clonk_core.testing.serving import connected
from tests.claudecode.sessions.conftest import claudecode_settings
from tests.claudecode.sharing.conftest import ClientOf


@pytest.fixture
async def guarded(tmp_path: Path, model: ScriptedModel, claude: object, workspace: Path) -> AsyncIterator[TestHost]:
    """A host that asks everybody who they are, with the sessions `w` and `other`."""
    settings = {
        "claudecode": claudecode_settings(model),
        "workspaces": {"roots": [str(workspace)]},
        "auth": {"enabled": True},
    }
    async with open_host(tmp_path / "data", packages=["arbor", "claudecode"], settings=settings) as host:
        yield host


async def _sessions(hub: TestHost, owner: Any, workspace: Path) -> None:
    for name in ("w", "other"):
        await owner.call("claudecode.create", name=name, working_dir=str(workspace))


async def _refusal(client: Any, method: str, **params: Any) -> str:
    with pytest.raises((CallError, RemoteError)) as refused:
        await client.call(method, **params)
    error: Any = refused.value
    return str(error.kind)


async def test_a_token_for_reading_sees_one_session_and_does_nothing(
    guarded: TestHost, model: ScriptedModel, workspace: Path, client_of: ClientOf
) -> None:
    owner = client_of(guarded, "ann", "claudecode:*")
    await _sessions(guarded, owner, workspace)
    share = await owner.call("claudecode.share", name="w")
    async with connected(guarded, "http", api_key=share["token"]) as guest:
        assert (await guest.call("auth.whoami"))["caller"] == share["id"]
        assert [session["name"] for session in await guest.call("claudecode.list")] == ["w"]
        assert await guest.call("claudecode.history", name="w") == []
        for method, params in {
            "claudecode.get": {"name": "other"},
            "claudecode.chat": {"name": "w", "prompt": "go"},
            "claudecode.interrupt": {"name": "w"},
            "claudecode.update": {"name": "w", "model": "opus"},
            "claudecode.archive": {"name": "w"},
            "claudecode.delete": {"name": "w"},
            "claudecode.share": {"name": "w"},
            "claudecode.shares": {"name": "w"},
            "claudecode.create": {"name": "mine"},
            "keys.list": {},
        }.items():
            assert await _refusal(guest, method, **params) == "forbidden", method


async def test_a_token_for_chatting_prompts_one_session(
    guarded: TestHost, model: ScriptedModel, workspace: Path, client_of: ClientOf
) -> None:
    model.add("Hello, guest.")
    owner = client_of(guarded, "ann", "claudecode:*")
    await _sessions(guarded, owner, workspace)
    share = await owner.call("claudecode.share", name="w", access="chat")
    async with connected(guarded, "websocket", api_key=share["token"]) as guest:
        events = await guest.events("claudecode.chat", name="w", prompt="go")
        assert events[-1]["outcome"] == "complete"
        assert await _refusal(guest, "claudecode.chat", name="other", prompt="go") == "forbidden"
        assert await _refusal(guest, "claudecode.delete", name="w") == "forbidden"


@pytest.mark.parametrize("how", ["unshare", "rename", "delete"])
async def test_a_token_ends_with_its_share_its_session_and_its_sessions_name(
    guarded: TestHost, workspace: Path, client_of: ClientOf, how: str
) -> None:
    owner = client_of(guarded, "ann", "claudecode:*")
    await _sessions(guarded, owner, workspace)
    share = await owner.call("claudecode.share", name="w", access="chat")
    async with connected(guarded, "http", api_key=share["token"]) as guest:
        await guest.call("claudecode.get", name="w")
        if how == "unshare":
            assert (await owner.call("claudecode.unshare", name="w", id=share["id"]))["revoked_at"]
            assert (await owner.call("claudecode.shares", name="w"))[0]["revoked_at"]
        elif how == "rename":
            await owner.call("claudecode.update", name="w", new_name="w2")
        else:
            await owner.call("claudecode.delete", name="w")
        if how != "unshare":  # whoever takes the name later is not reached by the old token
            await owner.call("claudecode.create", name="w", working_dir=str(workspace))
        assert await _refusal(guest, "claudecode.get", name="w") == "unauthenticated"


async def test_a_token_outlives_a_new_name_that_is_refused(
    guarded: TestHost, workspace: Path, client_of: ClientOf
) -> None:
    owner = client_of(guarded, "ann", "claudecode:*")
    await _sessions(guarded, owner, workspace)
    share = await owner.call("claudecode.share", name="w")
    assert await _refusal(owner, "claudecode.update", name="w", new_name="other") == "conflict"
    async with connected(guarded, "http", api_key=share["token"]) as guest:
        assert (await guest.call("claudecode.get", name="w"))["name"] == "w"


async def test_a_session_has_so_many_tokens_that_are_good_and_no_more(
    guarded: TestHost, workspace: Path, client_of: ClientOf
) -> None:
    owner = client_of(guarded, "ann", "claudecode:*")
    await _sessions(guarded, owner, workspace)
    first = await owner.call("claudecode.share", name="w")
    for _ in range(MAX_GOOD - 1):
        await owner.call("claudecode.share", name="w")
    assert await _refusal(owner, "claudecode.share", name="w") == "conflict"
    assert len(await owner.call("claudecode.shares", name="w")) == MAX_GOOD
    await owner.call("claudecode.share", name="other")
    await owner.call("claudecode.unshare", name="w", id=first["id"])
    await owner.call("claudecode.share", name="w")


async def test_a_watching_guest_is_shown_out_when_the_token_is_taken_back(
    guarded: TestHost, workspace: Path, client_of: ClientOf
) -> None:
    owner = client_of(guarded, "ann", "claudecode:*")
    await _sessions(guarded, owner, workspace)
    share = await owner.call("claudecode.share", name="w")
    async with connected(guarded, "websocket", api_key=share["token"]) as guest:
        with trio.fail_after(20):
            with pytest.raises(Exception):  # noqa: B017 - the connection ends, as the transport has it
                async with guest.stream("claudecode.attach", name="w") as events:
                    await events.next()
                    await owner.call("claudecode.unshare", name="w", id=share["id"])
                    while not (await events.next()).is_done:
                        pass
                    raise RuntimeError("ended")
            while (await owner.call("claudecode.get", name="w"))["watchers"]:
                await trio.sleep(0.05)


async def test_nobody_gives_out_what_they_may_not_do(guarded: TestHost, workspace: Path, client_of: ClientOf) -> None:
    owner = client_of(guarded, "ann", "claudecode:*")
    await _sessions(guarded, owner, workspace)
    sharer = client_of(guarded, "bob", "claudecode:share", "claudecode:read@w")
    assert (await sharer.call("claudecode.share", name="w"))["access"] == "read"
    assert await _refusal(sharer, "claudecode.share", name="w", access="chat") == "forbidden"
    assert await _refusal(sharer, "claudecode.share", name="other") == "forbidden"


async def test_a_token_has_an_end_and_is_not_shown_again(
    guarded: TestHost, workspace: Path, client_of: ClientOf
) -> None:
    owner = client_of(guarded, "ann", "claudecode:*")
    await _sessions(guarded, owner, workspace)
    share = await owner.call("claudecode.share", name="w", expires_in_s=60)
    lifetime = datetime.fromisoformat(share["expires_at"]) - datetime.fromisoformat(share["created_at"])
    assert lifetime.total_seconds() == 60
    (listed,) = await owner.call("claudecode.shares", name="w")
    assert listed == {name: value for name, value in share.items() if name != "token"}
    assert share["token"] not in guarded.log_text
    for wrong in (0, 59, 30 * 86_400 + 1, "soon"):
        assert await _refusal(owner, "claudecode.share", name="w", expires_in_s=wrong) == "invalid_params"
    assert await _refusal(owner, "claudecode.unshare", name="w", id="share_unknown") == "not_found"
    assert await _refusal(owner, "claudecode.unshare", name="other", id=share["id"]) == "not_found"
