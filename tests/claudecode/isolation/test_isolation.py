"""Sessions kept apart: limits of resources, a sandbox, another user; each seen by a tool of the real binary."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clonk_claudecode.testing.script import Reply, ToolUse
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.testing.host import TestHost, open_host
from tests.claudecode.sessions.conftest import OpenHub, claudecode_settings

needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


async def _shell(hub: TestHost, model: ScriptedModel, command: str, **create: Any) -> str:
    """Have a session run a command, and return what it printed."""
    model.add(Reply([ToolUse("Bash", {"command": command})]), "Done.")
    if create:
        await hub.client.call("claudecode.create", name="w", permission_mode="bypassPermissions", **create)
    events = await hub.client.events("claudecode.chat", name="w", prompt="go")
    assert events[-1]["outcome"] == "complete", events[-1]
    (result,) = [event for event in events if event["type"] == "tool_result"]
    return str(result["content"])


async def test_limits_hold_for_the_tools_of_a_session(open_hub: OpenHub, model: ScriptedModel, workspace: Path) -> None:
    limits = {"open_files": 300, "file_bytes": 2**20, "cpu_s": 900, "memory_bytes": 2**31, "processes": 3000}
    async with open_hub(limits=limits) as hub:
        command = "ulimit -n; ulimit -t; ulimit -d; ulimit -u; head -c 2000000 /dev/zero > big; stat -c %s big"
        said = await _shell(hub, model, command, working_dir=str(workspace))
    assert said.split()[:4] == ["300", "900", str(2**21), "3000"]
    assert (workspace / "big").stat().st_size == 2**20


@needs_bwrap
async def test_in_a_sandbox_a_session_reads_no_data_of_the_servers_and_writes_to_its_own_folders_alone(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "hidden"
    secret.mkdir()
    (secret / "file").write_text("precious")
    outside = Path("/var/tmp") / f"clonk-test-{os.getpid()}"
    sandbox = {"enabled": True, "hidden": [str(secret)]}
    async with open_hub(sandbox=sandbox) as hub:
        command = f"""
            echo made > inside.txt; echo x > {outside} || echo unwritable
            ls {tmp_path}/data/*.db {secret}/file /proc/{os.getpid()}/environ || echo unseen
            ls {tmp_path}/data/claudecode/claude/projects | wc -l
        """
        await hub.client.call("claudecode.create", name="other")
        await hub.client.events("claudecode.chat", name="other", prompt="something private")
        said = await _shell(hub, model, command, working_dir=str(workspace))
        assert "unwritable" in said
        assert "unseen" in said
        assert "clonk.db\n" not in said
        assert said.split()[-1] == "1"  # its own conversations, not those of others
        await hub.client.call("claudecode.archive", name="w")  # its process ends
        await hub.client.call("claudecode.archive", name="w", archived=False)
        said = await _shell(hub, model, "cat inside.txt")
        assert said.strip() == "made"
        assert "go" in str(model.requests[-1].body["messages"][0])  # and the conversation was resumed
    assert not outside.exists()
    assert (workspace / "inside.txt").read_text() == "made\n"


async def test_a_sandbox_that_cannot_be_had_starts_no_session(
    open_hub: OpenHub, model: ScriptedModel, workspace: Path
) -> None:
    async with open_hub(sandbox={"enabled": True, "bwrap_path": "/nonexistent/bwrap"}) as hub:
        await hub.client.call("claudecode.create", name="w", working_dir=str(workspace))
        events = await hub.client.events("claudecode.chat", name="w", prompt="go")
        assert events[-1]["outcome"] == "failed"
        assert events[-1]["error"]["data"]["kind"] == "claudecode.isolation_unavailable"
        assert "bubblewrap" in events[-1]["error"]["message"]
    assert model.requests == []


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory(prefix="clonk-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@needs_root
async def test_sessions_run_as_another_user_who_cannot_read_the_servers_data(
    model: ScriptedModel, claude: object, open_folder: Path
) -> None:
    settings = {"claudecode": {**claudecode_settings(model), "run_as": "nobody"}}
    async with open_host(open_folder / "data", packages=["arbor", "claudecode"], settings=settings) as hub:
        command = f"id -un; cat {open_folder}/data/clonk.db > /dev/null || echo unreadable; echo made > file.txt"
        said = await _shell(hub, model, command, system_prompt="Hm.")
        assert said.startswith("nobody"), said
        assert "unreadable" in said, said
        folder = Path((await hub.client.call("claudecode.get", name="w"))["working_dir"])
        assert (folder / "file.txt").owner() == "nobody"


@needs_root
async def test_what_another_users_commands_print_in_the_background_goes_with_the_session(
    model: ScriptedModel, claude: object, open_folder: Path
) -> None:
    settings = {"claudecode": {**claudecode_settings(model), "run_as": "nobody"}}
    async with open_host(open_folder / "data", packages=["arbor", "claudecode"], settings=settings) as hub:
        await hub.client.call("claudecode.create", name="w", permission_mode="bypassPermissions")
        model.add(Reply([ToolUse("Bash", {"command": "echo out; sleep 60", "run_in_background": True})]), "Done.")
        await hub.client.events("claudecode.chat", name="w", prompt="go")
        conversation = (await hub.client.call("claudecode.get", name="w"))["claude_session_id"]
        places = [*Path("/tmp").glob(f"claude-*/*/{conversation}")]
        assert places
        await hub.client.call("claudecode.delete", name="w")
        assert not any(place.exists() or place.parent.exists() for place in places)


@pytest.mark.parametrize(
    "wrong",
    [
        {"limits": {"memory_bytes": 1000}},
        {"limits": {"open_files": 0}},
        {"run_as": "no such; user"},
        {"workspaces": {"max_bytes": 0}},
        {"sandbox": {"enabled": "perhaps"}},
    ],
)
async def test_settings_that_make_no_sense_are_refused(open_hub: OpenHub, wrong: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=next(iter(wrong))):
        async with open_hub(**wrong):
            pass


async def test_a_user_who_does_not_exist_is_told(open_hub: OpenHub, model: ScriptedModel) -> None:
    async with open_hub(run_as="nobody-of-this-name") as hub:
        await hub.client.call("claudecode.create", name="w")
        events = await hub.client.events("claudecode.chat", name="w", prompt="go")
        assert events[-1]["error"]["data"]["kind"] == "claudecode.isolation_unavailable"
    assert model.requests == []
