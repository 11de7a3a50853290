"""The server is killed while a session goes back: afterwards it has gone back whole, or not at all."""

import os
import subprocess
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from clonk_claudecode.testing.script import Rule, Text, ToolUse
from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.client.http import HttpClient
from clonk_core.testing.server_process import ServerProcess

StartServer = Callable[..., AbstractAsyncContextManager[ServerProcess]]

FILES = 400


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=Test", "-c", "user.email=test@localhost", *arguments]
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=True).stdout.strip()


def _contents(folder: Path) -> set[str]:
    found = set()
    for path in folder.glob("file-*"):
        with suppress(FileNotFoundError):  # it is being replaced just now
            found.add(path.read_text().strip())
    return found


async def _wait_until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():
            await trio.lowlevel.checkpoint()  # the moments are short


@pytest.mark.deadline(180)
async def test_a_server_killed_at_any_moment_of_a_rewind_leaves_conversation_and_files_in_step(
    start_server: StartServer, model: ScriptedModel, workspace: Path, tmp_path: Path
) -> None:
    _git(workspace, "init", "-q", "-b", "main")
    words = ("first", "second")
    for word in words:
        write = f"for n in $(seq {FILES}); do echo {word} > file-$n; done"
        model.add(Rule(f"^{word}$", [ToolUse("Bash", {"command": write}), Text("written")]))
    settings = {"workspaces": {"roots": [str(workspace)]}}

    def refs() -> str:
        return "".join(sorted(path.name for path in (workspace / ".git/refs/clonk").rglob("*")))

    def transcripts() -> int:
        return len(list((tmp_path / "hub/data/claudecode/claude/projects").glob("*/*.jsonl")))

    def has_come(moment: str, known: tuple[str, int]) -> bool:
        match moment:
            case "recorded":
                return refs() != known[0]
            case "transcript":
                return transcripts() != known[1]
            case _:
                return len(_contents(workspace)) == len(words)

    async with start_server(**settings) as server, HttpClient(server.http_url) as client:
        await client.call(
            "claudecode.create", name="one", working_dir=str(workspace), permission_mode="bypassPermissions"
        )
        for word in words:
            async with client.stream("claudecode.chat", name="one", prompt=word) as events:
                assert [event async for event in events][-1].event["checkpoint"] is not None
        history = await client.call("claudecode.history", name="one")
    points = [history[len(history) // 2 - 1]["snapshot_id"], history[-1]["snapshot_id"]]
    at, moved = 1, 0
    for moment in ("recorded", "transcript", "files"):
        target = points[1 - at]
        known = (refs(), transcripts())
        async with start_server(**settings) as server:
            async with HttpClient(server.http_url) as client, trio.open_nursery() as nursery:
                is_over = trio.Event()
                nursery.start_soon(_rewind, client, target, is_over)
                # The moments are short: on a busy machine one may be over before it was seen.
                await _wait_until(partial(_either, partial(has_come, moment, known), is_over.is_set))
                await server.kill()
                nursery.cancel_scope.cancel()
        async with start_server(**settings) as server, HttpClient(server.http_url) as client:
            session = await client.call("claudecode.get", name="one")
            now = points.index(session["snapshot_id"])
            assert _contents(workspace) == {words[now]}, moment
            assert session["message_count"] == len(await client.call("claudecode.history", name="one"))
            moved += now != at
            at = now
    assert moved >= 1, "no kill came behind the point of no return"
    async with start_server(**settings) as server, HttpClient(server.http_url) as client:
        async with client.stream("claudecode.chat", name="one", prompt="and now") as events:
            assert [event async for event in events][-1].event["outcome"] == "complete"
    told = str(model.turns[-1].messages)
    assert ("second" in told) is (at == 1)


def _either(one: Callable[[], bool], other: Callable[[], bool]) -> bool:
    return one() or other()


async def _rewind(client: HttpClient, snapshot_id: str, is_over: trio.Event) -> None:
    with suppress(Exception):  # the server is killed
        await client.call("claudecode.rewind", name="one", snapshot_id=snapshot_id)
    is_over.set()
