"""The binary is upgraded while sessions are in use: each goes on with the new one at its process's next start."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import attrs
import pytest

from clonk_claudecode.engine.binary import Binary
from clonk_claudecode.engine.launch import UNKEPT_FROM
from clonk_claudecode.engine.mirror import MIRROR_FROM
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.errors import CallError
from clonk_core.testing.host import TestHost

OpenHub = Callable[..., AbstractAsyncContextManager[TestHost]]
OLD, NEW = "2.1.104", "2.1.999"


@attrs.frozen
class Installed:
    """A `claude` that is the real one under any version's name.

    Attributes:
        path: Where it is.
        real: The real one.
        starts: Where it notes each start, with its version and arguments.
    """

    path: Path
    real: Path
    starts: Path

    def install(self, version: str) -> None:
        """Put a version in the place of the one before, as an installer does."""
        new = self.path.with_suffix(".new")
        new.write_text(
            f'#!/bin/sh\nif [ "$1" = --version ]; then echo "{version} (Claude Code)"; exit; fi\n'
            f'echo "{version} $*" >> "{self.starts}"\nexec "{self.real}" "$@"\n'
        )
        new.chmod(0o755)
        new.replace(self.path)

    def last_start(self) -> tuple[str, list[str]]:
        """The version that was started last, and its arguments."""
        version, *arguments = self.starts.read_text().splitlines()[-1].split()
        return version, arguments


@pytest.fixture
def installed(tmp_path: Path, claude: Binary) -> Installed:
    found = Installed(tmp_path / "claude-of-the-test", claude.path, tmp_path / "starts")
    found.install(OLD)
    return found


async def _chat(hub: TestHost, prompt: str, name: str = "one", **options: Any) -> Any:
    done = (await hub.client.events("claudecode.chat", name=name, prompt=prompt, **options))[-1]
    assert done["outcome"] == "complete", done
    return done


async def test_a_session_goes_on_with_the_new_binary_and_what_that_can_do(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path, installed: Installed
) -> None:
    assert MIRROR_FROM > (2, 1, 104)
    assert UNKEPT_FROM < (2, 1, 999)
    async with open_hub(binary_path=str(installed.path), session={"max_concurrent": 2}) as hub:
        for name in ("one", "other", "third"):
            await hub.client.call("claudecode.create", name=name, working_dir=str(workspace))
        await _chat(hub, "remember 4711")
        version, arguments = installed.last_start()
        assert (version, "--session-mirror" in arguments) == (OLD, False)
        installed.install(NEW)
        # The warm process stays what it is.
        await _chat(hub, "and again")
        assert installed.last_start()[0] == OLD
        for name in ("other", "third"):  # take its place
            await _chat(hub, "hello", name=name)
            version, arguments = installed.last_start()
            assert (version, "--session-mirror" in arguments) == (NEW, True)
        assert (await hub.client.call("claudecode.get", name="one"))["state"] == "parked"
        await _chat(hub, "what was the number")
        version, arguments = installed.last_start()
        assert (version, "--session-mirror" in arguments, "--resume" in arguments) == (NEW, True, True)
        assert "remember 4711" in str(model.turns[-1].messages)
        await _chat(hub, "by the way", ephemeral=True)
        assert "--no-session-persistence" in installed.last_start()[1]
        history = await hub.client.call("claudecode.history", name="one")
        assert [one["content"] for one in history if one["role"] == "user"] == [
            "remember 4711",
            "and again",
            "what was the number",
        ]
        events = await hub.client.events("claudecode.export", name="one", format="jsonl")
        transcript = "".join(event["text"] for event in events[:-1])
        assert all(prompt in transcript for prompt in ("remember 4711", "and again", "what was the number"))
        (spent,) = await hub.client.call("claudecode.usage", session="one")
        assert spent["turns"] == 3


async def test_a_binary_that_became_too_old_is_refused_and_the_session_waits_for_a_newer_one(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path, installed: Installed
) -> None:
    async with open_hub(binary_path=str(installed.path)) as hub:
        await hub.client.call("claudecode.create", name="one", working_dir=str(workspace))
        await _chat(hub, "remember 4711")
    installed.install("1.0.128")
    async with open_hub(binary_path=str(installed.path)) as hub:
        with pytest.raises(CallError) as refused:
            await hub.client.events("claudecode.chat", name="one", prompt="lost")
        assert refused.value.kind == "claudecode.binary_too_old"
        assert len(await hub.client.call("claudecode.history", name="one")) == 2
        installed.install(NEW)
        await _chat(hub, "what was the number")
        assert "remember 4711" in str(model.turns[-1].messages)
        assert "lost" not in str(model.turns[-1].messages)
