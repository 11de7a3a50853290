"""A credential that is changed while the server runs is used by the next process of a session, without a restart."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.storage.open_secrets import open_secrets
from clonk_core.storage.secret_key import choose_key_source
from clonk_core.testing.host import TestHost

OpenHub = Callable[..., AbstractAsyncContextManager[TestHost]]
TOKEN = "sk-ant-oat01-scripted-and-worthless-"


async def _set(data_dir: Path, name: str, value: str) -> None:
    """As `clonk secrets set` does, beside the running host."""
    keys = choose_key_source(key_file=None, key_command=(), data_dir=data_dir)
    async with open_secrets(data_dir, keys) as (store, _):
        await store.set("default", name, value)


async def _rotate(data_dir: Path) -> None:
    keys = choose_key_source(key_file=None, key_command=(), data_dir=data_dir)
    async with open_secrets(data_dir, keys) as (store, _):
        await store.rotate()


async def _chat(hub: TestHost, prompt: str) -> Any:
    return (await hub.client.events("claudecode.chat", name="one", prompt=prompt))[-1]


async def _park(hub: TestHost) -> None:
    """Close the session's process, as its idle time would."""
    activation = next(
        activation for _, activation in hub.app.realm._loader.activations if activation.namespace == "claudecode"
    )
    session = await hub.client.call("claudecode.get", name="one")
    await activation._sessions.running_engine().park(session["id"])  # type: ignore[attr-defined]


async def test_a_stored_token_that_is_changed_reaches_the_session_at_its_next_start(
    open_hub: OpenHub, model: ScriptedModel, tmp_path: Path
) -> None:
    model.add("one", "two", "three", "four")
    data_dir = tmp_path / "data"
    async with open_hub(api_key=None) as hub:
        await _set(data_dir, "claude_oauth_token", TOKEN + "1")
        await hub.client.call("claudecode.create", name="one")
        assert (await _chat(hub, "first"))["outcome"] == "complete"
        assert model.turns[-1].headers["authorization"] == f"Bearer {TOKEN}1"
        await _set(data_dir, "claude_oauth_token", TOKEN + "2")
        assert (await _chat(hub, "second, on the same process"))["outcome"] == "complete"
        assert model.turns[-1].token == TOKEN + "1"
        await _park(hub)
        assert (await _chat(hub, "third"))["outcome"] == "complete"
        assert model.turns[-1].headers["authorization"] == f"Bearer {TOKEN}2"
        await _rotate(data_dir)
        await _park(hub)
        assert (await _chat(hub, "fourth, under another key"))["outcome"] == "complete"
        assert model.turns[-1].token == TOKEN + "2"
        assert TOKEN not in hub.log_text


async def test_a_token_file_that_is_changed_reaches_the_session_at_its_next_start(
    open_hub: OpenHub, model: ScriptedModel, tmp_path: Path
) -> None:
    model.add("one", "two")
    file = tmp_path / "token"
    file.write_text(TOKEN + "1\n")
    async with open_hub(api_key=None, oauth_token_file=str(file)) as hub:
        await hub.client.call("claudecode.create", name="one")
        await _chat(hub, "first")
        assert model.turns[-1].token == TOKEN + "1"
        await _park(hub)
        file.unlink()
        done = await _chat(hub, "nobody hears this")
        assert (done["outcome"], done["error"]["data"]["kind"]) == ("failed", "claudecode.secret_unavailable")
        assert str(file) not in str(done)
        assert str(file) in hub.log_text
        file.write_text(TOKEN + "2\n")
        assert (await _chat(hub, "second"))["outcome"] == "complete"
        assert model.turns[-1].token == TOKEN + "2"


async def test_a_secret_of_the_environment_is_filled_in_and_a_missing_one_is_told(
    open_hub: OpenHub, model: ScriptedModel, tmp_path: Path
) -> None:
    model.add("one", "two")
    env = {
        "ANTHROPIC_BASE_URL": model.base_url,
        "IS_SANDBOX": "1",
        "ANTHROPIC_CUSTOM_HEADERS": "x-gateway: key ${secret:gateway}",
    }
    async with open_hub(env=env) as hub:
        await hub.client.call("claudecode.create", name="one")
        done = await _chat(hub, "nobody hears this")
        assert (done["outcome"], done["error"]["data"]["kind"]) == ("failed", "claudecode.secret_unavailable")
        assert "clonk secrets set gateway" in done["error"]["message"]
        await _set(tmp_path / "data", "gateway", "a-secret-of-the-gateway")
        assert (await _chat(hub, "first"))["outcome"] == "complete"
        assert model.turns[-1].headers["x-gateway"] == "key a-secret-of-the-gateway"
        assert "a-secret-of-the-gateway" not in hub.log_text


@pytest.mark.parametrize("where", ["nowhere", "lost"])
async def test_without_a_credential_a_chat_says_what_to_do(
    open_hub: OpenHub, model: ScriptedModel, tmp_path: Path, where: str
) -> None:
    async with open_hub(api_key=None) as hub:
        await hub.client.call("claudecode.create", name="one")
        if where == "lost":
            await _set(tmp_path / "data", "claude_oauth_token", TOKEN)
            (tmp_path / "data" / "secret.key").unlink()
        done = await _chat(hub, "nobody hears this")
        assert done["outcome"] == "failed"
        kind = "claudecode.credential_missing" if where == "nowhere" else "unavailable"
        assert done["error"]["data"]["kind"] == kind
        assert str(tmp_path) not in str(done)
    assert model.turns == []
