"""Sessions resume from the store alone: the binary's files gone, another machine, another folder, a crash."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from clonk_claudecode.engine.binary import Binary
from clonk_claudecode.engine.mirror import MIRROR_FROM
from clonk_claudecode.testing.script import Reply, Rule, ToolUse, Wait
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.client.http import HttpClient
from clonk_core.testing.host import TestHost, open_host
from clonk_core.testing.server_process import ServerProcess
from tests.claudecode.sessions.conftest import claudecode_settings
from tests.e2e.conftest import claude_settings, start_server, wait_no_process

OpenHub = Callable[..., AbstractAsyncContextManager[TestHost]]

__all__ = ["claude_settings", "start_server", "wait_no_process"]


async def chat(hub: TestHost, prompt: str) -> None:
    events = await hub.client.events("claudecode.chat", name="one", prompt=prompt)
    assert events[-1]["outcome"] == "complete", events[-1]


def seen_by(model: ScriptedModel) -> str:
    """The conversation as the model was shown it last."""
    return str(model.turns[-1].body["messages"])


def stored(data_dir: Path, path: str = "") -> list[dict[str, Any]]:
    """The entries in the store, read by the hub's own SQLite: two of them in one process void each other's locks."""
    with closing(apsw.Connection(str(data_dir / "claudecode.db"), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        rows = connection.execute("select entry from transcript_entries where path = ? order by seq", (path,))
        return [json.loads(row[0]) for row in rows]


def transcript(data_dir: Path) -> Path:
    (file,) = data_dir.glob("**/projects/*/*.jsonl")
    return file


def in_file(file: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    return [entry for entry in entries if not entry["type"].startswith("api-request")]


@pytest.fixture
async def data_dir(open_hub: OpenHub, workspace: Path, tmp_path: Path) -> Path:
    """After a session that was told something, with the hub closed."""
    async with open_hub() as hub:
        await hub.client.call("claudecode.create", name="one", working_dir=str(workspace))
        await chat(hub, "remember the number 4711")
    return tmp_path / "data"


async def test_the_entries_of_a_turn_are_in_the_store_before_its_end_is_told(
    hub: TestHost, model: ScriptedModel, tmp_path: Path, workspace: Path
) -> None:
    write = ToolUse("Write", {"file_path": str(workspace / "note.txt"), "content": "hi"})
    model.add(Rule("write", [write, "done"]))
    await hub.client.call(
        "claudecode.create", name="one", working_dir=str(workspace), permission_mode="bypassPermissions"
    )
    events = await hub.client.events("claudecode.chat", name="one", prompt="please write")
    kept = stored(tmp_path / "data")
    history = await hub.client.call("claudecode.history", name="one")
    assert [entry["message"]["content"] for entry in kept if entry["type"] in {"user", "assistant"}] == [
        message["content"] for message in history
    ]
    assert events[-1]["outcome"] == "complete"


async def test_what_the_binary_writes_when_it_ends_is_kept_too(data_dir: Path) -> None:
    assert stored(data_dir) == in_file(transcript(data_dir))


async def test_a_session_resumes_with_the_files_of_the_binary_gone(
    open_hub: OpenHub, data_dir: Path, model: ScriptedModel, remove_transcripts: Callable[[], int]
) -> None:
    assert remove_transcripts() == 1
    async with open_hub() as hub:
        await chat(hub, "which number?")
    assert "4711" in seen_by(model)
    kept = stored(data_dir)
    assert len({entry["uuid"] for entry in kept if "uuid" in entry}) == sum("uuid" in entry for entry in kept)
    assert kept == in_file(transcript(data_dir))


async def test_a_session_goes_on_on_another_machine_in_another_folder(
    data_dir: Path, tmp_path: Path, model: ScriptedModel
) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "elsewhere-workspace"
    elsewhere.mkdir()
    folder.mkdir()
    for database in data_dir.glob("*.db"):
        shutil.copy(database, elsewhere)
    with closing(sqlite3.connect(elsewhere / "claudecode.db")) as connection, connection:
        connection.execute("update sessions set working_dir = ?", (str(folder),))
    settings = {"claudecode": claudecode_settings(model), "workspaces": {"roots": [str(folder)]}}
    async with open_host(elsewhere, packages=["arbor", "claudecode"], settings=settings) as hub:
        await chat(hub, "which number?")
        assert len(await hub.client.call("claudecode.history", name="one")) == 4
    assert "4711" in seen_by(model)
    assert len(list(elsewhere.glob("**/projects/*/*.jsonl"))) == 1


async def test_a_session_of_an_earlier_version_is_taken_into_the_store(
    open_hub: OpenHub, data_dir: Path, model: ScriptedModel, remove_transcripts: Callable[[], int]
) -> None:
    kept = stored(data_dir)
    with closing(sqlite3.connect(data_dir / "claudecode.db")) as connection, connection:
        connection.execute("delete from transcript_entries")
    async with open_hub() as hub:
        await chat(hub, "which number?")
    assert stored(data_dir)[: len(kept)] == kept
    remove_transcripts()
    async with open_hub() as hub:
        await chat(hub, "again?")
    assert "4711" in seen_by(model)


async def test_half_a_line_that_a_crash_left_harms_nothing(
    open_hub: OpenHub, data_dir: Path, model: ScriptedModel
) -> None:
    with transcript(data_dir).open("a") as file:
        file.write('{"type":"assistant","uuid":"')
    async with open_hub() as hub:
        await chat(hub, "which number?")
    assert "4711" in seen_by(model)
    assert stored(data_dir) == in_file(transcript(data_dir))


async def test_what_a_subagent_said_is_kept_and_written_back(
    open_hub: OpenHub,
    model: ScriptedModel,
    tmp_path: Path,
    workspace: Path,
    remove_transcripts: Callable[[], int],
    claude: Binary,
) -> None:
    task = ToolUse("Task", {"description": "look", "prompt": "look around", "subagent_type": "general-purpose"})
    model.add(Rule("delegate", [task, "delegated"]), Rule("look around", ["I looked"]))
    data = tmp_path / "data"
    async with open_hub() as hub:
        await hub.client.call(
            "claudecode.create", name="one", working_dir=str(workspace), permission_mode="bypassPermissions"
        )
        await chat(hub, "delegate it")
        await chat(hub, "and now?")
    (file,) = data.glob("**/subagents/*.jsonl")
    path = f"subagents/{file.stem}"
    metadata = json.loads(file.with_suffix("").with_suffix(".meta.json").read_text())
    kept = stored(data, path)
    assert any("I looked" in str(entry) for entry in kept)
    assert [entry for entry in kept if entry["type"] != "agent_metadata"] == in_file(file)
    assert remove_transcripts() == 2
    file.with_suffix("").with_suffix(".meta.json").unlink()
    async with open_hub() as hub:
        await chat(hub, "still there?")
        assert in_file(file) == [entry for entry in kept if entry["type"] != "agent_metadata"]
        assert json.loads(file.with_suffix("").with_suffix(".meta.json").read_text()) == metadata


async def test_a_binary_that_does_not_tell_what_it_writes_is_read_from_its_files(
    open_hub: OpenHub,
    model: ScriptedModel,
    tmp_path: Path,
    workspace: Path,
    claude: Binary,
    remove_transcripts: Callable[[], int],
) -> None:
    older = tmp_path / "older"
    # The same binary under an older version's name, which therefore is not asked to mirror.
    older.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo 2.1.90 && exit\nexec {claude.path} "$@"\n')
    older.chmod(0o755)
    assert MIRROR_FROM > (2, 1, 90)
    async with open_hub(binary_path=str(older)) as hub:
        await hub.client.call("claudecode.create", name="one", working_dir=str(workspace))
        await chat(hub, "remember the number 4711")
        assert "You said" in str(stored(tmp_path / "data"))
    remove_transcripts()
    async with open_hub(binary_path=str(older)) as hub:
        await chat(hub, "which number?")
    assert "4711" in seen_by(model)


@pytest.mark.parametrize("versions", [("2.1.90", "2.1.400"), ("2.1.400", "2.1.90")], ids=["upgraded", "downgraded"])
async def test_a_session_goes_on_when_the_binary_was_exchanged_in_between(
    open_hub: OpenHub,
    model: ScriptedModel,
    tmp_path: Path,
    workspace: Path,
    claude: Binary,
    remove_transcripts: Callable[[], int],
    versions: tuple[str, str],
) -> None:
    def install(version: str) -> Path:
        # The same binary under another version's name: of which the server thinks that it mirrors, or does not.
        fresh = tmp_path / f"claude-{version}"
        fresh.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo {version} && exit\nexec {claude.path} "$@"\n')
        fresh.chmod(0o755)
        return fresh.replace(tmp_path / "claude")

    first, second = versions
    async with open_hub(binary_path=str(install(first))) as hub:
        await hub.client.call("claudecode.create", name="one", working_dir=str(workspace))
        await chat(hub, "remember the number 4711")
        install(second)
        await chat(hub, "and the number 4712")  # by the process that lives on
        await hub.client.call("claudecode.archive", name="one")
        await hub.client.call("claudecode.archive", name="one", archived=False)
        await chat(hub, "and the number 4713")
        assert all(number in seen_by(model) for number in ("4711", "4712"))
    remove_transcripts()
    async with open_hub(binary_path=str(tmp_path / "claude")) as hub:
        await chat(hub, "which numbers?")
        assert all(number in seen_by(model) for number in ("4711", "4712", "4713"))
        history = await hub.client.call("claudecode.history", name="one")
        assert [one["role"] for one in history] == ["user", "assistant"] * 4
        (spent,) = await hub.client.call("claudecode.usage", session="one")
        assert spent["turns"] == 4
    written = [entry["uuid"] for entry in stored(tmp_path / "data") if entry["type"] in ("user", "assistant")]
    assert [one.get("snapshot_id") is not None for one in history] == [True] * 8
    assert len(written) == len(set(written)) == 8


async def test_a_deleted_session_leaves_no_entry(hub: TestHost, tmp_path: Path, workspace: Path) -> None:
    await hub.client.call("claudecode.create", name="one", working_dir=str(workspace))
    await chat(hub, "hello")
    assert stored(tmp_path / "data")
    await hub.client.call("claudecode.delete", name="one")
    assert stored(tmp_path / "data") == []


@pytest.mark.deadline(120)
async def test_after_a_kill_in_mid_turn_a_session_resumes_from_the_store_alone(
    start_server: Callable[..., AbstractAsyncContextManager[ServerProcess]],
    model: ScriptedModel,
    tmp_path: Path,
    wait_no_process: Any,
) -> None:
    command = ToolUse("Bash", {"command": "echo seven-of-nine", "description": "say"})
    model.add(Rule("run it", [command, Reply(["before ", Wait("gate"), "after"])]))
    async with start_server() as server:
        async with HttpClient(server.http_url) as client:
            await client.call("claudecode.create", name="one", permission_mode="bypassPermissions")
            async with client.stream("claudecode.chat", name="one", prompt="remember 4711") as events:
                async for _ in events:
                    pass
            async with client.stream("claudecode.chat", name="one", prompt="run it") as events:
                await events.next()
                await model.wait_reached("gate")
                await server.kill()
    await wait_no_process(tmp_path)
    # At the next start what only the file has comes into the store; after that the file is not needed.
    for prompt in ("second", "third"):
        async with start_server() as server, HttpClient(server.http_url) as client:
            async with client.stream("claudecode.chat", name="one", prompt=prompt) as events:
                assert [one async for one in events][-1].event["outcome"] == "complete"
        assert "4711" in seen_by(model)
        assert "seven-of-nine" in seen_by(model)
        for file in tmp_path.glob("hub/**/projects/*/*.jsonl"):
            file.unlink()
